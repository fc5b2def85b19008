#!/usr/bin/env bash
# images.sh BIN DEBIAN: fills the default store of whoever runs it (a plain user with subordinate ids) with the images
# that the tests extract. Everything starts FROM scratch; no registry is asked.
#   BIN     where cstor-lab-tar is         DEBIAN  where lab.sh left base.tar and more.tar
#
#   walk:base v1 v2 latest   one place for each kind of change between layers; OCI, v2 in docker's format
#   tool       busybox alone: every file readable by the user     empty   no layer with a file
#   odd:base latest          names, types, modes, attributes; a second layer changes them
#   deep       60 layers     many  2,000 files     crowd  100,000 files in one layer
#   private    files of other ids, 0600 below 0700
#   debian     packages in two layers, pruned and re-owned in a third, private data in a fourth
set -euo pipefail

bin=$1 debian=$2
busybox=$(command -v busybox)
export BUILDAH_ISOLATION=chroot # no cgroup, no network, no OCI runtime needed
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cd "$context"

files() { "$bin/cstor-lab-tar" "$@"; }
import() { podman import --quiet - "localhost/$1" >/dev/null; }
# build NAME [FLAG...] <Containerfile
build() {
  local name=$1
  shift
  podman build --quiet --layers "$@" --tag "localhost/$name" --file /dev/stdin . >/dev/null
}

files walk "$busybox" >walk.tar
build walk:base --format oci <<'C'
FROM scratch
ADD walk.tar /
RUN mkdir -p /var/daemon/private && touch /var/daemon/private/key && echo mine >/var/daemon/key && chown -R 77:88 /var/daemon && chmod 700 /var/daemon /var/daemon/private && chmod 600 /var/daemon/key
RUN cp /bin/busybox /bin/su && chmod 4755 /bin/su && ln /bin/su /bin/also-su && ln /opt/size/1500001 /srv/big && mkfifo -m 640 /srv/fifo && mkdir -m 1777 /tmp && mkdir -m 2755 /srv/group && chown 12:34 /srv/group
C
build walk:v1 --format oci <<'C'
FROM localhost/walk:base
RUN cd /opt/turn && rm file-dir && mkdir file-dir && touch file-dir/in && rm -r dir-file && echo f >dir-file && rm -r dir-link && ln -s /etc dir-link
RUN rm -r /opt/hidden && mkdir /opt/hidden && touch /opt/hidden/new && rm /opt/size/0000513
RUN touch /opt/size/0000513 && chmod 700 /opt/size/0004096 && chown 9:9 /opt/size/0000512 && rm /opt/linked/a
C
build walk:v2 --format docker <<'C'
FROM localhost/walk:v1
RUN echo 2 >/etc/version && ln /etc/version /opt/version && rm -r /opt/doc/1* && mv /opt/name /opt/renamed && echo more >>/opt/linked/b
LABEL org.example.walk=2
USER 77
C
podman tag localhost/walk:v2 localhost/walk:latest registry.example/team/walk:2
podman create --quiet --name walker localhost/walk:v2 /bin/sh >/dev/null

mkdir tool
cp "$busybox" tool/busybox
ln -s busybox tool/sh
build tool <<<$'FROM scratch\nCOPY tool /bin\n'
build empty <<<$'FROM scratch\nLABEL empty=1\n'

files odd "$busybox" | import odd:base
build odd <<'C'
FROM localhost/odd:base
RUN cd /o/m && rm 0777 && chmod 0711 closed && mkdir 0777 && echo x >closed/more && rm -r no-write && mkdir -m 555 no-write && ln 4755 /o/third-set-id
C

{
  echo 'FROM localhost/tool'
  for ((i = 1; i < 60; i++)); do
    step="mkdir -p /w/$((i % 5)) && echo $i >/w/$((i % 5))/$i && echo $i >/w/last && rm -f /w/$(((i - 7) % 5))/$((i - 7))"
    if ((i % 9 == 0)); then step+=" && rm -rf /w/tree && mkdir /w/tree && echo $i >/w/tree/$i"; fi
    if ((i % 11 == 0)); then step+=" && ln -f /w/last /w/last-$i && chmod 6$((i % 8))0 /w/last"; fi
    echo "RUN [\"/bin/busybox\", \"sh\", \"-c\", \"$step\"]"
  done
} >Containerfile.deep
# shellcheck disable=SC2016 # for the shell of the image
sed -i 's,"mkdir,"for t in mkdir rm ln chmod; do busybox which $t >/dev/null || busybox ln -s busybox /bin/$t; done; mkdir,' Containerfile.deep
build deep <Containerfile.deep

files many 2000 | import many
files many 100000 | import crowd
files private 300 | import private

ln "$debian/base.tar" "$debian/more.tar" . 2>/dev/null || cp "$debian/base.tar" "$debian/more.tar" .
files private 400 >private.tar
build debian <<'C'
FROM scratch
ADD base.tar /
ADD more.tar /
RUN ["/lab/busybox", "sh", "-c", "PATH=/lab; busybox --install -s /lab; cd /usr/share && rm -rf locale man/man8 doc/[a-l]* && mkdir locale && touch locale/none && chown -R 33:33 doc && find /usr/share -type f -name '*[05].gz' -exec chmod 600 {} + && mkdir /srv/links && for f in /usr/bin/[a-d]*; do [ -L $f ] || ln $f /srv/links/; done"]
ADD private.tar /
C
