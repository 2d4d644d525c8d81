"""Modules of ours that need boto3: imported when first used, as not everybody installs it or waits for it."""

from __future__ import annotations

import importlib
from types import ModuleType

from bucketwheel.errors import MissingDependencyError


def aws_module(name: str, user: str) -> ModuleType:
    """Return a module, by its full name.

    Raises:
        MissingDependencyError: boto3 is not installed; says so of `user`, such as `s3://`.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("boto3", "botocore"):
            raise
        raise MissingDependencyError(
            f"{user} needs the package {package!r}; pip install 'bucketwheel[aws]'"
        ) from error
