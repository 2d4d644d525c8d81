#!/usr/bin/env bash
# The application of this source on bases that are here. Usage: build.sh pull|glue|emr|archive ...
# `glue` and `emr` make bucketwheel:glue and bucketwheel:emr and print their ids, `archive` makes build/bucketwheel-venv.tar.gz,
# `pull` gets the bases and the services from where anybody can. BUILD_OPTIONS, such as --no-cache, goes to `docker build`.
set -euo pipefail
cd "$(dirname "$0")/.."
. docker/host.sh

for wanted in "$@"; do
  case $wanted in
    pull) for name in "$BASE_IMAGE" "$EMR_BASE_IMAGE" "$LOCALSTACK_IMAGE" "$MOTO_IMAGE"; do docker pull "$name"; done ;;
    glue) build app bucketwheel:glue --build-arg "BASE_IMAGE=$BASE_IMAGE" -f docker/Dockerfile . ;;
    emr) build app bucketwheel:emr --build-arg "BASE_IMAGE=$EMR_BASE_IMAGE" -f docker/Dockerfile . ;;
    archive)
      # By its id: another checkout may give its own image the same name meanwhile.
      image=$(build archive bucketwheel:archive --build-arg "BASE_IMAGE=$EMR_BASE_IMAGE" -f docker/Dockerfile .)
      # An image without a program: it is never started, but Docker wants to be told one.
      container=$(docker create "$image" none)
      mkdir -p build
      # Docker says on stderr that it copied, too.
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
