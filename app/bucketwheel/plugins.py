"""Finds stages, engines, catalogs and SQL executors by name; each is imported when it is chosen.

Other packages add their own through entry points in the groups `bucketwheel.stages`, `.engines`, `.catalogs` and
`.executors`. An entry point names a class; stages are made without arguments, everything
else with the settings.
"""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import entry_points
from typing import Any, get_type_hints

from bucketwheel.contracts import Catalog, Engine, SqlExecutor, Stage
from bucketwheel.errors import ConfigError, MissingDependencyError, SelectionError
from bucketwheel.settings import PROMOTE, STAGES, Settings

_BUILT_IN = {
    "stages": {name: f"bucketwheel.stages.{name}:{name.capitalize()}" for name in STAGES},
    "engines": {
        "arrow": "bucketwheel.engines.arrow:ArrowEngine",
        "spark": "bucketwheel.engines.spark.engine:SparkEngine",
    },
    "catalogs": {
        "duckdb": "bucketwheel.catalogs.duckdb:DuckdbCatalog",
        "glue": "bucketwheel.catalogs.glue:GlueCatalog",
    },
    "executors": {
        "athena": "bucketwheel.executors.athena:AthenaExecutor",
        "trino": "bucketwheel.executors.trino:TrinoExecutor",
    },
}
# Which extra brings a package that a backend imports.
_EXTRAS = {
    "pyspark": "spark",
    "py4j": "spark",
    "boto3": "aws",
    "botocore": "aws",
    "duckdb": "duckdb",
    "trino": "trino",
}


def stage(name: str) -> Stage:
    """Return the stage of this name."""
    made: Stage = _load("stages", name)()
    return made


def engine(settings: Settings) -> Engine:
    """Return the engine that the settings choose."""
    made: Engine = _load("engines", settings.engine)(settings)
    return made


def catalog(settings: Settings) -> Catalog:
    """Return the catalog that the settings choose."""
    made: Catalog = _load("catalogs", settings.catalog.kind)(settings)
    return made


def catalog_class(settings: Settings) -> type[Catalog]:
    """Return the class of the catalog that the settings choose, without creating a catalog.

    Raises:
        SelectionError: there is no such catalog, or it does not declare its capabilities.
        MissingDependencyError: its packages are not installed.
    """
    chosen: type[Catalog] = _load("catalogs", settings.catalog.kind)
    undeclared = [name for name in get_type_hints(Catalog) if not hasattr(chosen, name)]
    if undeclared:
        raise SelectionError(
            f"catalog {settings.catalog.kind!r} does not declare {', '.join(undeclared)}; "
            f"set these as attributes of {chosen.__name__} (see bucketwheel.contracts.Catalog)"
        )
    return chosen


def check_copies(settings: Settings) -> None:
    """Check that the SQL executor that the settings choose can read the tables of the catalog.

    Backends that are unknown or not installed are left to `check`.

    Raises:
        ConfigError: it cannot.
    """
    method, kind = settings.ctas.method, settings.catalog.kind
    if method == PROMOTE:
        return
    copier: type[SqlExecutor] | None = _load_if_installed("executors", method)
    catalogs = getattr(copier, "catalogs", None)
    if catalogs and kind not in catalogs:
        tables = " or ".join(name.capitalize() for name in catalogs)
        raise ConfigError(
            f"ctas.method is {method}, catalog.kind {kind}; {method.capitalize()} copies tables of {tables}: "
            f"set catalog.kind={catalogs[0]}"
        )
    source: type[Catalog] | None = _load_if_installed("catalogs", kind)
    if source is not None and not getattr(source, "shared", True):
        raise ConfigError(
            f"ctas.method is {method}, catalog.kind {kind}, which no SQL engine shares; set catalog.kind=glue"
        )


def executor(settings: Settings) -> SqlExecutor:
    """Return the SQL executor that the settings choose."""
    made: SqlExecutor = _load("executors", settings.ctas.method)(settings)
    return made


def check(settings: Settings, engine: bool, catalog: bool, executor: bool) -> None:
    """Import what the settings choose of these, where it will be needed; makes none.

    Raises:
        SelectionError: there is no such engine, catalog or executor.
        MissingDependencyError: its packages are not installed.
    """
    if engine:
        _load("engines", settings.engine)
    if catalog:
        _load("catalogs", settings.catalog.kind)
    if executor and settings.ctas.method != PROMOTE:
        _load("executors", settings.ctas.method)


def known(group: str) -> list[str]:
    """Return the names in a group, built in and installed."""
    return sorted({*_BUILT_IN[group], *(point.name for point in entry_points(group=f"bucketwheel.{group}"))})


def _load_if_installed(group: str, name: str) -> Any:
    """Return the class behind a name, or None where it is unknown or lacks a package."""
    try:
        return _load(group, name)
    except (SelectionError, MissingDependencyError):
        return None


def _load(group: str, name: str) -> Any:
    """Return the class behind a name.

    Raises:
        SelectionError: there is no such name; lists those there are.
        MissingDependencyError: its packages are not installed; says what to install.
    """
    try:
        if target := _BUILT_IN[group].get(name):
            module, _, attribute = target.partition(":")
            return getattr(importlib.import_module(module), attribute)
        for point in entry_points(group=f"bucketwheel.{group}"):
            if point.name == name:
                return point.load()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "bucketwheel"):
            raise
        wanted = f"'bucketwheel[{_EXTRAS[package]}]'" if package in _EXTRAS else package
        raise MissingDependencyError(f"{name!r} needs the package {package!r}: pip install {wanted}") from error
    names = [*([PROMOTE] if group == "executors" else []), *known(group)]
    close = difflib.get_close_matches(name, names, 1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    raise SelectionError(
        f"no {group.removesuffix('s')} is called {name!r}; {guess}known: {', '.join(names) or 'none'}"
    )
