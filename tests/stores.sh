#!/usr/bin/env bash
# stores.sh make DIR | check DIR
#
# Stores of other podmans than this machine's: each Debian suite below is unpacked into $CSTOR_SUITES
# (/var/tmp/cstor-suites, kept for the next time), and in it shelf.sh fills a rootless and a rootful store.
#   make    DIR/shelf-podman-VERSION-{rootless,rootful}.tar.zst: `store`, the graph root, and `truth`, what podman says of it.
#           Fails where cstor, run there, reads anything else
#   check   the tests of the fixtures of that kind, with these instead; as root in a lab that is up
# The fixtures were made so. Needs root and debootstrap; the mirror is the one that apt uses.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${CSTOR_SUITES:-/var/tmp/cstor-suites}
built=${CARGO_TARGET_DIR:-$here/../target}/debug
suites=${CSTOR_SUITES_WANTED:-bookworm trixie sid}
packages=podman,uidmap,busybox-static,netavark,crun,attr,zstd

die() {
  printf 'stores: %s\n' "$*" >&2
  exit 1
}

# A suite in the mount namespace of its own root: the kernel gives no user namespace to a process in a chroot.
enter() { # SUITE COMMAND...
  # shellcheck disable=SC2016
  unshare --mount --pid --fork --kill-child --propagation private bash -euc '
    cd "$1" && shift
    mount --bind . . && cd "$PWD"
    mount -t proc proc proc && mount --rbind /sys sys && mount --rbind /dev dev && mount -t tmpfs tmpfs run
    pivot_root . . && umount -l . && cd /
    exec env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C.UTF-8 \
      PODMAN_IGNORE_CGROUPSV1_WARNING=1 "$@"' bash "$cache/$1" "${@:2}"
}

unpack() { # SUITE
  [ ! -e "$cache/$1/unpacked" ] || return 0
  local mirror
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
  [ -n "$mirror" ] || die "apt knows no mirror of Debian"
  rm -rf --one-file-system "${cache:?}/$1"
  debootstrap --variant=minbase --include="$packages" "$1" "$cache/$1" "$mirror" >"$cache/$1.log" 2>&1 ||
    die "debootstrap $1: $(tail -n 2 "$cache/$1.log")"
  enter "$1" useradd --home-dir /srv/lab/at keeper
  enter "$1" grep -q ^keeper: /etc/subuid || enter "$1" usermod --add-subuids 200000-265535 --add-subgids 200000-265535 keeper
  touch "$cache/$1/unpacked"
}

fill() { # SUITE root|keeper FILE
  local top=$cache/$1/srv/lab as key
  rm -rf --one-file-system "$top"
  mkdir -p "$top"
  cp "$here/shelf.sh" "$built"/cstor{,-helper,-lab-tree} "$top"
  key=graphroot
  [ "$2" = root ] || key=rootless_storage_path # graphroot of a file that is named means nothing to a plain user
  printf '[storage]\ndriver = "overlay"\n%s = "/srv/lab/at/store"\nrunroot = "/run/lab/%s"\n' "$key" "$2" >"$top/storage.conf"
  # shellcheck disable=SC2016 # for the shell inside
  as='install -d -m 700 -o "$2" -g "$2" /srv/lab/at /run/lab "/run/lab/$2"; export HOME=/srv/lab/at XDG_RUNTIME_DIR=/run/lab/$2
      export CONTAINERS_STORAGE_CONF=/srv/lab/storage.conf
      as() { if [ "$1" = root ]; then "${@:2}"; else setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; fi; }
      inside() { if [ "$1" = root ]; then "${@:2}"; else as "$1" podman unshare "${@:2}"; fi; }'
  # shellcheck disable=SC2016
  enter "$1" bash -euo pipefail -c "$as"'
    as "$2" bash /srv/lab/shelf.sh /srv/lab/cstor-lab-tree /srv/lab/at/truth /srv/lab/cstor
    inside "$2" tar --xattrs "--xattrs-include=*" --numeric-owner --sort=name --warning=no-file-ignored \
      -C /srv/lab/at -cf - store truth | zstd -q -19 --long=24 -o /srv/lab/shelf.tar.zst' bash "$1" "$2" ||
    die "$1, $2: shelf.sh failed"
  mv "$top/shelf.tar.zst" "$3"
  rm -rf --one-file-system "$top"
}

make() {
  [ "$(id -u)" = 0 ] || die "must run as root"
  command -v debootstrap >/dev/null || die "debootstrap is missing"
  [ -x "$built/cstor-lab-tree" ] || die "build first: cargo build --workspace --bins"
  local suite version
  mkdir -p "$cache" "$1"
  for suite in $suites; do
    unpack "$suite"
    version=$(enter "$suite" podman --version)
    fill "$suite" keeper "$1/shelf-podman-${version##* }-rootless.tar.zst"
    fill "$suite" root "$1/shelf-podman-${version##* }-rootful.tar.zst"
  done
}

case ${1:-}/${2:-} in
make/?*) make "$(realpath -m "$2")" ;;
check/?*) CSTOR_STORES=$(realpath "$2") cargo test --manifest-path "$here/../Cargo.toml" -p cstor-tests --test podman shelves:: ;;
*) die "usage: stores.sh make DIR | check DIR" ;;
esac
