"""Reads from S3: number of requests, bytes transferred and failures."""

from __future__ import annotations

import io
import os
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults.proxy import Answered, FaultProxy, Request

from bucketwheel.contracts import BucketJob, Slice, TableLayout
from bucketwheel.errors import SourceChangedError, StorageError, UnreadableFilesError
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.scatter import chunk_ranges, scatter
from bucketwheel.sample import Sample
from bucketwheel.settings import StorageSettings
from bucketwheel.stages.footers import _Ends, read_footers
from bucketwheel.storage import Storage, fetch, ranged
from s3_support import Bucket

ROWS, GROUPS = 60_000, 3
COLUMNS = ("c3", "c4", "c9")


@pytest.fixture(scope="module")
def content() -> bytes:
    """A file with 20 columns of random numbers and 3 row groups, about 160 kB per column chunk."""
    numbers = np.random.default_rng(1)
    columns: dict[str, Any] = {"key": [f"person {number:08d}" for number in range(ROWS)]}
    columns |= {f"c{number}": numbers.integers(0, 2**62, ROWS) for number in range(20)}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=ROWS // GROUPS, use_dictionary=False)
    return sink.getvalue()


def job(path: str) -> tuple[BucketJob, Slice]:
    schema = pa.schema([("key", pa.string()), *((name, pa.int64()) for name in COLUMNS)]).serialize().to_pybytes()
    table = TableLayout("t", f"{path}-out", tuple((name, name) for name in COLUMNS), ROWS, schema)
    bucket_job = BucketJob(
        storage=StorageSettings(),
        slices=(),
        keys=(("key", "key"),),
        tables=(table,),
        bucket_count=4,
        hash="hive_v1",
        sort=True,
        max_file_bytes=2**30,
        page_bytes=2**18,
        dictionary_columns=frozenset(),
        decoded_bytes_per_row=100,
        scratch=f"{path}-scratch",
    )
    return bucket_job, Slice(0, path, tuple(range(GROUPS)), ROWS)


def rows_of(path: str, max_rows: int = 10**9) -> pa.Table:
    bucket_job, part = job(path)
    return pa.Table.from_batches([one.batch for one in scatter(bucket_job, part, max_rows, UnifiedDictionaries())])


def reads(answered: list[Answered]) -> list[Answered]:
    return [one for one in answered if one.request.method == "GET"]


def needed(content: bytes) -> int:
    metadata = pq.read_metadata(io.BytesIO(content))
    ranges = chunk_ranges(metadata, range(GROUPS), {"key", *COLUMNS})
    return sum(length for _, length in ranges)


def test_scatter_sends_one_request_per_footer_and_column_run(
    bucket: Bucket, proxy: FaultProxy, content: bytes, tmp_path: Path
) -> None:
    bucket.put("in/x.parquet", content)
    local = tmp_path / "x.parquet"
    local.write_bytes(content)
    rows = rows_of(bucket.uri("in/x.parquet"))
    assert rows.equals(rows_of(str(local)))
    # One request each in every row group: the key; c3 and c4, which are adjacent; c9.
    assert len(reads(proxy.answered)) == 1 + 3 * GROUPS
    assert {one.request.method for one in proxy.answered} == {"GET"}
    transferred = sum(one.bytes for one in proxy.answered)
    assert needed(content) < len(content) / 4
    assert transferred < needed(content) * 1.05 + 64 * 2**10


def test_scatter_in_small_batches_sends_no_more_requests(bucket: Bucket, proxy: FaultProxy, content: bytes) -> None:
    bucket.put("in/x.parquet", content)
    rows = rows_of(bucket.uri("in/x.parquet"), max_rows=7_000)
    assert rows.num_rows == ROWS
    assert len(reads(proxy.answered)) == 1 + 3 * GROUPS


def test_footers_are_read_in_one_request_each(bucket: Bucket, storage: Storage, proxy: FaultProxy) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": range(10)}), sink)
    for number in range(9):
        bucket.put(f"in/{number}.parquet", sink.getvalue())
    footers = read_footers(storage, storage.list(bucket.uri("in")))
    assert sum(footer.rows for footer in footers) == 90
    # The first lists.
    assert len(reads(proxy.answered)) == 1 + 9


def test_long_footers_take_one_request_once_their_length_is_known(
    bucket: Bucket, storage: Storage, proxy: FaultProxy
) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({f"column_{number}": [number] for number in range(900)}), sink)
    for number in range(4):
        bucket.put(f"in/{number}.parquet", sink.getvalue())
    entries = storage.list(bucket.uri("in"))
    (files,) = _Ends(storage).read(entries)
    length = int.from_bytes(sink.getvalue()[-8:-4], "little") + 8
    assert {len(end[0]) for _, end in files} == {length}
    assert length > 2 * 64 * 2**10
    # The first lists, and the first file takes two.
    assert len(reads(proxy.answered)) == 1 + 2 + 3


def test_large_ranges_are_split_into_parallel_requests(
    bucket: Bucket, proxy: FaultProxy, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("in/x.parquet", content)
    monkeypatch.setattr(ranged, "REQUEST_BYTES", 100_000)
    before = rows_of(bucket.uri("in/x.parquet"))
    assert len(reads(proxy.answered)) > 1 + 4 * GROUPS
    monkeypatch.undo()
    assert before.num_rows == ROWS


def test_merged_groups_only_close_ranges() -> None:
    hole = ranged._HOLE
    assert ranged.merged([(10, 5), (0, 10)]) == [[(0, 10), (10, 5)]]
    assert ranged.merged([(0, 10), (10 + hole, 5)]) == [[(0, 10), (10 + hole, 5)]]
    assert ranged.merged([(0, 10), (11 + hole, 5)]) == [[(0, 10)], [(11 + hole, 5)]]
    assert ranged.merged([(0, 100), (10, 5), (101 + hole, 1)]) == [[(0, 100), (10, 5)], [(101 + hole, 1)]]
    assert ranged.merged([]) == []


@pytest.mark.parametrize("size", [0, 1, 64 * 2**10 - 1, 64 * 2**10, 64 * 2**10 + 1, 300_000])
def test_read_returns_any_range_of_any_file_size(storage: Storage, bucket: Bucket, size: int) -> None:
    content, draw = os.urandom(size), random.Random(size)
    bucket.put("x", content)
    with storage.open(bucket.uri("x")) as stream:
        assert stream.size() == size
        ranges = [(start, draw.randint(0, size - start)) for start in (draw.randint(0, size) for _ in range(5))]
        fetch(stream, lambda: [(start, length) for start, length in ranges if length])
        for start, length in ranges * 2 + [(0, size), (size, 0)]:
            stream.seek(start)
            assert stream.read(length) == content[start : start + length]
        stream.seek(0)
        assert stream.read() == content
        assert stream.read(1) == b""


@pytest.mark.parametrize("kind", ["cut", "reset", "503", "500", "lost"])
def test_interrupted_reads_are_retried(bucket: Bucket, proxy: FaultProxy, content: bytes, kind: str) -> None:
    bucket.put("in/x.parquet", content)
    seen: set[str] = set()

    def plan(request: Request) -> str | None:
        part = request.headers.get("range", "")
        known = part in seen
        seen.add(part)
        return None if known else kind

    proxy.plan = plan
    assert rows_of(bucket.uri("in/x.parquet")).num_rows == ROWS
    assert sum(one.fault == kind for one in proxy.answered) == 1 + 3 * GROUPS


def test_repeatedly_interrupted_read_names_file(bucket: Bucket, proxy: FaultProxy, content: bytes) -> None:
    bucket.put("in/x.parquet", content)
    proxy.plan = lambda _: "cut"
    with pytest.raises(StorageError, match=rf"s3://{bucket.name}/in/x.parquet: the read was interrupted 8 times"):
        rows_of(bucket.uri("in/x.parquet"))


def test_read_fails_when_file_is_replaced(bucket: Bucket, proxy: FaultProxy, content: bytes) -> None:
    bucket.put("in/x.parquet", content)

    def plan(request: Request) -> str | None:
        if "if-match" in request.headers:
            bucket.put("in/x.parquet", content[::-1])
        return None

    proxy.plan = plan
    with pytest.raises(StorageError, match=r"x\.parquet: another writer replaced or deleted it during the read; run"):
        rows_of(bucket.uri("in/x.parquet"))


@pytest.mark.parametrize("moment", ["before", "during"])
def test_scatter_refuses_an_object_replaced_since_it_was_listed(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, content: bytes, moment: str
) -> None:
    bucket.put("in/x.parquet", content)
    (entry,) = storage.list(bucket.uri("in"))
    bucket_job, part = job(entry.location)
    part = replace(part, version=entry.version)
    assert sum(one.batch.num_rows for one in scatter(bucket_job, part, ROWS, UnifiedDictionaries())) == ROWS
    assert all("if-match" in one.request.headers for one in reads(proxy.answered) if one.request.key)

    replaced = threading.Lock()

    def plan(request: Request) -> str | None:
        at_end = request.headers.get("range", "").startswith("bytes=-")
        # Once: the server may fail requests that it answers while the object is replaced again and again.
        if at_end == (moment == "before") and replaced.acquire(blocking=False):
            bucket.put("in/x.parquet", content[::-1])
        return None

    seen = len(proxy.answered)
    proxy.plan = plan
    with pytest.raises(SourceChangedError, match=rf"^{entry.location}: was replaced or rewritten during the run; "):
        list(scatter(bucket_job, part, ROWS, UnifiedDictionaries()))
    # Refused requests are not repeated.
    ranges = [one.request.headers["range"] for one in reads(proxy.answered[seen:])]
    assert len(ranges) == len(set(ranges))


def test_damaged_page_names_row_group_and_column(bucket: Bucket, content: bytes) -> None:
    metadata = pq.read_metadata(io.BytesIO(content))
    chunk = metadata.row_group(1).column(metadata.schema.names.index("c4"))
    damaged = bytearray(content)
    damaged[chunk.data_page_offset : chunk.data_page_offset + 200] = b"\xff" * 200
    bucket.put("in/x.parquet", bytes(damaged))
    with pytest.raises(UnreadableFilesError, match=r"in/x\.parquet: row group 1, column 'c4' cannot be read"):
        rows_of(bucket.uri("in/x.parquet"))


def test_missing_object_is_named(storage: Storage, bucket: Bucket) -> None:
    with pytest.raises(FileNotFoundError):
        storage.open(bucket.uri("x"))
    with pytest.raises(StorageError, match=r"/x: cannot read: it does not exist"):
        storage.read(bucket.uri("x"))
    with pytest.raises(StorageError, match=r"/x: cannot open: it does not exist"):
        rows_of(bucket.uri("x"))


def test_plan_reads_end_of_file_and_only_doubtful_columns(
    bucket: Bucket, proxy: FaultProxy, content: bytes, tmp_path: Path, clean: Sample
) -> None:
    bucket.put("in/numbers/snapshot_dt=2025-10-22/x.parquet", content)
    project = bucket.project(tmp_path / "p", clean)
    project.set(datasets={"numbers": {"source": bucket.uri("in/numbers"), "key": "key"}})
    seen = len(proxy.answered)
    assert project.cli("plan", "numbers").exit_code == 0
    files = [one for one in reads(proxy.answered[seen:]) if one.request.key.endswith("x.parquet")]
    # Stages discover and size read the end of the file; random numbers have the same size in a bucket, so the sample
    # needs the key only.
    assert len(files) == 3
    assert sum(one.bytes for one in files) < len(content) / 4
