#!/usr/bin/env bash
# docker/requirements.txt and docker/offline/*.txt anew, from pyproject.toml and the *.in files. Versions stay where they still fit.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3.11 -m venv "$tools"
"$tools/bin/pip" install -q --disable-pip-version-check pip-tools
export CUSTOM_COMPILE_COMMAND='make locks'
lock() {
  "$tools/bin/pip-compile" -q --generate-hashes --allow-unsafe --strip-extras --no-annotate --no-emit-index-url \
    --no-emit-find-links --no-emit-trusted-host "$@"
}
lock -o docker/offline/base.txt docker/offline/base.in
lock -o docker/requirements.txt -c constraints-floor.txt -c docker/offline/base.txt --extra aws --extra duckdb \
  pyproject.toml docker/requirements.in
lock -o docker/offline/localstack.txt docker/offline/localstack.in
lock -o docker/offline/moto.txt -c constraints.txt docker/offline/moto.in
