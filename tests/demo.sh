#!/usr/bin/env bash
# demo.sh (make demo): `cstor extract` by a plain user on an image that podman has just built, or, where podman cannot
# be had, on the small store in tests/fixtures. Run by root it adds a throw-away user for it. Everything happens in one
# temporary directory and is removed again, also after an error; an installed podman stays.
set -euo pipefail
umask 022

say() { # the command as one would type it, then its output
  printf '\n$ %s\n' "${*//$work\//}"
  "$@"
}

build_image() { # in the working directory; a second layer changes the first, one file belongs to another user
  mkdir -p first/etc first/usr/bin first/var/lib/app second/etc
  printf '#!/bin/sh\necho hello\n' >first/usr/bin/hello
  chmod 755 first/usr/bin/hello
  ln first/usr/bin/hello first/usr/bin/hi
  ln -s ../usr/bin/hello first/etc/link
  echo 'colour = grey' >first/etc/app.conf
  seq 20000 >first/var/lib/app/numbers
  echo 'colour = green' >second/etc/app.conf
  echo 'only for www-data' >key
  podman build --quiet --layers --tag localhost/demo --file /dev/stdin . <<'C'
FROM scratch
COPY first /
COPY second /
COPY --chown=33:33 --chmod=600 key /var/lib/app/key
C
}

# As the user, below $work, in an environment made by `main`.
demonstrate() {
  local store why
  mkdir -p "$HOME/.config/containers" "$work/image"
  chmod 700 "$XDG_RUNTIME_DIR"
  printf '[storage]\ndriver = "overlay"\n' >"$HOME/.config/containers/storage.conf"
  cd "$work"
  if ! command -v podman >/dev/null; then
    why="podman is not installed"
  elif ! podman unshare true >>log 2>&1; then
    why="podman cannot make a user namespace here"
  elif ! (cd image && build_image) >>log 2>&1; then
    why="podman cannot build here"
  else
    why=
  fi
  if [ -z "$why" ]; then
    printf 'An image of three layers, built by %s for the user %s.\n' "$(podman --version)" "$(id -un)"
    store=$HOME/.local/share/containers/storage
  else
    tail -n 3 log 2>/dev/null >&2 || true
    printf '%s: a store that came with the sources serves instead.\n' "$why"
    mkdir store
    tar --xattrs -xzf "$work/bin/demo-store.tar.gz" -C store
    store=$work/store
  fi
  PATH=$work/bin:$PATH
  say cstor --root "$store" image list
  say cstor --root "$store" extract localhost/demo "$work/rootfs"
  say ls -lR "$work/rootfs" | sed "s,$work/,,"
  say cat "$work/rootfs/etc/app.conf"
}

# What podman left: files of subordinate ids, which their owner can remove inside the namespace only, and its pause
# process.
clean_up_as_user() {
  local pause=$XDG_RUNTIME_DIR/libpod/tmp/pause.pid
  podman unshare rm -rf "$HOME/.local" >/dev/null 2>&1 || true
  if [ -s "$pause" ]; then kill -KILL "$(cat "$pause")" 2>/dev/null || true; fi
}

clean_up() {
  trap '' INT TERM
  cd /
  if [ -n "$user" ]; then
    local pids
    while pids=$(pgrep -u "$user"); do
      # shellcheck disable=SC2086
      kill -KILL $pids 2>/dev/null || true
      sleep 0.1
    done
    userdel "$user" 2>/dev/null || true
  else
    in_clean_environment bash "$work/bin/demo.sh" clean-up-as-user "$work" || true
  fi
  # Without write permission in a directory not even its owner can empty it.
  chmod -R u+rwX "$work" 2>/dev/null || true
  rm -rf "$work"
}

in_clean_environment() {
  local as=()
  [ -z "$user" ] || as=(setpriv --reuid "$user" --regid "$user" --clear-groups)
  "${as[@]}" env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME="$work/home" USER="${user:-$(id -un)}" \
    XDG_RUNTIME_DIR="$work/run" TMPDIR="$work" LC_ALL=C.UTF-8 BUILDAH_ISOLATION=chroot "$@"
}

main() {
  local here built
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  built=${CARGO_TARGET_DIR:-$here/../target}/debug
  if [ "$(id -u)" = 0 ] && ! { command -v podman && command -v newuidmap; } >/dev/null && command -v apt-get >/dev/null; then
    echo "installing podman and uidmap"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq update && apt-get -qq -y --no-install-recommends install podman uidmap crun; } </dev/null >/dev/null ||
      echo "they cannot be installed" >&2
  fi
  user=
  work=$(mktemp -d "${TMPDIR:-/var/tmp}/cstor-demo.XXXXXX")
  trap clean_up EXIT
  trap 'exit 130' INT TERM
  mkdir "$work/bin" "$work/home" "$work/run"
  cp "$built/cstor" "$built/cstor-helper" "${BASH_SOURCE[0]}" "$here/fixtures/demo-store.tar.gz" "$work/bin"
  if [ "$(id -u)" = 0 ]; then
    user=cstor-demo-$$
    useradd --no-create-home --home-dir "$work/home" --shell /bin/sh "$user"
    chown -R "$user:" "$work"
  fi
  in_clean_environment bash "$work/bin/demo.sh" demonstrate "$work"
}

case ${1:-} in
'') main ;;
demonstrate) work=$2 && demonstrate ;;
clean-up-as-user) work=$2 && clean_up_as_user ;;
*) echo "usage: demo.sh" >&2 && exit 2 ;;
esac
