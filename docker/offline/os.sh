#!/usr/bin/env bash
# Build a Debian 12 image without an image registry: debootstrap, then import. Usage: os.sh TAG
set -euo pipefail
here=$(dirname "$(realpath "$0")")
tag=$1
docker image inspect "$tag" >/dev/null 2>&1 && exit 0

archive=$("$here/mirror.sh")
security=$("$here/mirror.sh" Debian-Security)
[ -n "$archive" ] || {
  echo "os.sh: apt has no package lists; run apt-get update" >&2
  exit 1
}
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
chmod 755 "$root"
debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "$archive" >"$root.log" 2>&1 || {
  tail -n 20 "$root.log" >&2
  exit 1
}
rm "$root.log"
{
  echo "deb $archive bookworm main"
  echo "deb $archive bookworm-updates main"
  [ -z "$security" ] || echo "deb $security bookworm-security main"
} >"$root/etc/apt/sources.list"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
tar -C "$root" --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' -c . |
  docker import --change 'CMD ["bash"]' --change 'ENV LANG=C.UTF-8' - "$tag"
