"""Examine the output of runs from outside: data files, run metadata and leftovers, on disk or in a bucket."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path

from bucketwheel.runs.manifest import Manifest

LOCAL_LEASES = ("lease.lock", "lease.new")
S3_LEASES = ("lease.json",)
_RUN_ID = r"\d{4}-\d{2}-\d{2}-\d{8}T\d{6}Z-[0-9a-f]{6}"


# In the layouts `hive_v1` and `spark`.
_FILE = r"(\d{6}_0|part-\d{5}-bucketwheel_\d{5}\.c000)\.snappy\.parquet"


def hash_files(keys: Iterable[str], read: Callable[[str], bytes], run_id: str = "") -> dict[str, str]:
    """Return the SHA-256 of every data file, or of those of one run, by dataset, table and name.

    Args:
        keys: paths of all files relative to the target.
        read: returns the content of a file.
        run_id: a part of the path of the data files; empty for all runs.
    """
    data_files = [key for key in keys if key.endswith(".parquet") and f"/{run_id}" in key]
    return {without_run(key): hashlib.sha256(read(key)).hexdigest() for key in data_files}


def hash_local_files(target: Path, run_id: str = "") -> dict[str, str]:
    """Return the SHA-256 of every data file below a local target, see `hash_files`."""
    keys = [str(path.relative_to(target)) for path in target.rglob("*.parquet")]
    return hash_files(keys, lambda key: (target / key).read_bytes(), run_id)


def without_run(key: str) -> str:
    """Return the path of a data file relative to the target, without the directory of its run."""
    dataset, table, _, name = key.split("/")
    return f"{dataset}/{table}/{name}"


def unexpected_files(keys: Iterable[str], datasets: Iterable[str], leases: Iterable[str]) -> list[str]:
    """Return the paths relative to the target that are neither data files nor metadata of these datasets."""
    dataset, lease = ("|".join(map(re.escape, names)) for names in (datasets, leases))
    expected = re.compile(
        rf"({dataset})/((\w+\.)?\w+/{_RUN_ID}/{_FILE}|metadata/(snapshot_dt\.txt|tables\.json))"
        rf"|_bucketwheel/({dataset})/({lease}|runs/{_RUN_ID}/"
        r"((manifest|summary|claim|catalogs/[0-9a-f]{8})\.json|replaced_at\.txt))"
    )
    return sorted(key for key in keys if not expected.fullmatch(key))


def unexpected_paths(target: Path, dataset: str) -> list[str]:
    """Return the unexpected files and the empty directories below a local target."""
    paths = {str(path.relative_to(target)) for path in target.rglob("*")}
    expected = paths.difference(unexpected_files(paths, [dataset], LOCAL_LEASES))
    parents = {str(parent) for name in expected for parent in Path(name).parents}
    return sorted(paths - expected - parents)


class FaultScene(ABC):
    """A run that a test disturbs, and the checks of what it leaves behind."""

    @abstractmethod
    def manifest(self) -> Manifest:
        """Return the manifest of the run."""

    @abstractmethod
    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every data file that the run wrote, by dataset, table and name."""

    @abstractmethod
    def expected_hashes(self) -> dict[str, str]:
        """Return the same of an undisturbed run on the same input."""

    @abstractmethod
    def unexpected(self) -> list[str]:
        """Return everything below the target that no run leaves there."""

    @abstractmethod
    def check_tables(self) -> None:
        """Check that readers of the catalog see the tables of an undisturbed run."""

    def check(self) -> None:
        """Check that the run ended like an undisturbed one and left nothing else behind."""
        assert self.manifest().status == "finished"
        expected = self.expected_hashes()
        assert expected
        assert self.hashes() == expected
        unexpected = self.unexpected()
        assert unexpected == [], unexpected
        self.check_tables()

    def engine_warnings(self) -> list[str]:
        """Return the warnings of the engine in the manifest."""
        warnings: list[str] = self.manifest().stages["bucket"].result["warnings"]
        return warnings
