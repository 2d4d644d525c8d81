#!/usr/bin/env bash
# Ensure a Docker daemon, docker-compose (1.29 in Debian 12) and debootstrap for CI; install missing ones from Debian packages.
# A running daemon and packages from other suppliers stay unchanged.
set -euo pipefail

answers() { timeout 20 docker info >/dev/null 2>&1; }
give_up() {
  echo "ensure_docker: $*" >&2
  exit 1
}

missing=()
answers || command -v dockerd >/dev/null || missing+=(docker.io iptables)
command -v docker-compose >/dev/null || missing+=(docker-compose)
command -v debootstrap >/dev/null || missing+=(debootstrap)

if [ "${#missing[@]}" -gt 0 ]; then
  [ "$(id -u)" = 0 ] || give_up "${missing[*]} must be installed, and only root can; install them, then start again"
  command -v apt-get >/dev/null || give_up "${missing[*]} must be installed, and there is no apt-get here"
  apt-get update -q
  # Installing Debian's Docker could remove another supplier's; only the owner may decide that.
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove "${missing[@]}"
fi

if ! answers; then
  [ -z "${DOCKER_HOST:-}" ] || give_up "nothing answers at DOCKER_HOST=$DOCKER_HOST; start that daemon, or unset it"
  [ "$(id -u)" = 0 ] || give_up "no daemon answers that $(id -un) may use; start it, or join the group docker"
  log=/var/log/bucketwheel-dockerd.log
  if [ "$(cat /proc/1/comm)" = systemd ]; then
    systemctl start docker
  else
    setsid nohup dockerd >"$log" 2>&1 </dev/null &
  fi
  for _ in $(seq 60); do
    answers && break
    sleep 1
  done
  answers || give_up "dockerd did not answer within a minute; its last words: $(tail -n 5 "$log" 2>/dev/null)"
fi
docker version --format 'Docker {{.Server.Version}}, client {{.Client.Version}}'
