#!/usr/bin/env bash
# Update constraints*.txt, docker/requirements.txt and docker/offline/*.txt from pyproject.toml and the *.in files.
# A version changes only if it no longer satisfies the requirements, or if asked: lock.sh --upgrade-package NAME ...
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3.11 integration/environment.py "$tools" constraints-tools.txt --quiet --packages pip-tools,uv
export CUSTOM_COMPILE_COMMAND='make locks'
hashes=(--generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links)
# For each platform and Python from 3.11.5, the oldest that the docs group supports.
universal() {
  "$tools/bin/uv" pip compile -q --universal --python-version 3.11.5 "${hashes[@]}" --custom-compile-command 'make locks' "${upgrades[@]}" "$@"
}
lock() {
  "$tools/bin/pip-compile" -q "${hashes[@]}" --allow-unsafe --strip-extras --no-emit-trusted-host "${upgrades[@]}" "$@"
}
upgrades=("$@")
# Requirements files, because uv.lock records the address of the package index.
universal -o constraints.txt --all-extras --group build --group dev --group docs --group bench pyproject.toml
universal -o constraints-floor.txt -c constraints-floor.in --extra aws --extra cli --extra duckdb --extra iceberg --extra report --extra spark --extra trino \
  --group build --group test pyproject.toml
universal -o constraints-lint.txt constraints-lint.in
universal -o constraints-tools.txt constraints-tools.in

lock -o docker/offline/base.txt docker/offline/base.in
# The image and the archive have the pyarrow, numpy, pandas and boto3 of Glue 5.0: pyarrow and numpy decide the bytes of the tables, and the
# image reuses those of its base. Other packages of Glue, such as urllib3 1.25 with its known vulnerabilities, do not hold back ours.
pins() { sed -nE 's/^([A-Za-z0-9._-]+==[^ ;]+).*/\1/p' "$1"; }
pins constraints-floor.txt | grep -v '^pytz==' >"$tools/floor.txt"
lock -o docker/requirements.txt -c "$tools/floor.txt" --extra aws --extra duckdb --extra iceberg pyproject.toml docker/requirements.in
lock -o docker/offline/localstack.txt docker/offline/localstack.in
pins constraints.txt >"$tools/newest.txt"
lock -o docker/offline/moto.txt -c "$tools/newest.txt" docker/offline/moto.in
