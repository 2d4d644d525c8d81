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
# The image and the archive have the pyarrow, numpy, pandas and boto3 of Glue 5.0: pyarrow and numpy decide the bytes of the tables, and the
# image reuses those of its base. Other packages of Glue, such as urllib3 1.25 with its known vulnerabilities, do not hold back ours.
grep -v '^pytz==' constraints-floor.txt >"$tools/floor.txt"
lock -o docker/requirements.txt -c "$tools/floor.txt" --extra aws --extra duckdb pyproject.toml docker/requirements.in
lock -o docker/offline/localstack.txt docker/offline/localstack.in
lock -o docker/offline/moto.txt -c constraints.txt docker/offline/moto.in
# A requirements file, because uv.lock records the address of the package index.
"$tools/bin/uv" pip compile -q --universal --python-version 3.11.5 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
  --custom-compile-command 'make locks' -c constraints.txt --all-extras --group dev --group docs --group bench \
  -o requirements.lock pyproject.toml
