"""Run docker/compose.yaml as a separate project with the Compose that COMPOSE names, else an installed one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_FILE = Path(__file__).parents[2] / "docker" / "compose.yaml"
_LOOPBACK = "127.0.0.1"
# As the kernel writes the state of a socket.
_LISTEN = "0A"


class Stack:
    """The services of the file; other containers stay untouched."""

    def __init__(self) -> None:
        self.project = f"bucketwheel-e2e-{os.getpid()}"
        self.command = (*_compose(), "-p", self.project, "-f", str(_FILE))

    def run_app(self, arguments: Sequence[str]) -> int:
        """Start the servers that the application needs, run it, and return its exit code."""
        return subprocess.run([*self.command, "run", "--rm", "-T", "app", *arguments], check=False).returncode

    def url(self, service: str, port: int) -> str:
        """Return the URL of a service on this machine.

        Raises:
            RuntimeError: other machines could reach it.
        """
        address = self._output("port", service, str(port)).strip()
        if not address.startswith(f"{_LOOPBACK}:"):
            raise RuntimeError(f"{service} is published at {address}; only {_LOOPBACK} may be")
        return f"http://{address}"

    def published(self) -> list[str]:
        """Return the addresses of this machine at which containers of the project can be reached.

        Raises:
            RuntimeError: other machines could reach one.
        """
        label = f"label=com.docker.compose.project={self.project}"
        containers = _said("docker", "ps", "--quiet", "--filter", label).split()
        mappings = [
            binding
            for container in json.loads(_said("docker", "inspect", *containers))
            for bindings in container["NetworkSettings"]["Ports"].values()
            for binding in bindings or []
        ]
        for binding in mappings:
            listening = _listening(int(binding["HostPort"]))
            if {binding["HostIp"], *listening} != {_LOOPBACK}:
                raise RuntimeError(
                    f"port {binding['HostPort']} is published at {binding['HostIp']}, and what listens there does so "
                    f"at {sorted(listening)}; only {_LOOPBACK} may be"
                )
        return sorted(f"{_LOOPBACK}:{binding['HostPort']}" for binding in mappings)

    def show_logs(self) -> None:
        """Print the end of the log of every service."""
        subprocess.run([*self.command, "logs", "--tail", "15"], check=False)

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self._output("down", "--volumes", "--timeout", "1")

    def _output(self, *arguments: str) -> str:
        return subprocess.run(
            [*self.command, *arguments], check=True, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
        ).stdout


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _listening(port: int) -> set[str]:
    """Return the local addresses that listen on a port of this machine."""
    missing = set()
    for family, file in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path("/proc/net", file).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            if state == _LISTEN and int(number, 16) == port:
                # Words of four bytes, each in the order of the machine.
                words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
                missing.add(socket.inet_ntop(family, b"".join(word.to_bytes(4, sys.byteorder) for word in words)))
    return missing


def _compose() -> tuple[str, ...]:
    if named := os.environ.get("COMPOSE"):
        return tuple(named.split())
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ("docker", "compose") if plugin.returncode == 0 else ("docker-compose",)
