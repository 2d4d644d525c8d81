"""A case whose target is on S3 and whose tables are in Glue, both by moto."""

from __future__ import annotations

import pyarrow.parquet as pq

from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.storage import Storage
from runs_support import Case


class Cloud(Case):
    """A case whose target is on S3 and whose tables are in Glue."""

    bucket = ""

    def tables_shown(self) -> dict[str, str]:
        return {table.name: table.location for table in GlueCatalog(self.settings()).tables()}

    def marks(self, table: str) -> set[str]:
        """The snapshots in a table, as somebody reads it who asks Glue where it is."""
        settings = self.settings()
        storage, found = Storage.of(settings), GlueCatalog(settings).get(table)
        assert found is not None
        files = storage.list(found.location)
        assert files
        marks: set[str] = set()
        for entry in files:
            with storage.open(entry.location) as stream:
                name = f"{table.removeprefix('ext_').removeprefix('bucketed_')}_mark"
                marks |= set(pq.read_table(stream, columns=[name])[name].to_pylist())
        return marks
