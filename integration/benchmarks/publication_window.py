"""Measure how long readers can see a mix of two runs: the time from the first table's change to the last.

python -m integration.benchmarks.publication_window --tables 25 --latency 0.05

Publishes tables three times over earlier ones, in a DuckDB catalog and in Glue served by moto, which answers every
call after `--latency` seconds, as a network would. Prints the median. Not part of `python -m integration.benchmarks`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bucketwheel.catalogs.definitions import DATASET
from bucketwheel.catalogs.duckdb import DuckdbCatalog
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.catalogs.publish import publish_all
from bucketwheel.contracts import Catalog, CatalogTable
from bucketwheel.settings import AwsSettings, CatalogSettings, Settings
from bucketwheel.testing.tables import table_at

_ROUNDS = 3


class _Fence:
    @contextmanager
    def guard(self) -> Iterator[None]:
        yield


def main() -> None:
    """Print the window of each catalog."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", type=int, default=25, help="Number of tables.")
    parser.add_argument("--latency", type=float, default=0.05, help="Latency of each call to Glue, in seconds.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for label, measure in (("duckdb", _duckdb), ("glue", _glue)):
            times = [measure(directory / f"{label}{number}", options) for number in range(_ROUNDS)]
            print(f"{label}: {options.tables} tables, window {statistics.median(times):.3f} s")


def _window(catalog: Catalog, directory: Path, tables: int, changes: list[float]) -> float:
    """Publish over earlier tables; `changes` gets the time of each change that readers can see."""
    for run in ("first", "second"):
        changes.clear()
        publish_all(catalog, _Fence(), _tables(directory, run, tables), adopt=False)
    return max(changes) - min(changes)


def _tables(directory: Path, run: str, count: int) -> list[CatalogTable]:
    tables = [table_at(directory, f"t{number}", run) for number in range(count)]
    return [replace(table, parameters={**table.parameters, DATASET: "people"}) for table in tables]


def _duckdb(directory: Path, options: argparse.Namespace) -> float:
    catalog = DuckdbCatalog(Settings(catalog=CatalogSettings(path=str(directory / "catalog.duckdb"))))
    changes: list[float] = []
    replace_file: Callable[..., Path] = Path.replace

    def timed(self: Path, target: Path) -> Path:
        replaced = replace_file(self, target)
        changes.append(time.monotonic())
        return replaced

    Path.replace = timed  # type: ignore[method-assign]
    try:
        return _window(catalog, directory, options.tables, changes)
    finally:
        Path.replace = replace_file  # type: ignore[method-assign]


def _glue(directory: Path, options: argparse.Namespace) -> float:
    os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    with _moto(directory) as endpoint:
        settings = Settings(
            target=str(directory),
            aws=AwsSettings(endpoint_url=endpoint, region="us-east-1"),
            catalog=CatalogSettings(kind="glue", path=None, database="benchmark"),
        )
        catalog = GlueCatalog(settings)
        changes: list[float] = []
        events = catalog._glue.meta.events
        events.register("before-send.glue", lambda **_: time.sleep(options.latency))

        def timed(**_: Any) -> None:
            changes.append(time.monotonic())

        for action in ("CreateTable", "UpdateTable"):
            events.register(f"after-call.glue.{action}", timed)
        return _window(catalog, directory, options.tables, changes)


@contextmanager
def _moto(directory: Path) -> Iterator[str]:
    directory.mkdir()
    address = directory / "address"
    command = [sys.executable, str(Path(__file__).with_name("moto_server.py")), str(address)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
        try:
            while not address.exists():
                time.sleep(0.05)
            yield address.read_text(encoding="utf-8")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
