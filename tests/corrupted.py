"""A bucket that was written well, and ways to spoil it, for tests of what verify finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.contracts import BucketCheck, BucketJob
from bucketwheel.errors import VerificationError
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.kernel.write import writer_options
from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.testing.jobs import KEY, make_job, numbered, run_kernel, write_files

BUCKET = 2
NAME = f"{BUCKET:06d}_0.snappy.parquet"


@dataclass
class Written:
    """A bucket of a job on `source`."""

    job: BucketJob
    outcome: BucketOutcome

    def path(self, table: str, name: str = NAME) -> Path:
        return Path(next(t.directory for t in self.job.tables if t.name == table)) / name

    def read(self, table: str) -> pa.Table:
        return pq.ParquetFile(self.path(table)).read()

    def rewrite(self, table: str, change: Callable[[pa.Table], pa.Table]) -> None:
        """Put other content into a file, and record it as if it had been meant."""
        content = change(self.read(table))
        layout = next(t for t in self.job.tables if t.name == table)
        pq.write_table(content, self.path(table), **writer_options(self.job, layout))
        self.record(table, rows=content.num_rows, bytes=self.path(table).stat().st_size)

    def record(self, table: str, **changes: Any) -> None:
        files = [f.model_copy(update=changes) if f.table == table else f for f in self.outcome.files]
        self.outcome = self.outcome.model_copy(update={"files": tuple(files)})

    def verify(self) -> BucketCheck:
        return verify_bucket(self.job, self.outcome)

    def refused(self) -> str:
        with pytest.raises(VerificationError) as caught:
            self.verify()
        assert str(BUCKET) in str(caught.value)
        return str(caught.value)


def source(rows: int = 400) -> pa.Table:
    values = {"One": pa.array(range(rows)), "Two": numbered(rows, rows), "Three": numbered(rows, 3 * rows)}
    return pa.table({KEY: numbered(rows), **values})


TABLES = {"first": ["One", "Two"], "second": ["Three"]}


def written(directory: Path, table: pa.Table, **changes: Any) -> Written:
    job = make_job(directory, write_files(directory / "source", [table]), TABLES, **changes)
    return Written(job, run_kernel(job)[BUCKET])
