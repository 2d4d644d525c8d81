#!/usr/bin/env bash
# Update requirements.lock, docker/requirements.txt and docker/offline/*.txt from pyproject.toml and the *.in files.
# A version changes only if it no longer satisfies the requirements.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3.11 -m venv "$tools"
"$tools/bin/pip" install -q --disable-pip-version-check pip-tools uv
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
# A requirements file, because uv.lock records the address of the package index.
"$tools/bin/uv" pip compile -q --universal --python-version 3.11.5 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
  --custom-compile-command 'make locks' -c constraints.txt --all-extras --group dev --group docs --group bench \
  -o requirements.lock pyproject.toml
