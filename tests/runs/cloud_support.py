"""A case with its target on S3 and its tables in Glue, both served by moto."""

from __future__ import annotations

import pyarrow.parquet as pq

from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.storage import Storage
from runs_support import Case


class Cloud(Case):
    """A case with its target on S3 and its tables in Glue."""

    bucket = ""

    def tables_shown(self) -> dict[str, str]:
        return {table.name: table.location for table in GlueCatalog(self.settings()).tables()}

    def marks(self, table: str) -> set[str]:
        """Return the snapshots in a table, read from the location in Glue."""
        settings = self.settings()
        storage, catalog_table = Storage.of(settings), GlueCatalog(settings).get(table)
        assert catalog_table is not None
        files = storage.list(catalog_table.location)
        assert files
        marks: set[str] = set()
        for entry in files:
            with storage.open(entry.location) as stream:
                name = f"{table.removeprefix('ext_').removeprefix('bucketed_')}_mark"
                marks |= set(pq.read_table(stream, columns=[name])[name].to_pylist())
        return marks
