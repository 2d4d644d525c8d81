"""Where this process runs: `glue`, `emr-serverless`, `container` or `local`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

# Set by those who start the job, where nothing else would tell.
VARIABLE = "BUCKETWHEEL_RUNTIME"


# Docker puts the first into every container, Podman the second.
_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))


def detect(environ: Mapping[str, str], container_marks: Sequence[Path] = _MARKS) -> str:
    """Return the name of the runtime, for the manifest.

    Args:
        environ: environment variables; `BUCKETWHEEL_RUNTIME` wins. Jobs on EMR Serverless are started with it.
        container_marks: files that container engines put into every container.
    """
    if named := environ.get(VARIABLE):
        return named
    return "container" if any(mark.exists() for mark in container_marks) else "local"
