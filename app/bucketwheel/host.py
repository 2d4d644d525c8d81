"""Detect where this process runs: `glue`, `emr-serverless`, `container` or `local`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

# Environment variable that names the runtime; jobs that cannot be detected set it.
VARIABLE = "BUCKETWHEEL_RUNTIME"


# Docker puts the first into every container, Podman the second.
_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))


def detect(environ: Mapping[str, str], container_marks: Sequence[Path] = _MARKS) -> str:
    """Return the name of the runtime, for the manifest.

    Args:
        environ: environment variables; `BUCKETWHEEL_RUNTIME` takes precedence; jobs on EMR Serverless have it set.
        container_marks: files that container engines put into every container.
    """
    if named := environ.get(VARIABLE):
        return named
    return "container" if any(mark.exists() for mark in container_marks) else "local"


# Files with the memory limit of a container, in versions 2 and 1 of control groups.
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available_memory() -> int:
    """Return the memory limit of this process in bytes: that of the machine or its container."""
    limits = [psutil.virtual_memory().total]
    for name in _MEMORY_LIMITS:
        path = Path(name)
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits)


def available_threads() -> int:
    """Return the number of cores that this process may use."""
    # macOS and Windows have no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
