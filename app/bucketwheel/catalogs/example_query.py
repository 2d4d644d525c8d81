"""Write a query of a published table as a command to paste into a shell."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

from bucketwheel.catalogs.sql import plain_name
from bucketwheel.runs.manifest import Manifest, PublishResult
from bucketwheel.settings import Settings, resolved_layouts
from bucketwheel.settings.layouts import catalog_kinds
from bucketwheel.storage.locations import is_s3

# Characters that a shell does not treat literally between double quotes, and the quote itself.
_SPECIAL = re.compile(r'["$`\\!]')
_PUBLISHING = ("ctas", "register")


def example_query(settings: Settings, manifest: Manifest) -> str | None:
    """Return a shell command that queries the first published table; for catalogs other than DuckDB, the SQL alone.

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
    if not here or catalog.kind != "duckdb" or catalog.path is None:
        return sql
    if is_s3(settings.target):
        sql = f"CREATE SECRET (TYPE s3, PROVIDER credential_chain); {sql}"
    return _command(Path(catalog.path), sql)


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
