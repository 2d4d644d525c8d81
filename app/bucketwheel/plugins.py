"""Find stages, engines, catalogs and SQL executors by name and import them on first use.

Other packages add their own through entry points in the groups `bucketwheel.stages`, `.engines`, `.catalogs` and
`.executors`. An entry point names a class; stages are created without arguments, everything
else with the settings. A class with a `settings_model` gets its own settings, `plugins.<name>`, as the last argument.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib.metadata import entry_points
from typing import Any, get_type_hints

from pydantic import BaseModel

from bucketwheel.catalogs.routed import routed
from bucketwheel.contracts import Catalog, Engine, SqlExecutor, Stage
from bucketwheel.errors import ConfigError, MissingDependencyError, SelectionError, did_you_mean
from bucketwheel.settings import PROMOTE, STAGES, Settings
from bucketwheel.settings.layouts import catalog_kinds, resolved_layouts
from bucketwheel.settings.loading import plugin_settings
from bucketwheel.system import system

_BUILT_IN = {
    "stages": {name: f"bucketwheel.stages.{name}:{name.capitalize()}" for name in STAGES},
    "engines": {
        "arrow": "bucketwheel.engines.arrow:ArrowEngine",
        "spark": "bucketwheel.engines.spark.engine:SparkEngine",
    },
    "catalogs": {
        "duckdb": "bucketwheel.catalogs.duckdb:DuckdbCatalog",
        "glue": "bucketwheel.catalogs.glue:GlueCatalog",
        "iceberg": "bucketwheel.catalogs.iceberg:IcebergCatalog",
    },
    "executors": {
        "athena": "bucketwheel.executors.athena:AthenaExecutor",
        "trino": "bucketwheel.executors.trino:TrinoExecutor",
    },
}
# Extra that installs a package of a backend.
_EXTRAS = {
    "pyspark": "spark",
    "py4j": "spark",
    "boto3": "aws",
    "botocore": "aws",
    "duckdb": "duckdb",
    "trino": "trino",
    "pyiceberg": "iceberg",
    "sqlalchemy": "iceberg",
}


def stage(name: str, settings: Settings | None = None) -> Stage:
    """Return the stage of this name; `settings` holds the settings of plug-ins."""
    backend: Stage = _create("stages", name, settings or Settings())
    return backend


def engine(settings: Settings) -> Engine:
    """Return the engine that the settings choose."""
    backend: Engine = _create("engines", settings.engine, settings, settings)
    return backend


def catalog(settings: Settings) -> Catalog:
    """Return the catalog that the settings choose; it joins two if the layouts need both."""
    main, *others = catalog_kinds(settings)
    backend = catalog_of_kind(settings, main)
    if not others:
        return backend
    iceberg = catalog_of_kind(settings, others[0])
    return routed(type(backend), type(iceberg))(backend, iceberg)


def catalog_of_kind(settings: Settings, kind: str) -> Catalog:
    """Return the catalog of one kind."""
    backend: Catalog = _create("catalogs", kind, settings, settings)
    return backend


def catalog_class(settings: Settings) -> type[Catalog]:
    """Return the class of the catalog that the settings choose, without creating a catalog.

    Raises:
        SelectionError: there is no such catalog, or it does not declare its capabilities.
        MissingDependencyError: its packages are not installed.
    """
    main, *others = (_catalog_class(kind) for kind in catalog_kinds(settings))
    return routed(main, others[0]) if others else main


def _catalog_class(kind: str) -> type[Catalog]:
    chosen: type[Catalog] = _load("catalogs", kind)
    undeclared = [name for name in get_type_hints(Catalog) if not hasattr(chosen, name)]
    if undeclared:
        raise SelectionError(
            f"catalog {kind!r} does not declare {', '.join(undeclared)}; "
            f"set these as attributes of {chosen.__name__} (see bucketwheel.contracts.Catalog)"
        )
    return chosen


def check_copies(settings: Settings) -> None:
    """Check that the SQL executor that the settings choose can copy the tables of the first layout.

    It ignores backends that are unknown or not installed; `check` reports them.

    Raises:
        ConfigError: the executor cannot read or copy them.
    """
    method, kind = settings.ctas.method, settings.catalog.kind
    if method == PROMOTE:
        return
    copier: type[SqlExecutor] | None = _load_if_installed("executors", method)
    catalogs = getattr(copier, "catalogs", None)
    if catalogs and kind not in catalogs:
        tables = " or ".join(name.capitalize() for name in catalogs)
        raise ConfigError(
            f"ctas.method is {method}, but catalog.kind is {kind}; {method.capitalize()} copies only tables of "
            f"{tables}: set catalog.kind={catalogs[0]}"
        )
    first, hashes = resolved_layouts(settings)[0], getattr(copier, "hashes", None)
    if hashes and first.hash not in hashes and (first.bucketed or first.hash == "iceberg"):
        raise ConfigError(
            f"ctas.method is {method}, which copies the first layout and buckets by {' or '.join(hashes)}, but "
            f"{first.setting('hash')} is {first.hash}; set ctas.method=promote"
        )
    source: type[Catalog] | None = _load_if_installed("catalogs", kind)
    if source is not None and not getattr(source, "shared", True):
        raise ConfigError(
            f"ctas.method is {method}, but no SQL engine can read catalog.kind {kind}; set catalog.kind=glue"
        )


def executor(settings: Settings) -> SqlExecutor:
    """Return the SQL executor that the settings choose."""
    backend: SqlExecutor = _create("executors", settings.ctas.method, settings, settings)
    return backend


def check(settings: Settings, engine: bool, catalog: bool, executor: bool) -> None:
    """Import the configured backends of these kinds without creating them.

    Raises:
        SelectionError: there is no such engine, catalog or executor.
        MissingDependencyError: its packages are not installed.
    """
    if engine:
        _load("engines", settings.engine)
    for kind in catalog_kinds(settings) if catalog else ():
        _load("catalogs", kind)
    if executor and settings.ctas.method != PROMOTE:
        _load("executors", settings.ctas.method)


def settings_models() -> Callable[[str], type[BaseModel] | None]:
    """Return a function that returns the settings model of an installed plug-in; see `_settings_model`.

    It searches the installed packages once: each search takes milliseconds, and a configuration has many names.
    """
    installed = entry_points()
    known_names = {
        group: {*built_in, *installed.select(group=f"bucketwheel.{group}").names}
        for group, built_in in _BUILT_IN.items()
    }
    return partial(_settings_model, known_names)


def _settings_model(known_names: Mapping[str, Collection[str]], name: str) -> type[BaseModel] | None:
    """Return the model of the settings `plugins.<name>` of an installed plug-in, or None.

    Raises:
        ConfigError: no plug-in has this name, or two of this name have different models.
        MissingDependencyError: its packages are not installed.
    """
    groups = [group for group in _BUILT_IN if name in known_names[group]]
    if not groups:
        names = sorted({name for group in _BUILT_IN for name in known_names[group] if name not in _BUILT_IN[group]})
        guess = did_you_mean(name, names)
        listed = ", ".join(f"bucketwheel.{group}" for group in _BUILT_IN)
        raise ConfigError(
            f"no plug-in is called {name!r}; {guess}known: {', '.join(names) or 'none'} (entry points of {listed})"
        )
    # Built-in backends have their settings elsewhere, and may be expensive to import.
    classes = [_load(group, name) for group in groups if name not in _BUILT_IN[group]]
    models = {model for kind in classes if (model := getattr(kind, "settings_model", None))}
    if len(models) > 1:
        raise ConfigError(f"several plug-ins are called {name!r} and differ in settings_model; uninstall one")
    return models.pop() if models else None


def known(group: str) -> list[str]:
    """Return the names in a group, built in and installed."""
    return sorted({*_BUILT_IN[group], *(point.name for point in entry_points(group=f"bucketwheel.{group}"))})


def _create(group: str, name: str, settings: Settings, *arguments: Any) -> Any:
    """Return an object of the class behind a name, which gets its own settings as the last argument."""
    kind = _load(group, name)
    model = getattr(kind, "settings_model", None)
    if model is None:
        return kind(*arguments)
    return kind(*arguments, plugin_settings(name, model, settings.plugins.get(name, {})))


def _load_if_installed(group: str, name: str) -> Any:
    """Return the class of this name, or None if it is unknown or lacks a package."""
    try:
        return _load(group, name)
    except (SelectionError, MissingDependencyError):
        return None


def _load(group: str, name: str) -> Any:
    """Return the class of this name.

    Raises:
        SelectionError: no such name; the message lists the known names.
        MissingDependencyError: its packages are not installed; the message names what to install.
    """
    if replacement := system().backends.get((group, name)):
        return replacement
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
        requirement = f"'bucketwheel[{_EXTRAS[package]}]'" if package in _EXTRAS else package
        raise MissingDependencyError(f"{name!r} needs the package {package!r}: pip install {requirement}") from error
    names = [*([PROMOTE] if group == "executors" else []), *known(group)]
    guess = did_you_mean(name, names)
    raise SelectionError(
        f"no {group.removesuffix('s')} is called {name!r}; {guess}known: {', '.join(names) or 'none'}"
    )
