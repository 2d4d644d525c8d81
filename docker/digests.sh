#!/usr/bin/env bash
# Pin the public images by digest (name:tag@sha256:...) in docker/images.env and docker/Dockerfile. Needs their registries and buildx.
# Writes nothing if one digest is missing. `digests.sh --check` only compares, and fails if a tag now has another digest or none is pinned.
set -euo pipefail
cd "$(dirname "$0")/.."

resolved=$(mktemp)
trap 'rm -f "$resolved"' EXIT
base=''
while IFS='=' read -r name value; do
  if [[ $name == *_IMAGE ]]; then
    tag=${value%@*}
    digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$tag")
    [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || {
      echo "digests.sh: $tag: docker printed '$digest' instead of a digest; update buildx" >&2
      exit 1
    }
    value=$tag@$digest
    [ "$name" != BASE_IMAGE ] || base=$value
  fi
  echo "$name=$value" >>"$resolved"
done <docker/images.env

if [ "${1:-}" = --check ]; then
  diff docker/images.env "$resolved" >&2 || {
    echo "digests.sh: docker/images.env differs from the registries; look at the changes of the images, then run: make digests" >&2
    exit 1
  }
  exit 0
fi
cp "$resolved" docker/images.env
sed -i.old "s|^ARG BASE_IMAGE=.*|ARG BASE_IMAGE=$base|" docker/Dockerfile
rm docker/Dockerfile.old
