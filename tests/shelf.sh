#!/usr/bin/env bash
# shelf.sh LISTER TRUTH [CSTOR]: fills the default store of whoever runs it (root, or a plain user with subordinate ids) with
# small images and containers, and writes into TRUTH what podman itself says of them. stores.sh runs it wherever there
# is another podman. Everything starts FROM scratch; no program gets into a layer, so that the store stays small.
# Last, CSTOR reads all of it where it is, beside that podman.
#   LISTER     cstor-lab-tree
#   TRUTH      version; store.json (of `podman info`), images.json, shown (ids without -a), ps.json, inspect.json; for
#              each image that is no list history/ID.json, save/ID (digests of its layers' tars, base first), tree/ID.jsonl (its mount);
#              for each container container/NAME.jsonl (its mount)
#
#   shelf:base v1 v2   one place for each kind of change between layers; v2 in docker's format, under four names
#   imported loaded    not built here: a tar, and an OCI archive with compressed layers
#   turned             built twice, so that the first is left without a name
#   empty              no layer with a file
#   list               a manifest list of v1, since podman 5
#   full idle          containers of v2 and loaded; in the first, files were changed
set -euo pipefail

lister=$1 truth=$2
tools=$(dirname "$(command -v busybox)")
export BUILDAH_ISOLATION=chroot # no cgroup, no network, no OCI runtime needed
context=$(mktemp -d)
cd "$context"

inside() { # where container ids are ids
  if [ "$(id -u)" = 0 ]; then "$@"; else podman unshare "$@"; fi
}

limit() { ulimit "$1" | sed s/unlimited/-1/; }
# build NAME [FLAG...] <Containerfile: busybox is there while it runs, as /tools/busybox. The limits stay as they are:
# in a container or VM, root may be unable to raise them to what buildah sets otherwise.
build() {
  local name=$1
  shift
  podman build --quiet --layers --volume "$tools:/tools:ro" --ulimit "nofile=$(limit -n)" --ulimit "nproc=$(limit -u)" "$@" --tag "localhost/$name" --file /dev/stdin . >/dev/null
}

tree() {
  mkdir -p bin etc opt/{name,size,turn,linked,hidden/below,time} srv/closed
  echo 'root:x:0:0:root:/:/bin/sh' >etc/passwd
  install -m 0 /dev/null etc/shadow
  local n name
  for n in 0 1 511 512 513 4096 65537; do head -c "$n" /dev/zero | tr '\0' "$((n % 10))" >"opt/size/$n"; done
  truncate -s 3M opt/size/sparse && echo end >>opt/size/sparse
  for name in "$(printf '%0100d' 0)" "$(printf '%0255d' 0)" $'new\nline' ' spaces  and'$'\t''tabs' $'latin1-\xe9\xff' 'utf8-é中文' $'quote"\'\\' \
    $'escape-\e[31m'; do echo "$name" >"opt/name/$name"; done
  ln -s /etc/passwd opt/absolute && ln -s ../../../../etc/passwd opt/outside && ln -s nowhere opt/dangling
  echo link >opt/linked/a && ln opt/linked/a opt/linked/b && ln opt/linked/a srv/c
  echo old >opt/hidden/old && echo deep >opt/hidden/below/deep
  echo f >opt/turn/file-dir && mkdir -p opt/turn/{dir-file,dir-link}/x
  echo epoch >opt/time/epoch && touch -d @0 opt/time/epoch
  echo exact >opt/time/exact && touch -d @1700000000.123456789 opt/time/exact
  echo future >opt/time/future && touch -d @4102444800 opt/time/future
  echo '#!/bin/sh' >bin/su && chmod 4755 bin/su && ln bin/su bin/also-su
  setfattr -n user.note -v hello etc/passwd
  mkfifo -m 640 srv/fifo && mkdir -m 1777 tmp && mkdir -m 2755 srv/group && chown 12:34 srv/group
  echo key >srv/closed/key && chmod 600 srv/closed/key && chmod 700 srv/closed && chown -R 77:88 srv/closed
}
export -f tree
mkdir tree
inside bash -euc 'cd tree && tree && tar --xattrs --numeric-owner --sort=name -cf ../tree.tar . && cd .. && rm -rf tree'

build shelf:base --format oci <<'C'
FROM scratch
ADD tree.tar /
RUN ["/tools/busybox", "sh", "-c", "echo b >/etc/version && chown 65533:5 /etc/version"]
C
build shelf:v1 --format oci <<'C'
FROM localhost/shelf:base
RUN ["/tools/busybox", "sh", "-c", "cd /opt/turn && rm file-dir && mkdir file-dir && touch file-dir/in && rm -r dir-file && echo f >dir-file && rm -r dir-link && ln -s /etc dir-link"]
RUN ["/tools/busybox", "sh", "-c", "rm -r /opt/hidden && mkdir /opt/hidden && touch /opt/hidden/new && rm /opt/size/513 /opt/linked/a && chmod 700 /opt/size/4096 && chown 9:9 /opt/size/512"]
C
build shelf:v2 --format docker <<'C'
FROM localhost/shelf:v1
RUN ["/tools/busybox", "sh", "-c", "touch /opt/size/513 && ln /etc/version /opt/version && mv /opt/name /opt/renamed && echo more >>/opt/linked/b"]
ENV A=b PATH=/bin
LABEL org.example.shelf=2
EXPOSE 8080/tcp
VOLUME /srv/volume
WORKDIR /opt
STOPSIGNAL SIGINT
USER 77
ENTRYPOINT ["/bin/su"]
CMD ["-c", "true"]
C
podman tag localhost/shelf:v2 localhost/shelf:latest localhost/alias:1 registry.example/team/shelf:2

inside cat tree.tar | podman import --quiet --change CMD=/bin/su --message imported - localhost/imported >/dev/null
mkdir -p lone/d && echo lone >lone/d/file
build lone --format oci <<<$'FROM scratch\nCOPY lone /\nLABEL lone=1\n'
podman save --quiet --format oci-archive -o lone.tar localhost/lone
podman rmi localhost/lone >/dev/null
podman load --quiet -i lone.tar >/dev/null
podman tag localhost/lone localhost/loaded
podman untag localhost/lone localhost/lone
for turn in 1 2; do
  echo "$turn" >turn
  build turned <<<$'FROM scratch\nCOPY turn /\n'
done
build empty <<<$'FROM scratch\nLABEL empty=1\n'
podman manifest create localhost/list >/dev/null
podman manifest add localhost/list containers-storage:localhost/shelf:v1 >/dev/null
# podman 4.3 cannot list any image beside it
podman images -a >/dev/null 2>&1 || podman manifest rm localhost/list >/dev/null

podman create --quiet --network none --name full localhost/shelf:v2 >/dev/null
podman create --quiet --network none --name idle --label of=shelf localhost/loaded /d/file >/dev/null
change() {
  cd "$(podman mount full)"
  echo changed >etc/version && rm opt/size/1 && rm -r opt/turn && mkdir opt/turn && echo new >opt/turn/new
  mkdir -m 700 srv/mine && echo key >srv/mine/key && chown -R 44:55 srv/mine && chmod 4711 bin/su
  cd / && podman unmount full >/dev/null
}
export -f change
inside bash -euc change

# ---- what podman says --------------------------------------------------------------------------------------------
mkdir -p "$truth"/{history,save,tree,container}
podman --version >"$truth/version"
podman images -a --format json >"$truth/images.json"
podman images -q --no-trunc | sed s/^sha256:// | sort -u >"$truth/shown"
podman ps -a --format json >"$truth/ps.json"
podman info --format '{{json .Store}}' >"$truth/store.json"
# For a list podman answers for the image of this machine in it, or not at all.
mapfile -t images < <(podman images -a -q --no-trunc | sed s/^sha256:// | sort -u |
  while read -r image; do podman manifest exists "$image" 2>/dev/null || echo "$image"; done)
podman image inspect "${images[@]}" >"$truth/inspect.json"
list() { # COMMAND... what mounts, LISTER, FILE
  local mounted
  mounted=$("${@:1:$#-2}") && "${@:$#-1:1}" "$mounted" >"${@:$#}"
}
export -f list
for image in "${images[@]}"; do
  podman history --no-trunc --format json "$image" >"$truth/history/$image.json"
  # podman cannot mount an image without a layer ("layer not known").
  if [ "$(podman image inspect --format '{{len .RootFS.Layers}}' "$image")" != 0 ]; then
    inside bash -euc 'list "$@"' bash podman image mount "$image" "$lister" "$truth/tree/$image.jsonl"
    inside podman image unmount "$image" >/dev/null
  fi
  rm -rf saved && mkdir saved
  podman save --quiet --format docker-archive "$image" | tar -x -C saved
  # shellcheck disable=SC2013 # names of digits, without spaces
  for layer in $(grep -o '"Layers":\[[^]]*' saved/manifest.json | grep -o '[0-9a-f]*\.tar'); do
    sha256sum <"saved/$layer" | sed 's/^/sha256:/; s/ .*//'
  done >"$truth/save/$image"
done
for container in full idle; do
  inside bash -euc 'list "$@"' bash podman mount "$container" "$lister" "$truth/container/$container.jsonl"
  inside podman unmount "$container" >/dev/null
done

# ---- what cstor reads ----------------------------------------------------------------------------------------------
if [ -n "${3:-}" ]; then
  said=$("$3" info)
  # Not the run root: in a file that is named, it counts by the newer rules alone.
  for key in GraphRoot:root GraphDriverName:driver; do
    want=$(podman info --format "{{.Store.${key%%:*}}}")
    grep -Eq "^${key#*:} +$want " <<<"$said" || { echo "${key#*:}: podman $want: $said" && exit 1; }
  done
  sight=plain
  [ "$(id -u)" != 0 ] || sight=all
  for tree in "$truth"/tree/*.jsonl; do
    image=$(basename "$tree" .jsonl)
    "$3" extract "$image" out 2>>extract.log || { cat extract.log && exit 1; }
    inside "$lister" "$context/out" "$tree" "$sight" # the user may not read all of its own files
    inside rm -rf "$context/out"
    for layer in $("$3" image layers -q --no-trunc "$image"); do
      printf 'sha256:%s\n' "$("$3" layer export "$layer" | sha256sum | cut -d ' ' -f 1)"
    done | diff - "$truth/save/$image"
  done
  grep -q 'through the helper' extract.log || [ "$sight" = all ] || { echo "no helper was started" && exit 1; }
fi
cd / && inside rm -rf "$context"
