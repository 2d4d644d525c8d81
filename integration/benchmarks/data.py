"""Create sample data once for each number of rows and keep it below the build directory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .measure import ROOT, bucketwheel, environment, require_disk

TABLES, COLUMNS, FILES = 8, 15, 8
_BYTES_A_ROW = 450
_TIMEOUT = 1800
_BLOCK = 1 << 24


@dataclass(frozen=True)
class Data:
    """One snapshot with its mapping, in the layout of `bucketwheel sample`."""

    directory: str
    rows: int
    bytes: int
    files: int

    @property
    def source(self) -> str:
        """Value of the setting `source` of the dataset."""
        return f"{self.directory}/opus/infobase_attributes/raw_input"

    @property
    def mapping(self) -> str:
        """Value of the setting `mapping` of the dataset."""
        return f"{self.directory}/opus/infobase_attributes/mapping.csv"

    def warm(self) -> None:
        """Read all files once, so that no peer pays for the disk."""
        for path in Path(self.source).rglob("*.parquet"):
            with path.open("rb", buffering=0) as stream:
                while stream.read(_BLOCK):
                    pass

    def record(self) -> dict[str, Any]:
        """Return what the JSON file keeps."""
        return asdict(self)


def existing(directory: Path) -> Data:
    """Describe existing data."""
    return _data(directory, _count_rows(directory))


def sample(rows: int, build: Path) -> Data:
    """Return data with that many rows; create it if it does not exist yet."""

    def write(place: Path) -> None:
        options = {"rows": rows, "tables": TABLES, "columns": COLUMNS, "files": FILES}
        flags = [f"--{name}={value}" for name, value in options.items()]
        run_writer([*bucketwheel(), "sample", str(place), *flags], stdout=subprocess.DEVNULL)
        shutil.rmtree(place / "opus" / "addressable_ids")

    return _data(created(str(rows), rows, _BYTES_A_ROW, build, write), rows)


def created(name: str, rows: int, row_bytes: int, build: Path, write: Callable[[Path], None]) -> Path:
    """Return the directory of kept data; if it does not exist yet, `write` fills it, all or nothing."""
    kept = build / "bench-data" / name
    if not kept.exists():
        print(f"making {rows:,} rows in {kept}", file=sys.stderr)
        partial = kept.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            require_disk(partial, rows * row_bytes)
            write(partial)
            partial.rename(kept)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return kept


def run_writer(command: Sequence[str], stdout: int | None = None) -> None:
    """Run a program that writes data."""
    subprocess.run(command, check=True, cwd=ROOT, env=environment(), timeout=_TIMEOUT, stdout=stdout)


def _data(directory: Path, rows: int) -> Data:
    files = list((directory / "opus" / "infobase_attributes" / "raw_input").rglob("*.parquet"))
    return Data(str(directory.resolve()), rows, sum(path.stat().st_size for path in files), len(files))


def _count_rows(directory: Path) -> int:
    # In a process of its own: pyarrow must not be loaded here, see `measure`.
    program = (
        "import sys, pyarrow.parquet as pq; from pathlib import Path; "
        "print(sum(pq.read_metadata(p).num_rows for p in Path(sys.argv[1]).rglob('*.parquet')))"
    )
    source = directory / "opus" / "infobase_attributes" / "raw_input"
    command = [sys.executable, "-c", program, str(source)]
    rows = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT).stdout)
    if not rows:
        raise SystemExit(f"--data {directory}: no rows below {source}; make data with `bucketwheel sample`")
    return rows
