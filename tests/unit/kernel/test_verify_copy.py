"""Verification of tables that a SQL engine wrote."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.errors import ExecutorError, VerificationError
from bucketwheel.kernel.checksum import add
from bucketwheel.kernel.layout import buckets_of_files
from bucketwheel.kernel.verify_copy import ExpectedKeys, verify_copy
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage
from bucketwheel.testing.jobs import files_of, make_job, numbered, run_kernel, write_files
from kernel_jobs import people

STORAGE = Storage(StorageSettings())
NAME = "customer_user_id"
COUNT = 3


@dataclass
class Copy:
    """Files in true buckets, and what is known of their keys."""

    directory: Path
    keys: ExpectedKeys
    rows: int
    checksum: int

    def read(self) -> tuple[int, int]:
        return verify_copy(STORAGE, str(self.directory), self.keys)

    def refused(self) -> str:
        with pytest.raises(VerificationError) as caught:
            self.read()
        return str(caught.value)


def copy_in(directory: Path, keys: pa.Array, scheme: str = "hive_v1") -> Copy:
    files = write_files(directory / "source", [people(keys)])
    job = make_job(directory, files, {"t": ["Number"]}, bucket_count=COUNT, hash=scheme, row_group_rows=5)
    outcomes = run_kernel(job)
    place = directory / "copy"
    place.mkdir()
    for path in files_of(job, "t"):
        shutil.copy(path, place / Path(path).name.replace(".snappy.parquet", "_by_an_engine"))
    checksum = 0
    for outcome in outcomes:
        checksum = add(checksum, outcome.key_checksum)
    return Copy(place, ExpectedKeys({NAME: keys.type}, COUNT, scheme), len(keys), checksum)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return copy_in(tmp_path, numbered(60))


@pytest.mark.parametrize("scheme", ["hive_v1", "hive_v2"])
@pytest.mark.parametrize(
    "keys",
    [
        pa.array(["", "José", "天地", None, *numbered(40).to_pylist()]),
        pa.array(["a", "b"] * 20).dictionary_encode(),
        pa.array([-42, None, 0, *range(300, 340)], pa.int16()),
        pa.array([True, None, False]),
        pa.array([-1, 2**40], pa.int64()),
        pa.array([-719_000, 20_000], pa.date32()),
    ],
    ids=lambda keys: str(keys.type),
)
def test_verify_copy_returns_rows_and_checksum(tmp_path: Path, keys: pa.Array, scheme: str) -> None:
    copy = copy_in(tmp_path, keys, scheme)
    assert copy.read() == (copy.rows, copy.checksum)


def test_verify_copy_ignores_hidden_files(copy: Copy) -> None:
    (copy.directory / "_SUCCESS").touch()
    (copy.directory / ".crc").touch()
    assert copy.read() == (copy.rows, copy.checksum)


def test_verify_copy_hashes_integers_in_catalog_width(tmp_path: Path) -> None:
    copy = copy_in(tmp_path, pa.array([-42, 7, 300, -300], pa.int16()), "hive_v2")
    for path in copy.directory.iterdir():
        table = pq.read_table(path)
        pq.write_table(table.set_column(0, NAME, table[NAME].cast(pa.int32())), path)
    assert copy.read() == (copy.rows, copy.checksum)


def test_verify_copy_error_names_misplaced_row(copy: Copy) -> None:
    paths = {bucket: copy.directory / f"{bucket:06d}_0_by_an_engine" for bucket in range(COUNT)}
    ours, theirs = pq.read_table(paths[0]), pq.read_table(paths[1])
    assert ours.num_rows > 10
    pq.write_table(pa.concat_tables([ours, theirs.slice(0, 1)]), paths[0], row_group_size=4)
    assert copy.refused() == (
        f"{paths[0]}: bucket 0: row {ours.num_rows} belongs to bucket 1 by its key (1 such row)"
    )


def test_verify_copy_detects_other_hash(copy: Copy) -> None:
    copy.keys = ExpectedKeys(copy.keys.types, COUNT, "hive_v2")
    assert "belongs to bucket" in copy.refused()


def test_verify_copy_error_names_unreadable_file(copy: Copy) -> None:
    path = copy.directory / "000001_0_by_an_engine"
    pq.write_table(pa.table({"other": [1]}), path)
    assert f"{path}: the keys cannot be read back" in copy.refused()
    path.write_bytes(b"")
    assert f"{path}: the keys cannot be read back" in copy.refused()
    path.unlink()
    pq.write_table(pa.table({NAME: pa.array([[1]])}), path)
    assert f"{path}: the keys cannot be read back" in copy.refused()


def test_verify_copy_rejects_directory(copy: Copy) -> None:
    (copy.directory / "more").mkdir()
    assert copy.refused() == f"{copy.directory}/more: directory in a bucketed table, which readers reject"


def test_verify_copy_without_buckets_ignores_names(copy: Copy) -> None:
    for number, path in enumerate(sorted(copy.directory.iterdir(), reverse=True)):
        path.rename(path.with_name(f"part-{number}"))
    copy.keys = ExpectedKeys(copy.keys.types, 0, "hive_v1")
    assert copy.read() == (copy.rows, copy.checksum)


def test_verify_copy_stops_when_callback_raises(copy: Copy) -> None:
    def stop() -> None:
        raise ExecutorError("enough")

    with pytest.raises(ExecutorError, match="enough"):
        verify_copy(STORAGE, str(copy.directory), copy.keys, stop)


def test_buckets_of_files_matches_readers() -> None:
    named = ["000002_0", "000000_0_copy_1", "20240101_120000_00001_abcde_bucket-00001"]
    assert buckets_of_files("d", named, 3, "hive_v1") == dict(zip(named, [2, 0, 1], strict=True))
    assert buckets_of_files("d", ["000002_0"], 3, "hive_v1") == {"000002_0": 2}
    # Not one that could not stand for a bucket: then readers go by the order of all.
    assert buckets_of_files("d", ["b", "a", "000007_0"], 3, "hive_v1") == {"000007_0": 0, "a": 1, "b": 2}


@pytest.mark.parametrize(
    ("names", "scheme", "text"),
    [
        (["000003_0"], "hive_v1", "d/000003_0: readers find bucket 3 in this name, but the bucket count is 3"),
        (
            ["20240101_120000_00001_abcde_x"],
            "hive_v1",
            "find bucket 20240101 in this name, but the bucket count is 3",
        ),
        (
            ["a", "b"],
            "hive_v1",
            "d/a: readers find no bucket number in this name, and the directory has 2 files, not 3 ",
        ),
        (["a", "b", "c"], "spark", "d/a: readers find no bucket number in this name"),
    ],
)
def test_buckets_of_files_rejects_names_that_readers_reject(names: list[str], scheme: str, text: str) -> None:
    with pytest.raises(VerificationError, match=text):
        buckets_of_files("d", names, 3, scheme)
