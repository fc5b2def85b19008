#!/usr/bin/env bash
# run.sh: builds the programs of this crate and runs them on the store of the fixtures. Needs no podman.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
built=${CARGO_TARGET_DIR:-$PWD/../../target}
# The same directory as for everything else, so that what is the same is built once.
CARGO_TARGET_DIR=$built cargo build --locked
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
store=$work/store
mkdir "$store"
tar --xattrs -xzf ../fixtures/demo-store.tar.gz -C "$store"

says() { # WHAT PROGRAM ARGUMENT...
  local said
  said=$("$built/debug/$2" "${@:3}") || { echo "outside: $2 failed" >&2 && exit 1; }
  grep -Eq "$1" <<<"$said" || { echo "outside: $2 says nothing like $1: $said" >&2 && exit 1; }
}
layer=$(sed -E 's/.*"id": ?"([0-9a-f]{64})".*/\1/' "$store/overlay-layers/layers.json" | head -n 1)
says '^[0-9a-f]{64}: \["localhost/demo:latest"\]$' metadata "$store" "$layer"
says '^Layer size: Some\([0-9]+\)$' metadata "$store" "$layer"
says '^[0-9a-f]{64}$' proxied "$store"
# The store that it discovers. The program is its own helper where one is needed; here none is.
mkdir "$work/cwd"
cd "$work/cwd"
export HOME=$work CONTAINERS_STORAGE_CONF=$work/storage.conf
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s/run"\nrootless_storage_path = "%s"\n' "$store" "$work" "$store" >"$CONTAINERS_STORAGE_CONF"
sed -i 's,localhost/demo,localhost/app,' "$store/overlay-images/images.json"
says '^[0-9]+ files, [0-9]+ bytes reflinked$' readme
[ -d rootfs ] || { echo "outside: readme made no rootfs" >&2 && exit 1; }
