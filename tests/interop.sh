#!/usr/bin/env bash
# interop.sh (make interop): what does not fit into `.ci/run`: stores of other podmans, reading beside podman for ten
# minutes, signals at many moments, fuzzing for ten minutes a target, and mutants. Needs root, debootstrap and, for the
# mutants, cargo-mutants. Hours. Its last line says what failed and what was left out.
#
# CSTOR_INTEROP="stores fuzz": only these steps, of: stores beside signals fuzz deny mutants.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
[ "$(id -u)" = 0 ] || { echo "interop.sh: must run as root" >&2 && exit 1; }
export CSTOR_REQUIRE_ALL=1
seconds=600

lacks() { # PROGRAM FROM
  command -v "$1" >/dev/null && return 1
  left_out+=("$step: no $1 ($2)")
}

stores() {
  lacks debootstrap "a package of Debian" && return
  local made
  made=$(mktemp -d /var/tmp/cstor-interop-XXXXXX)
  tests/stores.sh make "$made" && tests/lab.sh run tests/stores.sh check "$made"
  local code=$?
  rm -rf "$made"
  return $code
}
beside() { CSTOR_BESIDE=$seconds tests/lab.sh run cargo test --locked --workspace --test podman -- beside_podman::; }
signals() { CSTOR_SIGNALS=200 tests/lab.sh run cargo test --locked --workspace --test command -- signals::; }
fuzz() { tests/fuzz/run.sh "$seconds"; }
deny() {
  lacks cargo-deny "cargo install cargo-deny --locked" && return
  # With the advisories, whose database comes from GitHub.
  cargo deny --locked check
}
mutants() {
  lacks cargo-mutants "cargo install cargo-mutants --locked" && return
  cargo mutants -p cstor-proto -p cstor-helper
  local code=$?
  # 2: mutants survived, and docs/reliability.md says which may; the tests of the lab look at those.
  [ $code = 0 ] || [ $code = 2 ] || return $code
  tests/lab.sh run tests/mutants.py -f 'cstor-helper/**' -- protocol confinement claims helper_death
}

failed=() left_out=()
tests/packages.sh && cargo build --locked --workspace --bins && cargo test --locked --workspace --no-run || exit 1
for step in ${CSTOR_INTEROP:-stores beside signals fuzz deny mutants}; do
  echo "interop.sh: $step, $(date +%T)"
  "$step" || failed+=("$step")
done
printf -v failures '%s; ' "${failed[@]}"
printf -v missing '%s; ' "${left_out[@]}"
if [ ${#failed[@]} = 0 ]; then verdict="passed"; else verdict="FAILED: ${failures%; }"; fi
if [ ${#left_out[@]} = 0 ]; then echo "make interop: $verdict; nothing was left out"; else echo "make interop: $verdict; LEFT OUT: ${missing%; }"; fi
[ ${#failed[@]} = 0 ]
