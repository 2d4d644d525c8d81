#!/usr/bin/env bash
# Build this source on local base images. Usage: build.sh pull|glue|emr|archive ...
# `glue` and `emr` build bucketwheel:glue and bucketwheel:emr and print their ids. `archive` writes build/bucketwheel-venv.tar.gz.
# `pull` downloads the public base and service images. BUILD_OPTIONS (such as --no-cache) is passed to `docker build`.
# BUILD_PLATFORM (linux/amd64, or linux/arm64 for EMR Serverless on ARM64) is the platform of `emr` and `archive`, whatever this machine is;
# `glue` is for this machine, because Glue itself does not run images.
set -euo pipefail
cd "$(dirname "$0")/.."
. docker/host.sh

for wanted in "$@"; do
  case $wanted in
    pull)
      for name in "$BASE_IMAGE" "$LOCALSTACK_IMAGE" "$MOTO_IMAGE"; do docker pull "$name"; done
      docker pull --platform "$BUILD_PLATFORM" "$EMR_BASE_IMAGE"
      ;;
    glue) build app bucketwheel:glue --build-arg "BASE_IMAGE=$BASE_IMAGE" -f docker/Dockerfile . ;;
    emr) build app bucketwheel:emr --platform "$BUILD_PLATFORM" --build-arg "BASE_IMAGE=$EMR_BASE_IMAGE" -f docker/Dockerfile . ;;
    archive)
      # Use the id: another checkout may build an image with the same name at the same time.
      image=$(build archive bucketwheel:archive --platform "$BUILD_PLATFORM" --build-arg "BASE_IMAGE=$EMR_BASE_IMAGE" -f docker/Dockerfile .)
      # The container never starts, but Docker requires a command.
      container=$(docker create --platform "$BUILD_PLATFORM" "$image" none)
      mkdir -p build
      # Docker reports success on stderr, too.
      copied=0
      said=$(docker cp "$container:/bucketwheel-venv.tar.gz" build/ 2>&1) || copied=$?
      docker rm "$container" >/dev/null
      [ "$copied" -eq 0 ] || { echo "build.sh: docker cp: $said" >&2; exit 1; }
      ls -l build/bucketwheel-venv.tar.gz
      ;;
    *)
      echo "build.sh: $wanted is not one of pull, glue, emr, archive" >&2
      exit 2
      ;;
  esac
done
