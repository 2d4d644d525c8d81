"""Where this process runs: `glue`, `emr-serverless`, `container` or `local`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# Set by those who start the job, where nothing else would tell.
VARIABLE = "BUCKETWHEEL_RUNTIME"


def detect(environ: Mapping[str, str], container_mark: Path = Path("/.dockerenv")) -> str:
    """Return the name of the runtime, for the manifest.

    Args:
        environ: environment variables; `BUCKETWHEEL_RUNTIME` wins.
        container_mark: a file that container engines put into every container.
    """
    if named := environ.get(VARIABLE):
        return named
    if any(name.startswith("EMR_SERVERLESS_") for name in environ):
        return "emr-serverless"
    return "container" if container_mark.exists() else "local"
