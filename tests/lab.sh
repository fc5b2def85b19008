#!/usr/bin/env bash
# lab.sh up | down | env | run COMMAND...
#
# The lab is what the tests need and cargo cannot give: a throw-away user with subordinate ids, file systems with and
# without reflinks, and stores that podman made. All of it lies below $CSTOR_LAB (/var/tmp/cstor-lab) and is gone after
# `down`.  up: does nothing where a whole lab stands, else removes the remains and builds one.  env: prints what the
# tests read.  run: up, COMMAND, down whatever happens; without root or podman COMMAND alone, and the tests say why they
# skip (under CSTOR_REQUIRE_ALL=1 that is an error). A lab that `up` made stands until `down`, whatever runs meanwhile.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab=${CSTOR_LAB:-/var/tmp/cstor-lab}
built=${CARGO_TARGET_DIR:-$here/../target}/debug
# shellcheck disable=SC2034 # named through $list
packages_base="base-files base-passwd bash coreutils dash debianutils diffutils dpkg findutils grep gzip hostname libc6
 libc-bin login passwd mount mawk perl-base sed tar util-linux tzdata"
# shellcheck disable=SC2034
packages_more="ncurses-base ncurses-bin e2fsprogs manpages"

note() { printf 'lab: %s\n' "$*" >&2; }
die() {
  note "$*"
  exit 1
}

# What the lab holds beside files is written down before it is made, so that `down` can undo a half-made one.
remember() { printf '%s\n' "$2" >>"$lab/state/$1"; }
recall() { tac "$lab/state/$1" 2>/dev/null || true; }

as_user() {
  local name=$1
  shift
  setpriv --reuid "$name" --regid "$name" --clear-groups env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
    LC_ALL=C.UTF-8 HOME="$lab/ext4/home" USER="$name" XDG_RUNTIME_DIR="$lab/runtime" TMPDIR="$lab/ext4/tmp" "$@"
}

end_processes_of() { # USER: its podman leaves a pause process that keeps the mounts busy
  local pids
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    pids=$(pgrep -u "$1") || return 0
    # shellcheck disable=SC2086
    kill -KILL $pids 2>/dev/null || true
    sleep 0.1
  done
}

down() {
  [ -d "$lab/state" ] || { rm -rf "$lab" && return 0; }
  rm -f "$lab/env"
  local name mounted mode
  while read -r mode name; do chmod "$mode" "$name"; done < <(recall modes)
  while read -r name; do
    if id "$name" >/dev/null 2>&1; then end_processes_of "$name"; fi
  done < <(recall users)
  while read -r mounted; do
    if mountpoint -q "$mounted"; then umount "$mounted" || { sleep 1 && umount "$mounted"; }; fi
  done < <(recall mounts)
  while read -r name; do
    if id "$name" >/dev/null 2>&1; then userdel "$name"; fi
  done < <(recall users)
  rm -rf --one-file-system "$lab"
}

add_user() { # the home is ours, the mail box is not wanted
  local name=$1 start
  remember users "$name"
  useradd --no-create-home --home-dir "$lab/ext4/home" --shell /bin/sh "$name"
  # useradd gives subordinate ids where login.defs says so
  if ! grep -q "^$name:" /etc/subuid; then
    start=$(cat /etc/subuid /etc/subgid 2>/dev/null | awk -F: 'BEGIN { n = 100000 } $2 + $3 > n { n = $2 + $3 } END { print n }')
    usermod --add-subuids "$start-$((start + 65535))" --add-subgids "$start-$((start + 65535))" "$name"
  fi
}

file_system() { # NAME SIZE MKFS...
  local name=$1 size=$2
  shift 2
  truncate -s "$size" "$lab/$name.img"
  "$@" "$lab/$name.img" >/dev/null 2>"$lab/mkfs.log" || die "$*: $(tail -n 2 "$lab/mkfs.log")"
  mkdir -p "$lab/$name"
  remember mounts "$lab/$name"
  mount -o loop "$lab/$name.img" "$lab/$name"
  mkdir "$lab/$name/out" "$lab/$name/stores"
  chmod 1777 "$lab/$name/out" "$lab/$name/stores"
}

# Debian packages as two tars: downloaded, or taken from what is installed here.
debian_tars() {
  local work=$lab/ext4/debian set list files
  for set in base more; do
    list=packages_$set
    mkdir -p "$work/$set/debs" "$work/$set/root"
    # shellcheck disable=SC2086
    if (cd "$work/$set/debs" && apt-get -qq -o APT::Sandbox::User=root download ${!list}) >/dev/null 2>&1; then
      for files in "$work/$set/debs"/*.deb; do dpkg-deb --fsys-tarfile "$files" | tar -x -C "$work/$set/root"; done
    else
      note "packages of the $set set: not to be downloaded, taken from this machine"
      # shellcheck disable=SC2086
      for files in ${!list}; do dpkg -L "$files" 2>/dev/null || true; done | sort -u | while read -r files; do
        if [ -e "$files" ] && [ "$files" != /. ]; then printf '%s\0' "${files#/}"; fi
      done | tar -C / --null --no-recursion -T - -cf - | tar -x -C "$work/$set/root"
    fi
  done
  mkdir -p "$work/base/root/lab" "$work/base/root/srv"
  cp "$(command -v busybox)" "$work/base/root/lab/busybox"
  for set in base more; do tar -C "$work/$set/root" --xattrs --numeric-owner --sort=name -cf "$lab/tmp/$set.tar" .; done
  rm -rf "$work"
}

unpack() { # PREFIX... runs tar: as root, or inside the user's namespace
  local tar_flags=(--warning=no-timestamp --zstd --xattrs '--xattrs-include=*' --numeric-owner)
  "${@:3}" tar "${tar_flags[@]}" -C "$2" -xf "$here/fixtures/$1-podman-5.4.2.tar.zst"
}

stands() {
  [ -e "$lab/env" ] && recall mounts | while read -r mounted; do mountpoint -q "$mounted" || exit 1; done
}

up() {
  [ "$(id -u)" = 0 ] || die "must run as root"
  if stands; then
    note "stands already in $lab"
    return 0
  fi
  local tool name
  for tool in podman newuidmap mkfs.xfs mkfs.btrfs mkfs.ext4 busybox zstd fuse-overlayfs setpriv strace unshare filefrag prlimit setfattr; do
    command -v "$tool" >/dev/null || die "$tool is missing (tests/packages.sh installs it)"
  done
  [ -x "$built/cstor-lab-tar" ] || die "build first: cargo build --workspace --bins"
  down
  mkdir -p "$lab/state" "$lab/bin" "$lab/tmp"
  chmod 1777 "$lab/tmp"
  name=cstor-lab-$$
  add_user "$name"
  note "user $name, file systems"
  # All mounts come before the user's first podman: its pause process keeps the mount namespace of that moment.
  file_system xfs 8G mkfs.xfs -q -m reflink=1
  file_system btrfs 4G mkfs.btrfs -q
  file_system ext4 6G mkfs.ext4 -q
  file_system small 320M mkfs.xfs -q
  file_system frozen 320M mkfs.xfs -q
  chown "$name": "$lab/frozen/out"
  mount -o remount,ro "$lab/frozen"

  # udev gives everybody the right to mount with FUSE; fuse-overlayfs is what users of old kernels have
  if [ -e /dev/fuse ]; then
    remember modes "$(stat -c '%a %n' /dev/fuse)"
    chmod 666 /dev/fuse
  fi
  install -d -m 700 -o "$name" -g "$name" "$lab/runtime" "$lab/ext4/home" "$lab/ext4/home/.config" \
    "$lab/ext4/home/.config/containers" "$lab/ext4/tmp"
  printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' \
    "$lab/xfs/stores/local" "$lab/runtime/containers" >"$lab/ext4/home/.config/containers/storage.conf"
  install -m 755 "$built/cstor-lab-tar" "$built/cstor-lab-tree" "$lab/bin"

  note "stores from the fixtures"
  local fs fixture store
  for store in btrfs/tour btrfs/chunked ext4/tour ext4/chunked xfs/chunked; do
    fs=${store%/*} fixture=${store#*/}
    as_user "$name" mkdir "$lab/$fs/stores/$fixture"
    unpack "$fixture" "$lab/$fs/stores/$fixture" as_user "$name" podman unshare
    mkdir "$lab/$fs/stores/root-$fixture"
    unpack "$fixture" "$lab/$fs/stores/root-$fixture"
  done
  # tar wrote the zeros; a store has holes where a pull met them
  find "$lab/ext4/stores" -path '*/opt/sizes/sparse' -exec fallocate --dig-holes {} \;

  note "Debian packages"
  debian_tars
  note "images by $(podman --version)"
  as_user "$name" bash "$here/images.sh" "$lab/bin" "$lab/tmp" >"$lab/images.log" 2>&1 ||
    die "images.sh: $(tail -n 5 "$lab/images.log")"
  rm -f "$lab/tmp"/*.tar
  mkdir "$lab/xfs/stores/root-local"
  as_user "$name" podman unshare tar --xattrs '--xattrs-include=*' --numeric-owner -C "$lab/xfs/stores/local" -cf - . |
    tar --warning=no-timestamp --xattrs '--xattrs-include=*' --numeric-owner -C "$lab/xfs/stores/root-local" -xf -
  cat >"$lab/env.new" <<E
CSTOR_LAB=$lab
CSTOR_LAB_USER=$name
CSTOR_LAB_UID=$(id -u "$name")
CSTOR_LAB_GID=$(id -g "$name")
CSTOR_LAB_HOME=$lab/ext4/home
CSTOR_LAB_RUNTIME=$lab/runtime
CSTOR_LAB_XFS=$lab/xfs
CSTOR_LAB_BTRFS=$lab/btrfs
CSTOR_LAB_EXT4=$lab/ext4
CSTOR_LAB_SMALL=$lab/small
CSTOR_LAB_READONLY=$lab/frozen/out
E
  mv "$lab/env.new" "$lab/env"
  note "up in $lab after $SECONDS s"
}

run() {
  local why=
  if [ "$(id -u)" != 0 ]; then
    why="not root"
  elif ! command -v podman >/dev/null; then
    why="podman is not installed"
  else
    stands || trap 'down </dev/null' EXIT
    # A process of its own: beside || this shell would go on after an error.
    bash "${BASH_SOURCE[0]}" up || why="the lab could not be built, see above"
  fi
  if [ -n "$why" ]; then
    [ "${CSTOR_REQUIRE_ALL:-}" != 1 ] || die "$why"
    export CSTOR_LAB_WHY_NOT=$why
  else
    set -a
    # shellcheck source=/dev/null
    . "$lab/env"
    set +a
  fi
  "$@"
}

case ${1:-} in
up | down) "$1" ;;
env) cat "$lab/env" ;;
run) shift && run "$@" ;;
*) die "usage: lab.sh up | down | env | run COMMAND..." ;;
esac
