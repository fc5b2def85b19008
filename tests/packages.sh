#!/usr/bin/env bash
# packages.sh: installs the Debian packages that the checks and tests need and this machine lacks. Needs root; cargo and
# rustc come from rustup. This is the only list: `.ci/run` and `make test` both use it.
set -euo pipefail

packages=(
  ca-certificates gcc g++ libc6-dev make                          # the tests have some C, libFuzzer is C++
  podman uidmap crun                                              # the store and the way into a namespace
  skopeo umoci buildah docker-registry                            # readers of what `image copy` writes; a registry on loopback
  fuse-overlayfs                                                  # what mounts layers where the kernel does not
  libarchive-tools python3 bsdutils                               # other writers of tars; script(1)
  xfsprogs btrfs-progs e2fsprogs mount util-linux                 # file systems, filefrag, prlimit, setpriv, unshare
  busybox-static tar zstd attr libcap2-bin strace procps passwd   # images, fixtures, a tracer
  shellcheck
)

[ "$(id -u)" = 0 ] || { echo "packages.sh: must run as root" >&2 && exit 1; }
command -v apt-get >/dev/null || { echo "packages.sh: this is no Debian: install what corresponds to ${packages[*]}" >&2 && exit 1; }
export DEBIAN_FRONTEND=noninteractive
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing+=("$package")
done
# The lab downloads packages to make an image of them, so it wants the lists in any case.
if [ ${#missing[@]} != 0 ] || ! compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null; then
  apt-get -qq update </dev/null
fi
if [ ${#missing[@]} != 0 ]; then
  echo "packages.sh: installing ${missing[*]}" >&2
  apt-get -qq -y --no-install-recommends install "${missing[@]}" </dev/null >/dev/null
fi
