"""Footers of files that look like Parquet and are not what they seem."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.parquet import encryption

from bucketwheel import api
from bucketwheel.errors import EngineError, StorageError, UnreadableFilesError
from bucketwheel.kernel import footer_process
from bucketwheel.kernel.footers import FooterParser, FooterSummary
from bucketwheel.kernel.page_encodings import has_plain_pages
from bucketwheel.settings import StorageSettings
from bucketwheel.stages.footers import ColumnSums, Footer, examine_footers, read_footers
from bucketwheel.stages.source_files import data_files
from bucketwheel.storage import Storage
from compact_thrift import BINARY, I32, I64, Struct, change_footer, chunks, split_footer


def footers(directory: Path) -> list[Footer]:
    storage = Storage(StorageSettings())
    return read_footers(storage, storage.list(str(directory)))


def null_counts(directory: Path, name: str = "") -> list[int | None]:
    """Return the NULLs of each column in the files with this name, or in all."""
    storage, sums = Storage(StorageSettings()), ColumnSums()
    entries = [entry for entry in storage.list(str(directory)) if name in entry.name]
    first, *_ = read_footers(storage, entries, sums)
    return [column.null_count for column in sums.columns(first.schema)]


def write(path: Path, rows: int = 1000, **options: Any) -> None:
    pq.write_table(pa.table({"id": range(rows), "text": [f"t{number}" for number in range(rows)]}), path, **options)


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize(("first", "second"), [(1000, 1000), (20_000, 50)])
def test_two_files_joined_into_one_are_refused(tmp_path: Path, first: int, second: int, index: bool) -> None:
    parts = []
    for rows in (first, second):
        write(tmp_path / "part", rows, write_page_index=index)
        parts.append((tmp_path / "part").read_bytes())
    (tmp_path / "part").unlink()
    (tmp_path / "joined.parquet").write_bytes(b"".join(parts))
    with pytest.raises(UnreadableFilesError, match=r"joined\.parquet: two Parquet files joined into one"):
        footers(tmp_path)


def test_small_file_before_large_one_is_found_without_page_index(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 50)
    small = (tmp_path / "a.parquet").read_bytes()
    write(tmp_path / "a.parquet", 20_000)
    (tmp_path / "a.parquet").write_bytes(small + (tmp_path / "a.parquet").read_bytes())
    with pytest.raises(UnreadableFilesError, match="two Parquet files joined into one"):
        footers(tmp_path)


@pytest.mark.parametrize("rows", [0, 1, 50_000])
def test_page_index_is_no_second_file(tmp_path: Path, rows: int) -> None:
    write(tmp_path / "a.parquet", rows, write_page_index=True, data_page_size=100, row_group_size=5000)
    assert len(footers(tmp_path)) == 1


class PlainKeys(encryption.KmsClient):  # type: ignore[misc]
    """Keys that are stored as they are."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return key_bytes.hex().encode()

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return bytes.fromhex(wrapped_key.decode())


def test_encrypted_file_is_called_encrypted(tmp_path: Path) -> None:
    factory = encryption.CryptoFactory(lambda _: PlainKeys())
    chosen = encryption.EncryptionConfiguration(footer_key="f", column_keys={"c": ["id", "text"]})
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), chosen)
    write(tmp_path / "a.parquet", encryption_properties=properties)
    with pytest.raises(UnreadableFilesError, match="the file is encrypted, and Bucketwheel cannot decrypt it"):
        footers(tmp_path)


def test_encrypted_column_under_plain_footer_is_refused(tmp_path: Path) -> None:
    factory = encryption.CryptoFactory(lambda _: PlainKeys())
    chosen = encryption.EncryptionConfiguration(footer_key="f", column_keys={"c": ["text"]}, plaintext_footer=True)
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), chosen)
    write(tmp_path / "encrypted.parquet", encryption_properties=properties)
    write(tmp_path / "plain.parquet")
    with pytest.raises(UnreadableFilesError, match=r"encrypted, and Bucketwheel cannot") as error:
        footers(tmp_path)
    assert "1 of 2 files" in str(error.value)


def column(name: str, change: Callable[[Struct], None]) -> Callable[[Struct], None]:
    """Return a change of the chunks of a column."""

    def apply(metadata: Struct) -> None:
        for chunk in chunks(metadata):
            if chunk[3].values == [name.encode()]:
                change(chunk)

    return apply


def set_rows(metadata: Struct) -> None:
    metadata[4].values[0].set(3, I64, 999)


def share_bytes(metadata: Struct) -> None:
    first, second = chunks(metadata)
    second.set(9, I64, first[9])
    second.set(11, I64, first[11])


def drop_group(metadata: Struct) -> None:
    metadata[4].values.clear()


def drop_column(metadata: Struct) -> None:
    metadata[4].values[0][1].values.pop()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (set_rows, "its row groups have 999 rows, the file has 1000"),
        (drop_group, "its row groups have 0 rows, the file has 1000"),
        (drop_column, "row group 0 has 1 column, its schema has 2"),
        (share_bytes, "row group 0, column 'id' and row group 0, column 'text' share bytes"),
        (column("id", lambda chunk: chunk.set(5, I64, 999)), "column 'id': 999 values for 1,000 rows"),
        (column("id", lambda chunk: chunk.set(7, I64, 2**40)), "column 'id': 1099511627776 bytes"),
        (column("id", lambda chunk: chunk.set(6, I64, -1)), r"column 'id': .* bytes \(-1 uncompressed\)"),
        (column("id", lambda chunk: chunk.set(9, I64, 1)), "column 'id': .* from byte 1, in a file with"),
        (column("id", lambda chunk: chunk.set(1, I32, 1)), "INT32"),
    ],
)
def test_contradicting_footer_is_refused(tmp_path: Path, change: Callable[[Struct], None], problem: str) -> None:
    write(tmp_path / "a.parquet")
    change_footer(tmp_path / "a.parquet", change)
    with pytest.raises(UnreadableFilesError, match=rf"a\.parquet: .*{problem}"):
        footers(tmp_path)


def test_summary_of_other_files_is_called_so(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    metadata.set_file_path("a.parquet")
    pq.write_metadata(pq.read_schema(tmp_path / "a.parquet"), tmp_path / "summary.parquet", [metadata])
    with pytest.raises(
        UnreadableFilesError, match=r"summary of other files, such as 'a\.parquet', .* rename it to _m"
    ):
        footers(tmp_path)
    (tmp_path / "summary.parquet").rename(tmp_path / "_metadata")
    assert len(data_files(Storage(StorageSettings()), str(tmp_path))) == 1


def empty_minimum(chunk: Struct) -> None:
    statistics = chunk[12]
    for number in (1, 2, 5, 6):
        statistics.set(number, BINARY, b"")


def test_file_with_empty_minimum_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet")
    change_footer(tmp_path / "a.parquet", column("id", empty_minimum))
    assert null_counts(tmp_path, "b.parquet") == [0, 0]
    # pyarrow 17 accepts the minimum.
    assert null_counts(tmp_path)[0] in (None, 0)
    assert [footer.rows for footer in footers(tmp_path)] == [1000, 1000]


def test_more_nulls_than_rows_are_unknown(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    change_footer(tmp_path / "a.parquet", column("id", lambda chunk: chunk[12].set(3, I64, 12345)))
    assert null_counts(tmp_path) == [None, 0]


def test_each_file_that_ends_its_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number}.parquet" for number in range(6)]
    for number, name in enumerate(names):
        write(tmp_path / name, rows=10 + number)
    parse = FooterParser.parse

    def ends(self: FooterParser, footer: bytes, size: int, statistics: bool = True) -> FooterSummary | str:
        summary = parse(self, footer, size, statistics)
        if isinstance(summary, FooterSummary) and summary.row_group_rows[0] in (12, 15):
            os.abort()
        return summary

    monkeypatch.setattr(FooterParser, "parse", ends)
    results = examine_footers(Storage(StorageSettings()), Storage(StorageSettings()).list(str(tmp_path)))
    refused = [result for result in results if isinstance(result, str)]
    assert refused == [
        f"{tmp_path}/{name}: reading its footer ends the process with SIGABRT" for name in ("2.parquet", "5.parquet")
    ]
    assert [result.rows for result in results if isinstance(result, Footer)] == [10, 11, 13, 14]


def test_footer_that_takes_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet")
    monkeypatch.setattr(footer_process, "_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(FooterParser, "parse", lambda *_: threading.Event().wait())
    with pytest.raises(UnreadableFilesError, match=r"a\.parquet: reading the footer took longer than"):
        footers(tmp_path)


def test_process_keeps_no_file_of_its_parent_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet")
    monkeypatch.setattr(FooterParser, "parse", lambda *_: " ".join(sorted(os.listdir("/dev/fd"))))  # noqa: PTH208
    with (tmp_path / "lock").open("wb"), pytest.raises(UnreadableFilesError) as error:
        footers(tmp_path)
    # Three standard streams, two pipes, and the directory that lists them.
    assert len(str(error.value).splitlines()[1].partition(": ")[2].split()) == 6


def fail_to_list(path: str) -> list[str]:
    raise FileNotFoundError(path)


def test_error_names_fix_if_no_process_can_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(9):
        write(tmp_path / f"{number}.parquet", rows=1)

    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(EngineError, match="temporarily unavailable; free memory, or raise the limit of processes"):
        footers(tmp_path)


def test_failure_of_the_process_blames_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet")

    def fails(*_: object) -> None:
        raise RuntimeError("not of this file")

    monkeypatch.setattr(footer_process, "_serve", fails)
    with pytest.raises(EngineError, match="the process that parses footers failed: RuntimeError: not of this file"):
        footers(tmp_path)


@pytest.mark.parametrize("listed", [True, False])
def test_large_footer_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: bool) -> None:
    if not listed:
        monkeypatch.setattr(os, "listdir", fail_to_list)
    pq.write_table(pa.table({f"column_{number}": [1] for number in range(800)}), tmp_path / "a.parquet")
    assert len(split_footer((tmp_path / "a.parquet").read_bytes())[1]) > 2**16
    assert null_counts(tmp_path) == [0] * 800


def test_footer_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + content[-100:])
    with pytest.raises(UnreadableFilesError, match=r"bytes, but the file has 104; it is truncated or corrupt"):
        footers(tmp_path)


def test_column_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", store_schema=False)
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content.replace(b"text", b"t\xf6xt"))
    with pytest.raises(UnreadableFilesError, match=r"a name in it is not UTF-8: b't\\xf6xt'"):
        footers(tmp_path)


@pytest.mark.parametrize("name", [b"t\xf6st.parquet", b"snapshot_dt=2026-01-3\xb9"])
def test_file_name_that_is_not_utf8_is_refused(tmp_path: Path, name: bytes) -> None:
    source = tmp_path / "in" / "snapshot_dt=2026-01-31"
    source.mkdir(parents=True)
    write(source / "a.parquet")
    changed = source / "a.parquet" if name.endswith(b".parquet") else source
    os.rename(os.fsencode(changed), os.path.join(os.fsencode(changed.parent), name))  # noqa: PTH104, PTH118 bytes
    config = api.load("local", None, {"datasets.x": {"source": str(source.parent), "key": "id"}}, {})
    with pytest.raises(
        StorageError, match=r"cannot list: .*the name '.*\\x.*' is not UTF-8; rename the file or directory"
    ):
        api.plan(config, "x")


class Label(pa.ExtensionType):  # type: ignore[misc]
    """Text with a type of its own."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "tests.label")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> Label:
        return cls()


@pytest.fixture
def label() -> Iterator[Label]:
    pa.register_extension_type(Label())
    yield Label()
    pa.unregister_extension_type("tests.label")


def test_extension_column_with_dictionary_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: Label
) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "in" / "snapshot_dt=2026-01-31"
    source.mkdir(parents=True)
    text = pa.array(["a", "b"] * 50)
    column = pa.ExtensionArray.from_storage(label, text)
    pq.write_table(pa.table({"id": range(100), "value": column}), source / "a.parquet")
    settings = {"target": "out", "catalog.path": "c.duckdb", "datasets.x": {"source": "in", "key": "id"}}
    outcome = api.run(api.load("local", None, settings, {}), "x")
    assert outcome.manifest.verify.rows == 100


def tokens(rows: int) -> pa.Array:
    random = np.random.default_rng(1).integers(0, 256, (rows, 16), np.uint8)
    return pa.array([row.tobytes().hex() for row in random])


def dictionary_bytes(directory: Path, column: pa.Array, **options: Any) -> int | None:
    directory.mkdir()
    pq.write_table(pa.table({"c": column}), directory / "a.parquet", **options)
    storage, sums = Storage(StorageSettings()), ColumnSums()
    (footer,) = read_footers(storage, storage.list(str(directory)), sums)
    (described,) = sums.columns(footer.schema)
    return described.dictionary_bytes


@pytest.mark.parametrize("version", ["1.0", "2.6"])
@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_chunk_that_gives_up_its_dictionary_counts_as_plain(tmp_path: Path, version: str, compression: str) -> None:
    options = {"version": version, "compression": compression, "dictionary_pagesize_limit": 10_000}
    repeated = pa.array(tokens(200).to_pylist() * 100)
    assert 0 < (dictionary_bytes(tmp_path / "coded", repeated, **options) or 0) < 2**15
    different = tokens(20_000)
    footer = pq.read_metadata(tmp_path / "coded" / "a.parquet").row_group(0).column(0)
    assert footer.has_dictionary_page
    assert dictionary_bytes(tmp_path / "plain", different, **options) is None
    assert pq.read_metadata(tmp_path / "plain" / "a.parquet").row_group(0).column(0).has_dictionary_page


@pytest.mark.parametrize("where", ["in the same file", "in a file of its own"])
def test_row_group_without_rows_changes_no_figure(tmp_path: Path, where: str) -> None:
    table = pa.table({"text": pa.array(["a", "b", None] * 100)})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        writer.write_table(table)
        if where == "in the same file":
            writer.write_table(table.slice(0, 0))
    if where != "in the same file":
        pq.write_table(table.slice(0, 0), tmp_path / "b.parquet")
    storage, sums = Storage(StorageSettings()), ColumnSums()
    first, *_ = read_footers(storage, storage.list(str(tmp_path)), sums)
    (column,) = sums.columns(first.schema)
    assert column.null_count == 100
    assert column.dictionary_bytes is not None


def test_long_values_with_a_dictionary_count_as_coded(tmp_path: Path) -> None:
    column = pa.array([chr(97 + row % 5) * 50_000 for row in range(1000)])
    assert (dictionary_bytes(tmp_path / "coded", column, compression="zstd") or 0) > 0


@pytest.mark.parametrize(
    ("encodings", "plain"),
    [
        (("PLAIN_DICTIONARY", "RLE", "BIT_PACKED"), False),
        (("PLAIN_DICTIONARY", "PLAIN", "RLE"), True),
        (("PLAIN", "RLE", "RLE_DICTIONARY"), False),
    ],
)
def test_encodings_decide_where_sizes_do_not(encodings: tuple[str, ...], plain: bool) -> None:
    chunk = cast("pq.ColumnChunkMetaData", SimpleNamespace(encodings=encodings))
    # A tenth of 100,000 values of 20 bytes is plain, or the dictionary is as large.
    assert has_plain_pages(chunk, data_bytes=200_000, plain_bytes=300_000, values=100_000) is plain
    assert not has_plain_pages(chunk, data_bytes=100_000, plain_bytes=200_000, values=100_000)
    assert has_plain_pages(chunk, data_bytes=2_000_000, plain_bytes=3_600_000, values=100_000)
    assert has_plain_pages(chunk, data_bytes=200_000, plain_bytes=36_000_000, values=1_000_000)
