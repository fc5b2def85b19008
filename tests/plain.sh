#!/bin/sh
# plain.sh PROGRAM ARGUMENT...: runs a test executable as a user without any right. `make test` has cargo start the unit
# tests through it once more where root runs them: root may enter closed directories and write what is read-only, so
# that a test of what a plain user needs would prove nothing.
set -eu
uid=64321 # no account, no subordinate ids
program=$1
shift
case ${program##*/} in cstor_tests-*) exit 0 ;; esac # what the tests share, which is not the product
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
chown "$uid:$uid" "$TMPDIR"
# The user may not be able to search the directories that hold the program: it comes as standard input.
setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all /proc/self/fd/0 "$@" <"$program"
