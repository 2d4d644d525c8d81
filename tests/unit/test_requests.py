"""Requests to S3 by kind: the estimate against the requests that reading files sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.contracts import BucketJob, Slice
from bucketwheel.engines import spark_sizing
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.key_overlap import KeyFiles, compare_bucket
from bucketwheel.kernel.passes import Widths
from bucketwheel.kernel.scatter import scatter_slices
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.runs.manifest import ColumnMapping, DiscoverResult, SizeResult, SplitResult, TableColumns
from bucketwheel.stages import requests
from bucketwheel.stages.decoded_bytes import decoded_bytes
from bucketwheel.stages.requests import WrittenFiles
from bucketwheel.stages.scan_requests import ScanRequests
from bucketwheel.storage import ranged
from bucketwheel.storage.local import LocalFiles
from bucketwheel.storage.ranged import END_BYTES, REQUEST_BYTES, RangedFile, RangedSource
from bucketwheel.system import system, use
from bucketwheel.testing.jobs import KEY, make_job, numbered, run_kernel, write_files
from stage_support import column, discovered, services, size


class RequestedFiles(LocalFiles):
    """Local files that are read in requests, like objects on S3."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []

    def open(self, path: str, version: str = "", _end_bytes: int = 0) -> pa.NativeFile:
        self.check_version(path, version)
        content = Path(path).read_bytes()
        end = content[-max(_end_bytes, END_BYTES) :]

        def read(offset: int, length: int) -> bytes:
            self.sent.append((offset, length))
            return content[offset : offset + length]

        self.sent.append((len(content) - len(end), len(end)))
        return RangedFile(RangedSource(len(content), end, read), mode="r")


def numbers(rows: int, columns: int) -> pa.Table:
    random = np.random.default_rng(5)
    return pa.table({KEY: numbered(rows), **{f"c{number}": random.random(rows) for number in range(columns)}})


def test_requests_for_parts_of_uploads_are_as_large_as_those_of_reads() -> None:
    s3_upload = pytest.importorskip("bucketwheel.storage.s3_upload")
    assert s3_upload._PART == REQUEST_BYTES


@dataclass(frozen=True)
class Source:
    """Files of numbers, the job that reads them, and what `plan` knows of both."""

    job: BucketJob
    snapshot: DiscoverResult
    split: SplitResult
    size: SizeResult


def source(directory: Path, files: Sequence[pa.Table], group_rows: int, mapping: dict[str, list[str]]) -> Source:
    written = write_files(directory / "in", files, group_rows, use_dictionary=False, compression="none")
    paths = [str(path) for path in written]
    names = files[0].column_names
    footers = [pq.read_metadata(path) for path in paths]
    groups = [[footer.row_group(n).num_rows for n in range(footer.num_row_groups)] for footer in footers]
    sizes = dict.fromkeys(names, 0)
    for footer in footers:
        for group, (number, name) in product(range(footer.num_row_groups), enumerate(names)):
            sizes[name] += footer.row_group(group).column(number).total_compressed_size
    types = {KEY: files[0].schema.field(KEY).type, **dict.fromkeys(names[1:], pa.float64())}
    columns = [column(name, sizes[name], uncompressed_bytes=sizes[name]) for name in names]
    snapshot = discovered(columns, groups, types, keys=(KEY,))
    with_bytes = (
        file.model_copy(update={"path": path, "bytes": Path(path).stat().st_size})
        for file, path in zip(snapshot.files, paths, strict=True)
    )
    snapshot = snapshot.model_copy(update={"files": tuple(with_bytes)})
    tables = tuple(
        TableColumns(name=name, columns=tuple(ColumnMapping(source=part, name=part) for part in parts))
        for name, parts in mapping.items()
    )
    parts = SplitResult(keys=(ColumnMapping(source=KEY, name=KEY),), tables=tables, unmapped=(), mapping_sha256=None)
    decoded = decoded_bytes(snapshot)
    sizes_of = size(snapshot, buckets__count=4)
    widths = {name: sum(decoded[part] for part in parts) for name, parts in mapping.items()}
    job = make_job(directory / "out", written, mapping, decoded_bytes_per_row=sizes_of.decoded_bytes_per_row)
    job = replace(job, tables=tuple(replace(t, decoded_bytes_per_row=widths[t.name]) for t in job.tables))
    slices = tuple(
        Slice(
            part.index,
            paths[part.file],
            tuple(range(part.first_row_group, part.first_row_group + part.row_groups)),
            part.rows,
        )
        for part in sizes_of.slices
    )
    return Source(replace(job, slices=slices), snapshot, parts, sizes_of)


def mapped(tables: int, width: int, alternating: bool = False) -> dict[str, list[str]]:
    """Return tables of equal width, of neighboring columns or of every n-th."""
    names = [f"c{number}" for number in range(tables * width)]
    return {f"t{n}": names[n::tables] if alternating else names[n * width : (n + 1) * width] for n in range(tables)}


@pytest.mark.parametrize(
    ("files", "rows", "group_rows", "tables", "batch", "tasks", "alternating"),
    [
        # 13 tables in passes of 3, though 4 passes would do for their bytes.
        pytest.param(1, 1000, 1000, 13, 260, 1, False, id="one slice"),
        pytest.param(5, 600, 600, 13, 400, 2, False, id="joined slices of two tasks"),
        pytest.param(2, 1200, 400, 5, 500, 2, False, id="row groups"),
        pytest.param(2, 4000, 4000, 8, 900, 2, True, id="tables alternate"),
        pytest.param(3, 100, 100, 2, 10**6, 1, False, id="small files"),
    ],
)  # fmt: skip
def test_estimate_of_scan_equals_requests_of_scatter_tasks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: int, rows: int, group_rows: int, tables: int, batch: int, tasks: int, alternating: bool,
) -> None:  # fmt: skip
    width = 40
    contents = [numbers(rows, tables * width)] * files
    made = source(tmp_path, contents, group_rows, mapped(tables, width, alternating))
    monkeypatch.setattr(spark_sizing, "scatter_rows", lambda _: batch)
    monkeypatch.setattr(spark_sizing, "tasks_for", lambda *_: tasks)
    # Small files stand for large ones.
    monkeypatch.setattr(ranged, "REQUEST_BYTES", 100_000)
    monkeypatch.setattr(ranged, "_HOLE", 5_000)
    sent = RequestedFiles()
    plans = list(spark_sizing.scatter_plans(Widths.of(made.job), made.job.slices, tasks))
    with use(replace(system(), storages={"file": lambda _: sent})):
        for parts, plan in plans:
            batches = list(scatter_slices(made.job, parts, batch, UnifiedDictionaries()))
            assert len({part.groups for part in batches}) == len(plan.passes)
    settings = services(engine="spark").settings
    assert ScanRequests(settings, made.snapshot, made.split, made.size).number() == len(sent.sent)


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
        written = WrittenFiles(1, file.bytes, 5, groups, 8 * rows, table is job.tables[0] or groups > 1)
        expected += requests._reads_of_file(written, 1)
    assert len(files.sent) == expected


def test_small_files_are_read_when_they_are_opened(tmp_path: Path) -> None:
    job = make_job(tmp_path / "out", write_files(tmp_path / "in", [numbers(100, 2)]), {"a": ["c0"], "b": ["c1"]})
    outcomes = run_kernel(job)
    files = RequestedFiles()
    with use(replace(system(), storages={"file": lambda _: files})):
        for outcome in outcomes:
            verify_bucket(job, outcome)
    sizes = [WrittenFiles(1, 1000, 2, 1, 100, decoded) for decoded in (True, False)]
    assert len(files.sent) == len(outcomes) * sum(requests._reads_of_file(part, 1) for part in sizes)


def two_tables(directory: Path, group_rows: tuple[int, int]) -> BucketJob:
    table = numbers(20_000, 7)
    paths = write_files(directory / "in", [table], 20_000)
    mapping: dict[str, Any] = {"a": ["c0", "c1", "c2"], "b": ["c3", "c4", "c5", "c6"]}
    job = make_job(directory / "out", paths, mapping, bucket_count=1)
    tables = (replace(table, row_group_rows=rows) for table, rows in zip(job.tables, group_rows, strict=True))
    return replace(job, tables=tuple(tables))


def test_engine_without_passes_reads_each_slice_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = source(tmp_path, [numbers(1000, 13 * 40)], 1000, mapped(13, 40))
    monkeypatch.setattr(spark_sizing, "scatter_rows", lambda _: 260)
    number = {
        engine: ScanRequests(services(engine=engine).settings, made.snapshot, made.split, made.size).number()
        for engine in ("arrow", "spark")
    }
    # The footer and its rest; 4 MB at once, or in passes of three tables and one of the last.
    assert number == {"arrow": 2 + 1, "spark": 2 + 5}


def test_estimate_of_compared_keys_equals_requests(tmp_path: Path) -> None:
    job = two_tables(tmp_path, (30_000, 7_000))
    (outcome,) = run_kernel(job)
    files = RequestedFiles()
    names = {table.name: table for table in job.tables}
    sent = []
    with use(replace(system(), storages={"file": lambda _: files})):
        for record in outcome.files:
            table = names[record.table]
            keys = KeyFiles(job.storage, (f"{table.directory}/{record.name}",), (job.keys[0][1],), job.hash)
            for parts in (1, 2):
                files.sent.clear()
                compare_bucket(keys, keys, parts)
                groups = -(-outcome.rows // table.row_group_rows)
                written = WrittenFiles(1, record.bytes, 5, groups, 8 * outcome.rows, False)
                sent.append((len(files.sent), 2 * parts * requests._reads_of_keys(written)))
    assert [counted for counted, _ in sent] == [estimated for _, estimated in sent]
    assert {counted for counted, _ in sent} == {4, 8, 16}
