from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.errors import BucketwheelError, ConfigError, SelectionError, SnapshotError
from bucketwheel.runs.manifest import DiscoverResult
from bucketwheel.settings import StorageSettings
from bucketwheel.settings.partition import Partition
from bucketwheel.stages.snapshots import detect_partition
from bucketwheel.storage import Storage


def put(source: Path, *directories: str) -> Path:
    """Write one file into each directory below a source."""
    for directory in directories:
        (source / directory).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": [1, 2]}), source / directory / "a.parquet")
    return source


def discover(source: Path, partition: str | None, snapshot_dt: str | None = None) -> DiscoverResult:
    values = {"source": str(source), "key": "id", "partition": partition}
    config = api.load("local", None, {"datasets": {"people": values}, "target": str(source.parent / "out")}, {})
    return api.plan(config, "people", snapshot_dt=snapshot_dt).discover


def refused(source: Path, partition: str | None, snapshot_dt: str | None = None) -> BucketwheelError:
    with pytest.raises((SelectionError, SnapshotError)) as error:
        discover(source, partition, snapshot_dt)
    return error.value


@pytest.mark.parametrize(
    ("partition", "older", "newer", "date"),
    [
        (None, "snapshot_dt=2025-09-30", "snapshot_dt=2025-10-22", "2025-10-22"),
        ("dt", "dt=2025-09-30", "dt=2025-10-22", "2025-10-22"),
        ("dt=YYYYMMDD", "dt=20250930", "dt=20251022", "2025-10-22"),
        ("dt=yyyymmdd", "dt=20250930", "dt=20251022", "2025-10-22"),
        ("YYYYMMDD", "20250930", "20251022", "2025-10-22"),
        ("yyyy-mm-dd", "2025-09-30", "2025-10-22", "2025-10-22"),
        ("export_YYYY.MM.DD", "export_2025.09.30", "export_2025.10.22", "2025-10-22"),
        ("month=YYYY-MM", "month=2025-09", "month=2025-10", "2025-10-01"),
        ("year=YYYY", "year=2024", "year=2025", "2025-01-01"),
        ("year=YYYY/month=MM", "year=2025/month=9", "year=2025/month=10", "2025-10-01"),
        ("year=YYYY/month=MM/day=DD", "year=2024/month=12/day=31", "year=2025/month=01/day=2", "2025-01-02"),
        ("YYYY/MM/DD/", "2024/12/31", "2025/01/02", "2025-01-02"),
        ("data/dt=DD.MM.YYYY", "data/dt=30.09.2025", "data/dt=22.10.2025", "2025-10-22"),
    ],
)
def test_partition_finds_latest_and_requested_snapshot(
    tmp_path: Path, partition: str | None, older: str, newer: str, date: str
) -> None:
    source = put(tmp_path / "in", older, newer)
    (source / "other").mkdir()
    result = discover(source, partition)
    assert (result.snapshot_dt, result.location) == (date, str(source / newer))
    assert result.warnings[0].startswith(f"{source}: skipped other: not of the form ")
    # The older one: every other date of the list is later.
    wanted = Partition.parse(partition or "snapshot_dt").date_of(older.split("/"))
    assert discover(source, partition, wanted).location == str(source / older)


@pytest.mark.parametrize(
    "pattern",
    ["", "dt=MM-DD", "YYYY/YYYY", "YYYY-DD", "dt=", "a/b", "_dt=YYYY-MM-DD", "x//YYYY", "../YYYYMMDD", "dt=%Y-%m-%d"],
)
def test_partition_without_date_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"snapshot.partition .*expected the directory of a snapshot, such as snap"):
        api.load("local", None, {"snapshot.partition": pattern or '""'}, {})


def test_dataset_partition_overrides_common_one(tmp_path: Path) -> None:
    source = put(tmp_path / "in", "20251022", "dt=2025-11-22")
    values = {"source": str(source), "key": "id"}
    given = {"datasets": {"people": values}, "snapshot.partition": "dt", "target": str(tmp_path / "out")}
    config = api.load("local", None, given, {})
    assert api.plan(config, "people").discover.snapshot_dt == "2025-11-22"
    assert discover(source, "YYYYMMDD").snapshot_dt == "2025-10-22"


def test_two_directories_of_one_date_are_refused(tmp_path: Path) -> None:
    source = put(tmp_path / "in", "year=2025/month=1", "year=2025/month=01")
    message = str(refused(source, "year=YYYY/month=MM"))
    assert message == (
        f"{source}/year=2025/month=01 and {source}/year=2025/month=1 are both the snapshot 2025-01-01; "
        "remove one of them"
    )


def test_flat_source_is_one_snapshot_of_its_newest_file(tmp_path: Path) -> None:
    source = put(tmp_path / "in", ".", "more")
    os.utime(source / "a.parquet", (0, 0))
    os.utime(source / "more" / "a.parquet", (86_400, 86_400))
    result = discover(source, "none")
    assert (result.snapshot_dt, result.location, result.rows) == ("1970-01-02", str(source), 4)
    assert discover(source, "none", "2025-10-22").snapshot_dt == "2025-10-22"
    assert "snapshot_dt 'today' is not a date" in str(refused(source, "none", "today"))


def test_flat_source_with_snapshot_directories_is_refused(tmp_path: Path) -> None:
    source = put(tmp_path / "in", "dt=2025-10-22", "dt=2025-11-22")
    assert str(refused(source, "none")) == (
        f"{source}: datasets.people.partition is none, but the source contains snapshot directories: dt=2025-10-22, "
        "dt=2025-11-22; set it to dt=YYYY-MM-DD"
    )


@pytest.mark.parametrize(
    ("directory", "advice"),
    [
        (
            ".",
            "It holds Parquet files itself: set datasets.people.partition to none, or move them to such a directory",
        ),
        ("dt=20251022", "Set datasets.people.partition to dt=YYYYMMDD"),
        ("year=2025/month=3/day=9", "Set datasets.people.partition to year=YYYY/month=MM/day=DD"),
        ("raw", "Check datasets.people.source"),
    ],
)
def test_source_of_other_layout_error_names_the_setting(tmp_path: Path, directory: str, advice: str) -> None:
    source = put(tmp_path / "in", directory)
    expected = f"{source}: no snapshot; expected directories snapshot_dt=YYYY-MM-DD. {advice}"
    assert str(refused(source, None)) == expected


def test_source_that_is_a_snapshot_error_names_the_parent(tmp_path: Path) -> None:
    source = put(tmp_path / "snapshot_dt=2025-10-22", ".")
    assert str(refused(source, None)).endswith(
        "It is a snapshot itself: set datasets.people.source to the directory above it"
    )


@pytest.mark.parametrize(
    ("directories", "pattern"),
    [
        (["dt=2025-10-22", "dt=2025-11-22", "backup-2025"], "dt=YYYY-MM-DD"),
        (["2025/9", "2025/10"], "YYYY/MM"),
        (["year=2025/month=1/day=5"], "year=YYYY/month=MM/day=DD"),
        (["month=202510"], "month=YYYYMM"),
        (["year=2025"], "year=YYYY"),
        (["_2025-10-22", "."], "none"),
        (["ADD2025-10-22", "12345678"], None),
        ([], None),
    ],
)
def test_detected_partition_is_the_most_common_one(
    tmp_path: Path, directories: list[str], pattern: str | None
) -> None:
    put(tmp_path / "in", *directories)
    assert detect_partition(Storage(StorageSettings()), str(tmp_path / "in")) == pattern
    if pattern:
        Partition.parse(pattern)
