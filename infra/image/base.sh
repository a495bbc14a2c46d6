#!/bin/sh
# Makes a base image with Debian's Python from Debian packages alone, for places that no registry reaches.
# Needs root, debootstrap and a Docker engine:  infra/image/base.sh [TAG] [SUITE] [MIRROR]
set -eu
tag=${1:-alphaloop-base:bookworm}
suite=${2:-bookworm}
mirror=${3:-}  # empty: debootstrap's own
root=$(mktemp -d)
chmod 755 "$root"  # it becomes the image's /, where any user must get in
trap 'rm -rf "$root"' EXIT INT TERM
debootstrap --variant=minbase --include=python3,python3-venv,libgomp1,ca-certificates "$suite" "$root" $mirror
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
tar -C "$root" --numeric-owner -c . | docker import --change 'CMD ["python3"]' - "$tag"
