"""Errors of `verify` about files added or deleted after a finished run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bucketwheel.errors import VerificationError
from bucketwheel.pipeline import reverify
from bucketwheel.runs.manifest import FileRecord, Manifest
from runs_support import DATASET, Case

TABLE = "people_2"


class Finished:
    """A finished run; tests damage the directory of one table."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.manifest: Manifest = case.run(["discover", "split", "size", "bucket", "verify"]).manifest
        self.directory = case.target / DATASET / TABLE / self.manifest.run_id

    def file(self, bucket: int) -> FileRecord:
        outcomes = self.manifest.bucket.outcomes
        return next(f for o in outcomes if o.bucket == bucket for f in o.files if f.table == TABLE)

    def path(self, bucket: int) -> Path:
        return self.directory / self.file(bucket).name

    def refused(self) -> str:
        with pytest.raises(VerificationError) as caught:
            reverify.verify(self.case.settings(), self.manifest.run_id)
        text = str(caught.value)
        assert text.startswith(f"{self.directory}: ")
        return text.removeprefix(f"{self.directory}: ")


@pytest.fixture
def finished(case: Case) -> Finished:
    return Finished(case)


def test_missing_file_error_names_bucket_and_rows(finished: Finished) -> None:
    rows = finished.file(3).rows
    finished.path(3).unlink()
    assert rows > 0
    assert finished.refused() == f"bucket 3: 000003_0.snappy.parquet is missing ({rows} rows)"


def test_renamed_file_error_lists_missing_and_unknown_file(finished: Finished) -> None:
    rows = finished.file(3).rows
    finished.path(3).rename(finished.directory / "000001_0_3.snappy.parquet")
    assert finished.refused() == (
        f"bucket 3: 000003_0.snappy.parquet is missing ({rows} rows); "
        "000001_0_3.snappy.parquet was not written by this run (readers treat it as bucket 1)"
    )


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("000002_0_copy_1.snappy.parquet", "readers treat it as bucket 2"),
        ("part-00002.snappy.parquet", "readers treat it as no bucket"),
        ("more/", "a directory, which readers refuse"),
    ],
)
def test_unknown_entry_error_says_how_readers_treat_it(finished: Finished, name: str, taken: str) -> None:
    if name.endswith("/"):
        (finished.directory / name).mkdir()
    else:
        (finished.directory / name).write_bytes(finished.path(2).read_bytes())
    assert finished.refused() == f"{name.rstrip('/')} was not written by this run ({taken})"


def test_many_unknown_files_are_named_up_to_five(finished: Finished) -> None:
    for number in range(7):
        (finished.directory / f"{number:06d}_0_x.parquet").touch()
    text = finished.refused()
    assert text.count("was not written by this run (readers treat it as bucket") == 5
    assert text.endswith("; and 2 more")


def test_files_hidden_from_readers_are_ignored(finished: Finished) -> None:
    (finished.directory / "_SUCCESS").touch()
    (finished.directory / ".000001_0.crc").touch()
    reverify.verify(finished.case.settings(), finished.manifest.run_id)
