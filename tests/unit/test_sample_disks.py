"""Errors of samples that cannot be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import sample
from bucketwheel.errors import StorageError
from bucketwheel.sample import SampleSpec, write_sample
from project import Project

SMALL = SampleSpec(rows=100, tables=1, columns=3, files=2)


def test_write_sample_error_names_directory_it_cannot_create(project: Project) -> None:
    result = project.cli("sample", "/proc/nope", "--rows", "10")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: /proc/nope: cannot write to: it does not exist\n"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(13, "Permission denied"), "permission denied; give this user access or choose another path"),
        (OSError(28, "No space left on device"), "no space left on the device; free some"),
    ],
)
def test_write_sample_error_names_unwritable_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, text: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(pq.ParquetWriter, "write_table", refuse)
    with pytest.raises(StorageError, match=f"{tmp_path}: cannot write to: {text}"):
        write_sample(tmp_path, SMALL)


def test_duckdb_writer_raises_os_error_when_write_fails(tmp_path: Path) -> None:
    write = sample._duckdb_writer()
    with pytest.raises(OSError, match=f"{tmp_path}/no/x.parquet"):
        write(tmp_path / "no" / "x.parquet", [], iter([pa.table({"x": [1]})]), 10)
