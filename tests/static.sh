#!/usr/bin/env bash
# static.sh: builds cstor and cstor-helper without shared libraries, for the glibc target, and proves them in a root
# directory that holds the two programs, a store and /proc, and nothing else: no C library, no user database. Needs root
# (chroot).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ "$(id -u)" = 0 ] || { echo "static.sh: must run as root" >&2 && exit 1; }
triple=$(rustc -vV | sed -n 's/^host: //p')
built=${CARGO_TARGET_DIR:-target}/$triple/debug

# With --target the flags do not reach procedural macros and build scripts, which are shared libraries. Nothing here is
# measured, so nothing is optimised.
RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --target "$triple" -p cstor-client -p cstor-helper --bins \
  --config 'profile.dev.opt-level=0' --config 'profile.dev.package."*".opt-level=0' --config 'profile.dev.debug=0'

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
for program in cstor cstor-helper; do
  if readelf -l "$built/$program" | grep -q INTERP; then echo "static.sh: $program needs a loader" >&2 && exit 1; fi
  install -D -m 755 "$built/$program" "$root/bin/$program"
done
mkdir "$root/store" "$root/home" "$root/proc"
tar --xattrs -xzf tests/fixtures/demo-store.tar.gz -C "$root/store"

cstor() { # UID ARGUMENT...: with nothing in the environment but HOME, in a mount namespace of its own
  # shellcheck disable=SC2016 # for the shell inside
  unshare --mount --propagation private sh -euc 'root=$1 uid=$2; shift 2
    mount -t proc proc "$root/proc"
    exec env -i HOME=/home "$(command -v chroot)" --userspec="$uid:$uid" --groups= "$root" /bin/cstor "$@"' sh "$root" "$@"
}
expect() { # WHAT SAID
  grep -Eq -- "$1" <<<"$2" || { echo "static.sh: nothing like $1 in: $2" >&2 && exit 1; }
}
for uid in 0 64321; do # root, and a user whom no database knows
  chown -R "$uid:$uid" "$root/store" "$root/home"
  expect '^localhost/demo +latest ' "$(cstor $uid --root /store image list)"
  expect '^localhost/demo .* -> /home/out: .*; skipped: nothing; all contents checked$' "$(cstor $uid --root /store extract localhost/demo /home/out 2>&1)"
  expect 'grey|green' "$(cat "$root/home/out/etc/app.conf")"
  expect . "$(cstor $uid --root /store verify localhost/demo 2>&1)"
  rm -rf "$root/home/out"
done
# The store of a user without an entry is below $HOME.
mkdir -p "$root/home/.local/share/containers"
mv "$root/store" "$root/home/.local/share/containers/storage"
expect '/home/\.local/share/containers/storage' "$(cstor 64321 info)"
expect '^localhost/demo +latest ' "$(cstor 64321 image list)"
echo "static.sh: cstor and cstor-helper run without a C library"
