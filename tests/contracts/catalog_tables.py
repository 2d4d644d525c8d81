"""Catalogs for tests and functions that fill them; child processes import them too."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb

import bucketwheel
from bucketwheel.catalogs.duckdb import DuckdbCatalog
from bucketwheel.settings import CatalogSettings, Settings

DATABASE = "our data"


def catalog_in(path: Path | str, database: str = DATABASE) -> DuckdbCatalog:
    return DuckdbCatalog(Settings(catalog=CatalogSettings(path=str(path), database=database)))


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def execute(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(statement).fetchall()


def marks(path: Path, name: str, database: str = DATABASE) -> set[object]:
    return {mark for (mark,) in query(path, f"SELECT mark FROM {quoted(database)}.{quoted(name)}")}


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start Python with this source tree; its stdin and stdout are pipes."""
    paths = [str(Path(bucketwheel.__file__).parents[1]), str(Path(__file__).parent)]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def hidden(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")}
