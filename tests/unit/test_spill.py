from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.contracts import BucketJob
from bucketwheel.engines.arrow import ArrowEngine
from bucketwheel.engines.spill import SpillBuffer, spill_budget
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.scatter import scatter
from bucketwheel.settings import Settings
from bucketwheel.testing.engine_jobs import CODED, COLUMNS, bucket, with_target, write_source
from bucketwheel.testing.jobs import KEY, MemoryBlocks, digests, make_job, numbered, write_files
from kernel_jobs import people


@pytest.fixture
def job(tmp_path: Path) -> BucketJob:
    files = write_source(tmp_path / "source")
    return make_job(tmp_path / "out", files, COLUMNS, dictionary_columns=CODED, bucket_count=5)


@pytest.mark.parametrize(("memory", "buffer"), [(2**30, 0.4 * 2**30 - 2**26), (2**27, 0.1 * 2**27)])
def test_buffer_leaves_memory_to_the_process(memory: int, buffer: float) -> None:
    assert spill_budget(Settings(memory=memory)) == int(buffer)


def test_spill_opens_one_file_per_thread(job: BucketJob, tmp_path: Path) -> None:
    buffer = SpillBuffer(job, 0, tmp_path / "spill")
    before = psutil.Process().num_fds()
    dictionaries = UnifiedDictionaries()
    parts = list(scatter(job, job.slices[0], 7, dictionaries))
    for number, part in enumerate(parts):
        buffer.add(number, part)
    opened = psutil.Process().num_fds() - before
    buffer.close()
    assert len(parts) > 40
    assert opened <= 2
    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize("limit", [0, 10**9])
def test_block_reader_returns_bucket_in_slice_order(job: BucketJob, tmp_path: Path, limit: int) -> None:
    memory = MemoryBlocks().scan(job, 100)
    buffer = SpillBuffer(job, limit, tmp_path / "spill")
    order = sorted(range(len(memory.parts)), key=lambda number: (number * 7) % 11)
    for number in order:
        buffer.add(number, memory.parts[number])
    groups: list[Sequence[str]] = [[KEY], COLUMNS["codes"], COLUMNS["texts"]]
    for number in range(job.bucket_count):
        read = buffer.block_reader(number, number)
        for columns in groups:
            expected = memory.read(number, columns)
            assert [block.to_pydict() for block in read(columns)] == [block.to_pydict() for block in expected]
        assert buffer.rows()[number] == sum(block.num_rows for block in memory.read(number, [KEY]))
    assert (buffer.spilled_bytes > 0) == (limit == 0)
    buffer.close()


@pytest.mark.parametrize("limit", [0, 10**9])
def test_pass_without_columns_of_its_own_is_not_stored(tmp_path: Path, limit: int) -> None:
    files = write_files(tmp_path / "source", [people(numbered(60))], 60)
    same = make_job(tmp_path / "out", files, {"one": ["Number"], "two": ["Number"]})
    memory = MemoryBlocks().scan(same, 10)
    assert {part.groups for part in memory.parts} == {(0, 1), (2,)}
    buffer = SpillBuffer(same, limit, tmp_path / "spill")
    for number, part in enumerate(memory.parts):
        buffer.add(number, part)
    assert buffer.rows().sum() == 60
    assert sum(block.num_rows for block in buffer.block_reader(0, 3)(["Number"])) == 60
    buffer.close()


def test_spill_files_are_unlinked_and_free_their_space(job: BucketJob, tmp_path: Path) -> None:
    spill = tmp_path / "spill"

    def open_sizes() -> list[int]:
        """Bytes of the open files that were in the directory, by their descriptors."""
        links = [path for path in list(Path("/proc/self/fd").iterdir()) if path.is_symlink()]
        return [path.stat().st_size for path in links if str(spill) in str(path.readlink())]

    buffer = SpillBuffer(job, 0, spill)
    for number, part in enumerate(MemoryBlocks().scan(job, 100).parts):
        buffer.add(number, part)
    assert list(spill.iterdir()) == []
    # One to append, one to read.
    assert open_sizes() == [buffer.spilled_bytes] * 2
    buffer.close()
    assert open_sizes() == []


@pytest.mark.parametrize("limit", [0, 10**9])
def test_block_reader_returns_several_buckets(job: BucketJob, tmp_path: Path, limit: int) -> None:
    memory = MemoryBlocks().scan(job, 100)
    buffer = SpillBuffer(job, limit, tmp_path / "spill")
    for number, part in enumerate(memory.parts):
        buffer.add(number, part)
    block_table = buffer.block_reader(1, 3)([KEY])
    keys = [key for block in block_table for key in block.column(0).to_pylist()]
    for number in (1, 2, 3):
        expected = [key for block in memory.read(number, [KEY]) for key in block.column(0).to_pylist()]
        assert [key for key in keys if key in expected] == expected
    assert len(keys) == sum(part.rows(number) for part in memory.parts for number in (1, 2, 3) if 0 in part.groups)
    buffer.close()


def test_empty_buckets_have_no_blocks(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [people(pa.array([1, 3, 5, 9], pa.int32()))])
    job = make_job(tmp_path, files, {"t": ["Number"]})
    for limit in (0, 10**9):
        buffer = SpillBuffer(job, limit, tmp_path / "spill")
        for number, part in enumerate(MemoryBlocks().scan(job).parts):
            buffer.add(number, part)
        keys = [
            [block.column(0).to_pylist() for block in buffer.block_reader(number, number)([KEY])]
            for number in range(4)
        ]
        assert keys == [[], [[1, 5, 9]], [], [[3]]]
        buffer.close()


@pytest.mark.parametrize("kind", ["list", "struct", "map", "decimal", "bool", "null"])
def test_spilling_preserves_values_of_any_type(tmp_path: Path, kind: str) -> None:
    values = {
        "list": pa.array([[1, None], [], None, [2]] * 25, pa.list_(pa.int8())),
        "struct": pa.array([{"x": "", "y": None}, None] * 50, pa.struct([("x", pa.string()), ("y", pa.date32())])),
        "map": pa.array([[("a", 1.5)], [], None, []] * 25, pa.map_(pa.string(), pa.float64())),
        "decimal": pa.array([1, None] * 50, pa.int64()).cast(pa.decimal256(50, 3)),
        "bool": pa.array([True, False, None, True] * 25),
        "null": pa.nulls(100),
    }[kind]
    files = write_files(tmp_path / "source", [people(numbered(100), Value=values)], 30)
    job = make_job(tmp_path / "out", files, {"t": ["Value"]}, dictionary_columns=frozenset(["Value"]))
    other = with_target(job, "other")
    bucket(ArrowEngine(Settings()), job)
    bucket(ArrowEngine(Settings(memory=1)), other)
    assert digests(job) == digests(other)
    read = pa.concat_tables(pq.ParquetFile(path).read() for path in (tmp_path / "out" / "t").glob("*.parquet"))
    source = people(numbered(100), Value=values).sort_by(KEY)
    assert read.sort_by("customer_user_id")["value"].to_pylist() == source["Value"].to_pylist()
