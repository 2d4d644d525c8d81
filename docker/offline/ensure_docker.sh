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
  [ "$(id -u)" = 0 ] || give_up "${missing[*]} are missing, and only root can install them; install them, then try again"
  command -v apt-get >/dev/null || give_up "${missing[*]} are missing, and this machine has no apt-get; install them, then try again"
  apt-get update -q
  # Debian's Docker could replace another supplier's; --no-remove leaves that decision to the owner.
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove "${missing[@]}"
fi

if ! answers; then
  [ -z "${DOCKER_HOST:-}" ] || give_up "no Docker daemon at DOCKER_HOST=$DOCKER_HOST; start it, or unset DOCKER_HOST"
  [ "$(id -u)" = 0 ] || give_up "no Docker daemon that $(id -un) can use; start it, or add the user to the group docker"
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
  answers || give_up "dockerd did not start within a minute; end of its log: $(tail -n 5 "$log" 2>/dev/null)"
fi
docker version --format 'Docker {{.Server.Version}}, client {{.Client.Version}}'
