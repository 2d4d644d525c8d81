"""A stage that counts rows once more, and may refuse to let them be published."""

from __future__ import annotations

import os

import pyarrow.parquet as pq
from pydantic import BaseModel

from bucketwheel.contracts import Services
from bucketwheel.engines.arrow import ArrowEngine
from bucketwheel.errors import DataRefusedError
from bucketwheel.runs.manifest import Manifest
from bucketwheel.stages.bucket_job import bucket_job

MINIMUM = "ROWCOUNT_MINIMUM"


class RowCounts(BaseModel):
    """Rows by table."""

    rows: dict[str, int]
    warnings: tuple[str, ...] = ()


class RowCount:
    """Reads the footers of all files of the run."""

    name = "rowcount"
    requires = ("discover", "split", "size", "bucket", "verify")

    def run(self, manifest: Manifest, services: Services) -> RowCounts:
        """Count, and refuse tables with fewer rows than the environment says."""
        storage, rows = services.storage, dict[str, int]()
        for table in bucket_job(manifest, services.runs).tables:
            rows[table.name] = 0
            for entry in storage.list(table.directory):
                with storage.open(entry.location) as stream:
                    rows[table.name] += pq.ParquetFile(stream).metadata.num_rows
        minimum = int(os.environ.get(MINIMUM, "0"))
        for name, count in rows.items():
            if count < minimum:
                raise DataRefusedError(f"rowcount: table {name!r} has {count} rows, expected at least {minimum}")
        return RowCounts(rows=rows, warnings=(f"counted {len(rows)} tables",))


class CountedEngine(ArrowEngine):
    """A third-party engine that works like the built-in one."""
