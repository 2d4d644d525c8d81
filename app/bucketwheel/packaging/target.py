"""The platform that an environment must fit: machine, Python and C library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

from bucketwheel.settings.models import Settings

# Glue 5.0 and 5.1 and EMR 7.8 to 7.13: this Python, on Amazon Linux 2023 with glibc 2.34.
PYTHON = (3, 11)
PYTHON_TEXT = "3.11"
INTERPRETER = f"/usr/bin/python{PYTHON_TEXT}"
GLIBC = (2, 34)
# The glibc of manylinux tags without a version.
_LEGACY_GLIBC = {"manylinux1": 5, "manylinux2010": 12, "manylinux2014": 17}
# The oldest glibc for which tags of the machine exist.
_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}
_MACHINES = {"X86_64": "x86_64", "ARM64": "aarch64"}
_DOCKER = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}


@dataclass(frozen=True)
class Target:
    """The platform of the jobs; `machine` is `x86_64` or `aarch64`, `unpacked_at` where the archive is unpacked."""

    platform: str
    machine: str
    unpacked_at: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Target:
        """Return the platform of the jobs: Glue has x86_64 only, EMR Serverless `emr_serverless.architecture`."""
        if settings.deploy.platform == "glue":
            return cls("Glue", "x86_64")
        # AWS documents this directory for archives that contain a Python of their own.
        machine = _MACHINES[settings.emr_serverless.architecture]
        return cls("EMR Serverless", machine, "/home/hadoop/environment")

    @property
    def text(self) -> str:
        """Return the platform in words."""
        return f"{self.platform} (Linux {self.machine}, Python {PYTHON_TEXT}, glibc {GLIBC[0]}.{GLIBC[1]})"

    @property
    def docker_platform(self) -> str:
        """Return the value of `docker build --platform`."""
        return _DOCKER[self.machine]

    def wheel_platforms(self) -> list[str]:
        """Return the platform tags of wheels that run here, newest glibc first, for `pip --platform`.

        pip derives some of them from others, but which ones depends on its version.
        """
        oldest = _OLDEST_GLIBC[self.machine]
        legacy = {minor: name for name, minor in _LEGACY_GLIBC.items()}
        tags = []
        for minor in range(GLIBC[1], oldest - 1, -1):
            tags.append(f"manylinux_{GLIBC[0]}_{minor}_{self.machine}")
            tags += [f"{legacy[minor]}_{self.machine}"] if minor in legacy else []
        return [*tags, f"linux_{self.machine}"]

    def runs_wheel(self, tag: str) -> bool:
        """Return whether a wheel with this tag, such as `cp311-abi3-manylinux2014_x86_64`, runs here."""
        parts = tag.strip().rsplit("-", 2)
        if len(parts) != 3:
            return False
        choices = (part.split(".") for part in parts)
        return any(
            _runs_abi(python, abi) and (platform == "any" or platform in self.wheel_platforms())
            for python, abi, platform in product(*choices)
        )


def _runs_abi(python: str, abi: str) -> bool:
    version = re.fullmatch(r"(py|cp)3(\d*)", python)
    if version is None:
        return False
    minor = int(version[2] or 0)
    if version[1] == "py" or abi == "abi3":
        return minor <= PYTHON[1] and abi in ("none", "abi3")
    return minor == PYTHON[1] and abi in ("none", f"cp3{PYTHON[1]}")
