#!/usr/bin/env bash
# The stand-in images, and docker/.env, from which make, Compose and the integration tests then take their names.
set -euo pipefail
cd "$(dirname "$0")/.."
os=localhost/debian-standin:12 glue=localhost/glue-standin:5 emr=localhost/emr-standin:7.8.0
localstack=localhost/localstack-standin:4.13.1 moto=localhost/moto-standin:5.2.5

arguments=(--build-arg "OS_IMAGE=$os" -f offline/Dockerfile)
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL; do
  [ -z "${!name:-}" ] || arguments+=(--build-arg "$name")
done
log=$(mktemp)
trap 'rm -f "$log"' EXIT
build() {
  local start=$SECONDS
  docker build "${arguments[@]}" --target "$1" -t "$2" . >"$log" 2>&1 || {
    tail -n 40 "$log" >&2
    exit 1
  }
  echo "$2: $((SECONDS - start)) s"
}
offline/os.sh "$os"
build localstack "$localstack"
build moto "$moto"
build glue "$glue"
build emr "$emr"
cat >.env <<END
BASE_IMAGE=$glue
EMR_BASE_IMAGE=$emr
LOCALSTACK_IMAGE=$localstack
MOTO_IMAGE=$moto
END
