"""Write a query of a published table as a command to paste into a shell."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from bucketwheel.catalogs.iceberg_database import CATALOG_NAME, sql_uri, sqlite_path
from bucketwheel.catalogs.sql import plain_name
from bucketwheel.optional import aws_module
from bucketwheel.runs.manifest import Manifest, PublishResult
from bucketwheel.settings import Settings, resolved_layouts
from bucketwheel.settings.layouts import catalog_kinds
from bucketwheel.storage import Storage
from bucketwheel.storage.locations import is_s3

# Characters that a shell does not treat literally between double quotes, and the quote itself.
_SPECIAL = re.compile(r'["$`\\!]')
_PUBLISHING = ("ctas", "register")


def example_query(settings: Settings, manifest: Manifest) -> str | None:
    """Return a shell command that queries the first published table, or SQL and the programs for it in a comment.

    A table that the DuckDB file has comes first. None if the run has published nothing.
    """
    results = [manifest.result(stage, PublishResult) for stage in _PUBLISHING if stage in manifest.stages]
    names = [table.name for result in results for table in result.tables]
    if not names:
        return None
    catalog = settings.catalog
    elsewhere = tuple(layout.prefix for layout in resolved_layouts(settings) if layout.hash == "iceberg")
    here = [name for name in names if not name.startswith(elsewhere)] if all(elsewhere) else []
    database = catalog.database if here else settings.iceberg.namespace or catalog.database
    name = (here or names)[0]
    sql = f"SELECT * FROM {plain_name(database)}.{plain_name(name)} LIMIT 5"  # noqa: S608 quoted if needed
    if not here and settings.iceberg.catalog == "sql" and (uri := _sqlite_uri(settings)):
        return _pyiceberg_command(uri, _s3_properties(settings), database, name)
    if not here or catalog.kind != "duckdb" or catalog.path is None:
        return sql + _programs(catalog.kind if here else settings.iceberg.catalog)
    if is_s3(settings.target):
        sql = f"CREATE SECRET (TYPE s3, PROVIDER credential_chain{_s3_options(settings)}); {sql}"
    return _command(Path(catalog.path), sql)


def _programs(catalog: str) -> str:
    """Return a comment that names programs which can read a catalog; empty if none is known."""
    if catalog in ("glue", "rest", "sql"):
        return f" -- in {'Athena, ' if catalog == 'glue' else ''}Trino or Spark"
    return ""


def _sqlite_uri(settings: Settings) -> str:
    """Return the URI of the SQLite file of the Iceberg tables, for this directory; empty for other databases."""
    if settings.iceberg.uri:
        return settings.iceberg.uri if sqlite_path(settings.iceberg.uri) else ""
    # Without a URI, it is below a local target.
    return "" if is_s3(settings.target) else f"sqlite:///{shown_path(sqlite_path(sql_uri(settings)))}"


def _s3_properties(settings: Settings) -> dict[str, str]:
    """Return the properties with which PyIceberg finds the S3 store of the target, without credentials."""
    if not (url := _endpoint(settings)):
        return {}
    properties = {"s3.endpoint": url, "s3.region": _s3_client().region_of(Storage.of(settings).settings)}
    if settings.storage.path_style is False:
        properties["s3.force-virtual-addressing"] = "true"
    return properties


def _s3_options(settings: Settings) -> str:
    """Return further options of DuckDB's secret for the S3 store of the target."""
    storage, url = Storage.of(settings).settings, _endpoint(settings)
    # DuckDB takes the region from the environment only.
    region = _s3_client().region_of(storage) if url or storage.region else ""
    options = f", REGION '{region}'" if region else ""
    if not url:
        return options
    scheme, _, host = url.partition("://")
    style = "vhost" if settings.storage.path_style is False else "path"
    return f"{options}, ENDPOINT '{host}', URL_STYLE '{style}', USE_SSL {str(scheme == 'https').lower()}"


def _endpoint(settings: Settings) -> str | None:
    """Return the endpoint of the target's S3 store; None for AWS's, which programs find, and for a local target."""
    if not is_s3(settings.target):
        return None
    endpoint: str | None = _s3_client().own_endpoint(Storage.of(settings).settings)
    return endpoint


def _s3_client() -> ModuleType:
    return aws_module("bucketwheel.storage.s3_client", "s3://")


def _pyiceberg_command(uri: str, properties: Mapping[str, str], namespace: str, name: str) -> str:
    more = f", **{properties!r}" if properties else ""
    rows = (
        f"SqlCatalog({CATALOG_NAME!r}, uri={uri!r}{more}).load_table({(namespace, name)!r}).scan(limit=5).to_arrow()"
    )
    code = f"from pyiceberg.catalog.sql import SqlCatalog; print({rows}.to_pylist())"
    return f"{_python()} -c {_quoted(code)}"


def catalog_text(settings: Settings) -> str:
    """Return where the catalogs of the tables are and the names of their databases."""
    catalog, iceberg = settings.catalog, settings.iceberg
    parts = []
    if any(layout.hash != "iceberg" for layout in resolved_layouts(settings)):
        if catalog.kind == "duckdb" and catalog.path is not None:
            parts.append(f"{shown_path(catalog.path)}, schema {catalog.database}")
        else:
            parts.append(f"{catalog.kind}, database {catalog.database}")
    if "iceberg" in catalog_kinds(settings):
        parts.append(f"Iceberg ({iceberg.catalog}), namespace {iceberg.namespace or catalog.database}")
    return " and ".join(parts)


def shown_path(path: Path | str) -> str:
    """Return a path relative to the current directory if it is below it, else absolute."""
    if is_s3(str(path)):
        return str(path)
    absolute = Path.cwd() / path
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)


def _command(path: Path, sql: str) -> str:
    place = shown_path(path)
    if shutil.which("duckdb"):
        return f"duckdb -readonly {shlex.quote(place)} -c {_quoted(sql)}"
    code = f"import duckdb; print(duckdb.connect({place!r}, read_only=True).sql({sql!r}))"
    return f"{_python()} -c {_quoted(code)}"


def _python() -> str:
    """Return the command that starts this Python."""
    first = shutil.which("python")
    if first and Path(first).parent == Path(sys.executable).parent:
        return "python"
    return shlex.quote(shown_path(sys.executable))


def _quoted(text: str) -> str:
    return shlex.quote(text) if _SPECIAL.search(text) else f'"{text}"'
