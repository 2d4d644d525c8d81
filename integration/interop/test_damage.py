"""Damaged table directories: `verify` refuses each, and Trino reads or rejects them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pytest
from trino.exceptions import TrinoQueryError

from .key_tables import KEY
from .lake import Lake, LakeProject

COUNT, ROWS = 4, 400
NAME = "000003_0.snappy.parquet"


@dataclass(frozen=True)
class Table:
    """A published table of four files of 100 rows."""

    project: LakeProject
    directory: str

    def move(self, name: str, keep: bool = False) -> None:
        """Rename or copy the file of bucket 3."""
        lake = self.project.lake
        lake.put(f"{self.directory}/{name}", lake.get(f"{self.directory}/{NAME}"))
        if not keep:
            lake.delete(f"{self.directory}/{NAME}")

    def refused(self) -> str:
        """Return the error of `verify`."""
        result = self.project.cli("verify", "last")
        assert (result.exit_code, result.stdout) == (3, "")
        return result.stderr

    def count(self) -> int:
        """Return the number of keys that Trino reads."""
        return len(self.project.ask(f"SELECT {KEY} FROM {self.project.table(self.project.name)}").rows)

    def refused_by_trino(self, text: str) -> str:
        """Return Trino's name for its error."""
        with pytest.raises(TrinoQueryError, match=text) as caught:
            self.count()
        return str(caught.value.error_name)


@pytest.fixture
def table(lake: Lake, request: pytest.FixtureRequest) -> Table:
    name = request.node.name.removeprefix("test_")[:40].rstrip("_")
    rows = pa.table({KEY: pa.array(range(4, 4 + ROWS), pa.int64())})
    project = lake.publish(name, rows, [KEY], buckets={"count": COUNT})
    damaged = Table(project, project.data(name)[0].rpartition("/")[0])
    assert project.cli("verify", "last").exit_code == 0
    assert damaged.count() == ROWS
    return damaged


def test_verify_refuses_missing_file_and_trino_loses_rows(table: Table) -> None:
    table.project.lake.delete(f"{table.directory}/{NAME}")
    assert f"{NAME} is missing" in table.refused()
    # Trino takes the bucket for empty, and loses its rows.
    assert table.count() == ROWS - 100


def test_verify_refuses_copied_file_and_trino_repeats_rows(table: Table) -> None:
    table.move("000003_0_copy_1.snappy.parquet", keep=True)
    assert "000003_0_copy_1.snappy.parquet was not written by this run" in table.refused()
    assert table.count() == ROWS + 100


def test_file_named_as_another_bucket_is_refused(table: Table) -> None:
    table.move("000001_0_3.snappy.parquet")
    assert f"{NAME} is missing" in table.refused()
    assert table.refused_by_trino("is for bucket 1, but contains a row for bucket 3") == "HIVE_INVALID_BUCKET_FILES"


def test_file_name_without_bucket_number_is_refused(table: Table) -> None:
    table.move("part-00003.snappy.parquet", keep=True)
    assert "part-00003.snappy.parquet was not written by this run" in table.refused()
    assert table.refused_by_trino("does not match the standard naming pattern") == "HIVE_INVALID_BUCKET_FILES"


def test_file_name_beyond_bucket_count_is_refused(table: Table) -> None:
    table.move(f"{COUNT:06d}_0.snappy.parquet")
    assert f"{NAME} is missing" in table.refused()
    assert table.refused_by_trino("bucket") == "HIVE_INVALID_BUCKET_FILES"


def test_subdirectory_is_refused(table: Table) -> None:
    table.move(f"more/{NAME}", keep=True)
    assert "more was not written by this run" in table.refused()
    # Trino means to name the directory and stumbles over its own message.
    assert table.refused_by_trino("location must contain a path").startswith("HIVE_")
