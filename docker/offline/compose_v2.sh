#!/usr/bin/env bash
# Install Compose v2 and buildx on Debian 12, which has neither: unpack Debian 13's packages into the plugin directory.
# The state of apt does not change. Usage: compose_v2.sh [DIRECTORY]
set -euo pipefail
here=$(dirname "$(realpath "$0")")
plugins=$(realpath -m "${1:-/usr/local/lib/docker/cli-plugins}")
docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1 && exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$plugins"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $("$here/mirror.sh") trixie main" >"$work/sources.list"
options=(-qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
cd "$work"
apt-get "${options[@]}" download docker-compose docker-buildx
for package in ./*.deb; do dpkg -x "$package" unpacked; done
install -m 755 unpacked/usr/libexec/docker/cli-plugins/* "$plugins/"
