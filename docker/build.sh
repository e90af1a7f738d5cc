#!/usr/bin/env bash
# Build an image where there is no container engine, and try it out: as root, on Debian or Ubuntu, with
#
#     apt-get install buildah debootstrap
#     docker/build.sh [cpu|gpu|scale|train]          # the image is then localhost/person-search:TARGET
#
# The base is what debian:bookworm-slim is made of, put together from Debian's packages, so no image
# registry is asked either. Each step runs in a chroot, on this machine's network. A certificate
# bundle in SSL_CERT_FILE is used in the steps, and does not get into the image.
# Free space: 2 GB, for gpu 10, for train 30. What was built is then run, as its user, on a read-only
# root: docker/smoke.py and docker/smoke_train.py.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-cpu}
base=localhost/person-search-base:bookworm
image=localhost/person-search:$target

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! buildah inspect --type image "$base" > /dev/null 2>&1; then
  echo "== the base"
  debootstrap --variant=minbase bookworm "$work/root" > "$work/log" || { cat "$work/log" >&2; exit 1; }
  # What is not in debian:bookworm-slim either.
  rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/* "$work"/root/var/log/* \
    "$work"/root/usr/share/{doc,man,info,locale}/*
  new=$(buildah from scratch)
  buildah add --quiet "$new" "$work/root" / > /dev/null
  buildah config --cmd bash "$new"
  buildah commit --quiet --rm "$new" "$base"
fi

echo "== the image"
options=(--isolation chroot --format docker --layers --build-arg "BASE=$base" --tag "$image")
if [ -n "${SSL_CERT_FILE:-}" ]; then
  printf '[global]\ncert = /run/certificates.crt\n' > "$work/pip.conf"
  options+=(--volume "$SSL_CERT_FILE:/run/certificates.crt:ro" --volume "$work/pip.conf:/etc/pip.conf:ro")
fi
if [ "$target" = train ]; then
  options+=(--file docker/train.Dockerfile --ignorefile docker/train.Dockerfile.dockerignore)
else
  options+=(--target "$target")
fi
buildah bud "${options[@]}" .

echo "== the image, running"
new=$(buildah from "$image")
trap 'buildah rm "$new" > /dev/null; rm -rf "$work"' EXIT
environment=()
if [ "$target" = gpu ] && ! nvidia-smi > /dev/null 2>&1; then
  echo "       no GPU here: its model runs on the CPU"
  environment=(PERSON_SEARCH_DEVICE=cpu)
fi
smoke=docker/smoke.py
[ "$target" = train ] && smoke=docker/smoke_train.py
buildah inspect --type image "$image" |
  python3 "$smoke" "$(buildah mount "$new")" "${environment[@]}"
