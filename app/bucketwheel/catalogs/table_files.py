"""List the files of a table for readers that would otherwise read the files that a directory has at the moment."""

from __future__ import annotations

from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import CatalogError
from bucketwheel.formatting import counted
from bucketwheel.storage import Storage


def table_files(storage: Storage, table: CatalogTable) -> list[str]:
    """Return the locations of the Parquet files directly in the directory of a table, sorted.

    Raises:
        CatalogError: files are missing.
        StorageError: the directory cannot be listed.
    """
    # Readers ignore other names, such as `_SUCCESS`.
    files = [entry for entry in storage.list(table.location) if entry.name[:1] not in "._"]
    names = [entry.location for entry in files if entry.name.endswith(".parquet")]
    recorded = table.parameters.get("numFiles", "")
    expected = int(recorded) if recorded.isdecimal() else 0
    if not names or len(files) < expected:
        has = f"contains {counted(len(names), 'Parquet file')}"
        of = f", expected {counted(expected, 'file')}" if expected else ""
        raise CatalogError(
            f"table {table.name!r}: {table.location}: {has}{of}; publish another run, such as: bucketwheel rollback "
            "RUN_ID (bucketwheel runs lists the runs)"
        )
    return names
