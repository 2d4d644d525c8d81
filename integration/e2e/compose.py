"""docker/compose.yaml as a project of its own, by the Compose that COMPOSE names, else whichever is installed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

_FILE = Path(__file__).parents[2] / "docker" / "compose.yaml"


class Stack:
    """The services of the file; nobody else's are touched."""

    def __init__(self) -> None:
        self.command = (*_compose(), "-p", f"bucketwheel-e2e-{os.getpid()}", "-f", str(_FILE))

    def run_app(self, arguments: Sequence[str]) -> int:
        """Start what the application needs, run it, and return its exit code."""
        return subprocess.run([*self.command, "run", "--rm", "-T", "app", *arguments], check=False).returncode

    def url(self, service: str, port: int) -> str:
        """Return where a service is found on this machine.

        Raises:
            RuntimeError: others could reach it too.
        """
        address = self._output("port", service, str(port)).strip()
        if not address.startswith("127.0.0.1:"):
            raise RuntimeError(f"{service} is published at {address}; only 127.0.0.1 may be")
        return f"http://{address}"

    def show_logs(self) -> None:
        """Print the last words of every service."""
        subprocess.run([*self.command, "logs", "--tail", "15"], check=False)

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self._output("down", "--volumes", "--timeout", "1")

    def _output(self, *arguments: str) -> str:
        return subprocess.run(
            [*self.command, *arguments], check=True, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
        ).stdout


def _compose() -> tuple[str, ...]:
    if named := os.environ.get("COMPOSE"):
        return tuple(named.split())
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ("docker", "compose") if plugin.returncode == 0 else ("docker-compose",)
