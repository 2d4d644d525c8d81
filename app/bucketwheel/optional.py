"""Import modules that need an extra when they are first used: they load slowly and may not be installed."""

from __future__ import annotations

import importlib
from types import ModuleType

from bucketwheel.errors import MissingDependencyError


def aws_module(name: str, user: str) -> ModuleType:
    """Import a module that needs boto3.

    Args:
        name: full name of the module.
        user: what needs it, such as `s3://`; the error names it.

    Raises:
        MissingDependencyError: boto3 is not installed.
    """
    return _module(name, user, "aws", ("boto3", "botocore"))


def duckdb_module(name: str, user: str) -> ModuleType:
    """Import a module of DuckDB.

    Raises:
        MissingDependencyError: DuckDB is not installed.
    """
    return _module(name, user, "duckdb", ("duckdb",))


def report_module(name: str) -> ModuleType:
    """Import a module of jinja2 or pygal.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    return _module(name, "the report", "report", ("jinja2", "markupsafe", "pygal"))


def _module(name: str, user: str, extra: str, packages: tuple[str, ...]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in packages:
            raise
        raise MissingDependencyError(
            f"{user} needs the package {package!r}; pip install 'bucketwheel[{extra}]'"
        ) from error
