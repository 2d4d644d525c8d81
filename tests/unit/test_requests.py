"""Requests to S3 by kind: the estimate against the requests that reading files sends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bucketwheel.contracts import BucketJob
from bucketwheel.engines import spark_sizing
from bucketwheel.kernel import passes
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.scatter import scatter
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.runs import requests
from bucketwheel.runs.manifest import SliceRecord
from bucketwheel.runs.requests import WrittenFiles
from bucketwheel.stages import written_bytes
from bucketwheel.storage import ranged
from bucketwheel.storage.local import LocalFiles
from bucketwheel.storage.ranged import RangedFile, RangedSource
from bucketwheel.system import system, use
from bucketwheel.testing.jobs import KEY, make_job, numbered, run_kernel, write_files
from stage_support import column, discovered, services, size

END = 64 * 2**10


class RequestedFiles(LocalFiles):
    """Local files that are read in requests, like objects on S3."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []

    def open(self, path: str, version: str = "", _end_bytes: int = 0) -> pa.NativeFile:
        self.check_version(path, version)
        content = Path(path).read_bytes()
        end = content[-max(_end_bytes, END) :]

        def read(offset: int, length: int) -> bytes:
            self.sent.append((offset, length))
            return content[offset : offset + length]

        self.sent.append((len(content) - len(end), len(end)))
        return RangedFile(RangedSource(len(content), end, read), mode="r")


def numbers(rows: int, columns: int) -> pa.Table:
    random = np.random.default_rng(5)
    return pa.table({KEY: numbered(rows), **{f"c{number}": random.random(rows) for number in range(columns)}})


def test_limits_are_those_of_storage_kernel_and_engine() -> None:
    s3, s3_upload = (pytest.importorskip(f"bucketwheel.storage.{name}") for name in ("s3", "s3_upload"))
    assert requests._END == s3._END == END
    assert requests._REQUEST == ranged._REQUEST == s3_upload._PART
    assert requests._SAMPLE == written_bytes._TOTAL
    assert (requests._JOINED_ROWS, requests._JOINED_SLICES) == (passes.JOINED_ROWS, passes._MAX_OPEN)
    assert requests._BATCH_BYTES == spark_sizing.BATCH_BYTES


def test_estimate_of_wide_slice_equals_requests_of_scatter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, tables, width, batch = 1000, 12, 50, 260
    table = numbers(rows, tables * width)
    paths = write_files(tmp_path / "in", [table], rows, use_dictionary=False)
    names = table.column_names[1:]
    mapping = {f"t{number}": names[number * width : (number + 1) * width] for number in range(tables)}
    job = make_job(tmp_path / "out", paths, mapping, decoded_bytes_per_row=8 * len(names))
    files = RequestedFiles()
    with use(replace(system(), storages={"file": lambda _: files})):
        parts = list(scatter(job, job.slices[0], batch, UnifiedDictionaries()))
    assert [part.batch.num_rows for part in parts] == [rows] * 4
    # Footer and its rest, then 4 passes of three tables.
    assert len(files.sent) == 2 + 4
    # Without neighbors, and with this memory.
    monkeypatch.setattr(requests, "_JOINED_SLICES", 1)
    monkeypatch.setattr(requests, "_BATCH_BYTES", batch * 8 * len(names))
    snapshot = discovered([column("Key"), *(column(name, 8 * rows) for name in names)], [[rows]])
    one = size(snapshot)
    sizes = one.model_copy(update={"decoded_bytes_per_row": 8 * len(names), "tables": one.tables * tables})
    part = SliceRecord(index=0, file=0, first_row_group=0, row_groups=1, rows=rows)
    spark = services(engine="spark").settings
    assert requests._opening(snapshot, 1) == 2
    assert requests._reads_of_slice(spark, snapshot, sizes, part) == 4


@pytest.mark.parametrize("group_rows", [(30_000, 30_000), (7_000, 5_000)])
def test_estimate_of_verify_equals_its_requests(tmp_path: Path, group_rows: tuple[int, int]) -> None:
    job, rows = two_tables(tmp_path, group_rows), 20_000
    (outcome,) = run_kernel(job)
    files = RequestedFiles()
    with use(replace(system(), storages={"file": lambda _: files})):
        assert verify_bucket(job, outcome).rows == rows
    expected = 0
    for table, file in zip(job.tables, outcome.files, strict=True):
        groups = -(-rows // table.row_group_rows)
        written = WrittenFiles(1, file.bytes, groups, 8 * rows, table is job.tables[0] or groups > 1)
        expected += requests._reads_of_file(written, 1)
    assert len(files.sent) == expected


def test_small_files_are_read_when_they_are_opened(tmp_path: Path) -> None:
    job = make_job(tmp_path / "out", write_files(tmp_path / "in", [numbers(100, 2)]), {"a": ["c0"], "b": ["c1"]})
    outcomes = run_kernel(job)
    files = RequestedFiles()
    with use(replace(system(), storages={"file": lambda _: files})):
        for outcome in outcomes:
            verify_bucket(job, outcome)
    sizes = [WrittenFiles(1, 1000, 1, 100, decoded) for decoded in (True, False)]
    assert len(files.sent) == len(outcomes) * sum(requests._reads_of_file(part, 1) for part in sizes)


def two_tables(directory: Path, group_rows: tuple[int, int]) -> BucketJob:
    table = numbers(20_000, 7)
    paths = write_files(directory / "in", [table], 20_000)
    mapping: dict[str, Any] = {"a": ["c0", "c1", "c2"], "b": ["c3", "c4", "c5", "c6"]}
    job = make_job(directory / "out", paths, mapping, bucket_count=1)
    tables = (replace(table, row_group_rows=rows) for table, rows in zip(job.tables, group_rows, strict=True))
    return replace(job, tables=tuple(tables))


def test_engine_without_passes_reads_each_slice_once() -> None:
    snapshot = discovered([column("Key"), column("A", 33 * 2**20)], [[1000]])
    part = SliceRecord(index=0, file=0, first_row_group=0, row_groups=1, rows=1000)
    sizes = size(snapshot).model_copy(update={"decoded_bytes_per_row": 10**6, "tables": size(snapshot).tables * 3})
    reads = {
        engine: requests._reads_of_slice(services(engine=engine).settings, snapshot, sizes, part)
        for engine in ("arrow", "spark")
    }
    # 33 MiB and the keys, in requests of 8 MiB; in 3 passes, 2 each.
    assert reads == {"arrow": 5, "spark": 6}
