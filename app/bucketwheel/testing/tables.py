"""Table definitions with files behind them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.contracts import CatalogTable


def table_at(directory: Path, name: str, mark: str = "first") -> CatalogTable:
    """Write a Parquet file below `directory` and return a table definition for it.

    Args:
        directory: a local directory.
        name: name of the table.
        mark: value of the column `mark`, last part of the location and part of the run id; tells definitions apart.
    """
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
