"""A directory with a target and a DuckDB catalog, examined as users and other processes see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from run_output import hash_local_files


class Workspace:
    """A target and a catalog below one directory; methods without a dataset use `dataset`."""

    def __init__(self, root: Path, database: str, dataset: str) -> None:
        self.root = root
        self.database = database
        self.dataset = dataset
        self.target = root / "out"
        self.catalog = root / "catalog.duckdb"

    def base_settings(self, buckets: int) -> dict[str, Any]:
        """Return the settings that all tests share, as nested mappings."""
        return {
            "threads": 2,
            "target": str(self.target),
            "buckets": {"count": buckets},
            "catalog": {"path": str(self.catalog), "database": self.database},
            "expire": {"min_age_hours": 0},
        }

    def snapshot_file(self, dataset: str = "") -> Path:
        """Return the path of the file with the date of the published snapshot."""
        return self.target / (dataset or self.dataset) / "metadata" / "snapshot_dt.txt"

    def snapshot_dt(self, dataset: str = "") -> str:
        """Return the date of the published snapshot."""
        return self.snapshot_file(dataset).read_text()

    def run_ids(self, dataset: str = "") -> list[str]:
        """Return the ids of the runs that have a manifest, oldest first."""
        manifests = (self.target / "_bucketwheel" / (dataset or self.dataset) / "runs").glob("*/manifest.json")
        return sorted((path.parent.name for path in manifests), key=lambda name: name[11:])

    def hashes(self, run_id: str = "") -> dict[str, str]:
        """Return the SHA-256 of every data file, or of those of one run, by dataset, table and name."""
        return hash_local_files(self.target, run_id)

    def view_names(self) -> list[str]:
        """Return the sorted names of the views in the catalog."""
        with duckdb.connect(str(self.catalog), read_only=True) as connection:
            return view_names(connection, self.database)

    def tree(self, *, directory_times: bool = False) -> dict[str, tuple[int, int, int]]:
        """Return size, modification time and inode of every file below the root.

        Directories have zeros; with `directory_times` they have their modification time, which changes when a file in
        them is created or deleted.
        """
        entries = {}
        for path in sorted(self.root.rglob("*")):
            stat = path.stat()
            modified = stat.st_mtime_ns if directory_times else 0
            entry = (0, modified, 0) if path.is_dir() else (stat.st_size, stat.st_mtime_ns, stat.st_ino)
            entries[str(path.relative_to(self.root))] = entry
        return entries


def view_names(connection: duckdb.DuckDBPyConnection, database: str) -> list[str]:
    """Return the sorted names of the views in a database of a DuckDB catalog."""
    rows = connection.execute("SELECT view_name FROM duckdb_views() WHERE schema_name = ?", [database])
    return sorted(name for (name,) in rows.fetchall())
