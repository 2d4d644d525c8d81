#!/usr/bin/env bash
# Build the stand-in images and write docker/.env, which names them for all other scripts.
set -euo pipefail
cd "$(dirname "$0")/../.."
. docker/host.sh

os=localhost/debian-standin:12
docker/offline/os.sh "$os" >/dev/null
make_standin() {
  local start=$SECONDS
  build "$1" "$2" --build-arg "OS_IMAGE=$os" -f docker/offline/Dockerfile docker >/dev/null
  echo "$2: $((SECONDS - start)) s"
}
make_standin localstack localhost/localstack-standin:4.13.1
make_standin moto localhost/moto-standin:5.2.5
make_standin glue localhost/glue-standin:5
make_standin emr localhost/emr-standin:7.8.0
# The stand-ins are for this machine, so the images on top of them are, too.
cat >docker/.env <<END
BASE_IMAGE=localhost/glue-standin:5
EMR_BASE_IMAGE=localhost/emr-standin:7.8.0
LOCALSTACK_IMAGE=localhost/localstack-standin:4.13.1
MOTO_IMAGE=localhost/moto-standin:5.2.5
BUILD_PLATFORM=$(docker version --format '{{.Server.Os}}/{{.Server.Arch}}')
END
