"""Footers of files that look like Parquet and are not what they seem."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.parquet import encryption

from bucketwheel import api
from bucketwheel.errors import StorageError, UnreadableFilesError
from bucketwheel.settings import StorageSettings
from bucketwheel.stages.footers import Footer, read_footers
from bucketwheel.storage import Storage


def footers(directory: Path) -> list[Footer]:
    storage = Storage(StorageSettings())
    return read_footers(storage, storage.list(str(directory)))


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
