"""Definitions with files behind them, and the catalogs to put them in; imported by child processes too."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.catalogs.duckdb import DuckdbCatalog
from bucketwheel.contracts import CatalogTable
from bucketwheel.settings import CatalogSettings, Settings

DATABASE = "our data"


def catalog_in(path: Path | str, database: str = DATABASE) -> DuckdbCatalog:
    return DuckdbCatalog(Settings(catalog=CatalogSettings(path=str(path), database=database)))


def table_at(directory: Path, name: str, mark: str = "first") -> CatalogTable:
    """Return a definition with a file behind it whose column `mark` says which one it is."""
    location = directory / name.replace("/", "_") / mark
    location.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": ["a", "b"], "mark": [mark, mark]}), location / "000000_0.snappy.parquet")
    return CatalogTable(
        name=name,
        location=str(location),
        columns=(("id", "string"), ("mark", "string")),
        bucket_columns=("id",),
        bucket_count=16,
        sorted=True,
        parameters={"bucketwheel.run_id": f"run {mark}", "totalSize": "17", "odd": 'it\'s "1"; ü'},
    )
