from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.errors import StorageError, UnreadableFilesError
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.sample import SampleSpec, write_sample
from bucketwheel.testing.jobs import KEY, WHOLE, MemoryBlocks, make_job, numbered, run_kernel, write_files
from kernel_jobs import people


@pytest.mark.parametrize("max_rows", [WHOLE, 40])
def test_corrupt_page_error_names_file_row_group_and_column(tmp_path: Path, max_rows: int) -> None:
    sample = write_sample(
        tmp_path, SampleSpec(rows=600, tables=2, columns=4, files=2, row_group_rows=100, dirty="corrupt_page")
    )
    files = sorted(sample.snapshot.glob("*.parquet"))
    names = [name for name in pq.read_schema(files[0]).names if name != KEY]
    job = make_job(tmp_path / "out", files, {"t": names}, groups_per_slice=3)
    with pytest.raises(UnreadableFilesError) as caught:
        MemoryBlocks().scan(job, max_rows)
    assert str(files[1]) in str(caught.value)
    assert "row group 2, column 'IBE8688_Age'" in str(caught.value)
    assert "--snapshot-dt" in str(caught.value)


def test_memory_error_is_not_reported_as_corrupt_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path / "out", write_files(tmp_path / "source", [people(numbered(50))]), {"t": ["Number"]})

    def refuse(*_: object, **__: object) -> NoReturn:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    outcome = run_kernel(job)[0]
    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", refuse)
    with pytest.raises(MemoryError, match="malloc"):
        MemoryBlocks().scan(job)
    for name in ("ParquetFile", "read_metadata"):
        monkeypatch.setattr(pq, name, refuse)
        with pytest.raises(MemoryError, match="malloc"):
            verify_bucket(job, outcome)


@pytest.mark.parametrize("broken", ["a", "a.b", KEY])
def test_corrupt_column_is_distinguished_from_similar_name(tmp_path: Path, broken: str) -> None:
    table = people(numbered(50), **{"a": numbered(50, 50), "a.b": numbered(50, 100)})
    (path,) = write_files(tmp_path / "source", [table], 20, use_dictionary=False)
    group = pq.read_metadata(path).row_group(1)
    chunk = group.column(table.column_names.index(broken))
    with path.open("r+b") as file:
        file.seek(chunk.data_page_offset)
        file.write(bytes(chunk.total_compressed_size))
    job = make_job(tmp_path, [path], {"t": ["a", "a.b"]}, groups_per_slice=3)
    with pytest.raises(UnreadableFilesError, match=rf"row group 1, column '{broken}'"):
        MemoryBlocks().scan(job)


@pytest.mark.parametrize("max_rows", [WHOLE, 10])
def test_changed_value_is_found_by_page_checksum(tmp_path: Path, max_rows: int) -> None:
    table = people(numbered(50), value=pa.array(range(50), pa.int64()))
    plain = {"use_dictionary": False, "compression": "none", "write_page_checksum": True}
    (path,) = write_files(tmp_path / "source", [table], 20, **plain)
    chunk = pq.read_metadata(path).row_group(1).column(table.column_names.index("value"))
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size - 8] ^= 1
    path.write_bytes(content)
    assert pq.read_table(path)["value"].to_pylist() != list(range(50))
    job = make_job(tmp_path, [path], {"t": ["value"]}, groups_per_slice=3)
    with pytest.raises(UnreadableFilesError, match=r"row group 1, column 'value' cannot be read: .*CRC"):
        MemoryBlocks().scan(job, max_rows)


def test_missing_source_file_is_named(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [people(numbered(5))])
    job = make_job(tmp_path, files, {"t": ["Number"]})
    files[0].unlink()
    with pytest.raises(StorageError, match=rf"{files[0]}: cannot open: it does not exist"):
        MemoryBlocks().scan(job)


def test_replaced_source_file_is_named(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [people(numbered(5))])
    job = make_job(tmp_path, files, {"t": ["Number"]})
    files[0].write_text("no Parquet any more", encoding="utf-8")
    with pytest.raises(UnreadableFilesError, match=rf"{files[0]}: it does not begin as a Parquet file"):
        MemoryBlocks().scan(job)
