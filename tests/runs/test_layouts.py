"""Several layouts from one scan."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from failures import UNPUBLISHED, break_bucket, counting

from bucketwheel.errors import MappingError, ResumeError, VerificationError
from bucketwheel.pipeline import reverify
from bucketwheel.runs.manifest import Manifest
from bucketwheel.settings import resolved_layouts
from runs_support import DATASET, FEBRUARY, Case, reports, warnings_in

HIVE, SPARK = {"name": "athena", "buckets": 4}, {"name": "spark", "hash": "spark", "buckets": 8, "sort": False}
BOTH = [HIVE, SPARK]
ICE = {"name": "ice", "hash": "iceberg", "buckets": 3}


def files(case: Case, manifest: Manifest, layout: str = "") -> dict[str, str]:
    """Return the SHA-256 of the files of a layout, by table and name."""
    found = {}
    for table in manifest.split.tables:
        directory = Path(case.store().data_directory(DATASET, table.name, manifest.run_id, layout))
        for path in directory.iterdir():
            found[f"{table.name}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def alone(case: Case, layout: dict[str, Any]) -> dict[str, str]:
    """Return the files of a run that writes only this layout."""
    other = Case(case.root, changes={"target": str(case.root / layout["name"])})
    return files(other, other.run(UNPUBLISHED, layouts=[layout]).manifest)


def test_layouts_have_the_bytes_of_runs_of_their_own(case: Case) -> None:
    manifest = case.run(UNPUBLISHED, layouts=BOTH).manifest
    assert files(case, manifest) == alone(case, HIVE)
    assert files(case, manifest, "spark") == alone(case, SPARK)
    plain = Case(case.root, changes={"target": str(case.root / "plain")})
    assert files(case, manifest) == files(plain, plain.run(UNPUBLISHED).manifest)


@pytest.mark.parametrize("names", ["ice athena spark", "spark ice athena"])
def test_layouts_beside_iceberg_have_the_bytes_of_single_runs(case: Case, names: str) -> None:
    value = f"{case.names()[0]}_value"
    for path in case.mapping.parent.glob("*/*.parquet"):
        content = pq.ParquetFile(path).read()
        small = content.column(value).cast(pa.int16())
        for name, column in (("Customer_User_id", small), (value, small.cast(pa.int64()).cast(pa.timestamp("ms")))):
            content = content.set_column(content.column_names.index(name), name, column)
        pq.write_table(content, path)
    layouts = [{layout["name"]: layout for layout in (*BOTH, ICE)}[name] for name in names.split()]
    manifest = case.run(UNPUBLISHED, layouts=layouts).manifest
    for layout, size in zip(layouts, manifest.size.layouts, strict=True):
        assert files(case, manifest, size.id) == alone(case, layout)


def test_manifest_describes_every_layout(case: Case) -> None:
    manifest = case.run(UNPUBLISHED, layouts=BOTH).manifest
    size, bucket, verify = manifest.size, manifest.bucket, manifest.verify
    assert [(layout.id, layout.bucket_count, layout.hash, layout.prefix) for layout in size.layouts] == [
        ("", 4, "hive_v1", "bucketed_"),
        ("spark", 8, "spark", "spark_"),
    ]
    for layout in size.layouts:
        outcomes = bucket.of_layout(layout)
        assert [outcome.bucket for outcome in outcomes] == list(range(layout.bucket_count))
        assert sum(outcome.rows for outcome in outcomes) == case.rows
        assert [(table.name, table.rows) for table in verify.of_layout(layout)] == [
            (name, case.rows) for name in case.names()
        ]
        assert sum(table.files for table in verify.of_layout(layout)) == layout.bucket_count * case.tables
    assert verify.rows == bucket.rows == case.rows
    distinct = {column.name: column.distinct for column in bucket.column_statistics}
    assert distinct["Customer_User_id"] == case.rows


def test_resume_continues_inside_the_second_layout(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_bucket(patch, 6)
        with pytest.raises(RuntimeError, match="the power went"):
            case.run(UNPUBLISHED, layouts=BOTH, threads=1)
    (failed,) = case.manifests()
    engines = counting(monkeypatch)
    manifest = case.run(resume="last", layouts=BOTH, threads=1).manifest
    assert (manifest.run_id, engines[0].requested) == (failed.run_id, list(range(6, 12)))
    assert files(case, manifest) == alone(case, HIVE)
    assert files(case, manifest, "spark") == alone(case, SPARK)


def test_resume_is_refused_when_layouts_changed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_bucket(patch, 2)
        with pytest.raises(RuntimeError):
            case.run(UNPUBLISHED, layouts=BOTH)
    for layouts, text in (
        ([HIVE, {**SPARK, "sort": True}], "layouts.spark.sort was False, is now True"),
        ([{**HIVE, "buckets": 5}, SPARK], "buckets.count was 4, is now 5"),
        ([HIVE], "layouts.spark.hash was spark, is now not recorded"),
        ([*BOTH, {"name": "third"}], "layouts.third.count was not recorded, is now 4"),
    ):
        with pytest.raises(ResumeError) as caught:
            case.run(UNPUBLISHED, resume="last", layouts=layouts)
        assert text in str(caught.value)


def test_run_without_layouts_resumes_as_their_first(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_bucket(patch, 2)
        with pytest.raises(RuntimeError):
            case.run(UNPUBLISHED)
    assert "verify" in case.run(UNPUBLISHED, resume="last", layouts=[HIVE]).manifest.stages


def test_verify_reads_files_of_every_layout(case: Case) -> None:
    settings = case.settings(layouts=BOTH)
    manifest = case.run(UNPUBLISHED, layouts=BOTH).manifest
    directory = Path(case.store().data_directory(DATASET, case.names()[1], manifest.run_id, "spark"))
    victim = sorted(directory.iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:-9])
    with pytest.raises(VerificationError, match=str(victim)):
        reverify.verify(settings, manifest.run_id)
    (directory / "stranger.parquet").touch()
    with pytest.raises(VerificationError, match=rf"spark\.{case.names()[1]}.*stranger\.parquet was not written"):
        reverify.verify(settings, manifest.run_id)


def test_warnings_and_settings_name_the_layout(case: Case) -> None:
    events, report = reports()
    split = {**SPARK, "sort": True, "buckets": 2, "max_file_bytes": 1500}
    case.run(UNPUBLISHED, layouts=[HIVE, split], report=report, size={"row_group_bytes": 300})
    texts = warnings_in(events)
    assert "layout athena: with 4 buckets, files of the largest table average" in texts
    assert "set layouts.0.buckets=auto" in texts
    assert "layout spark: table 'people_1' (and 1 other table too) has 2 buckets in several files" in texts
    assert "raise layouts.1.max_file_bytes or layouts.1.buckets" in texts


def test_changed_bucket_count_is_published_with_a_warning(case: Case) -> None:
    case.run()
    case.snapshot(FEBRUARY)
    events, report = reports()
    outcome = case.run(report=report, buckets={"count": 8})
    drift = outcome.manifest.verify.drift
    assert drift is not None
    assert drift.keys_not_compared == "its bucket count is 4, that of this run 8"
    assert "its bucket count is 4, that of this run 8" in warnings_in(events)
    assert case.shown_rows() == {
        f"{prefix}{name}": ({FEBRUARY}, case.rows) for prefix in ("ext_", "bucketed_") for name in case.names()
    }


def test_keys_are_compared_by_a_layout_of_both_runs(case: Case) -> None:
    case.run(layouts=[{"name": "small", "buckets": 2}, HIVE])
    case.snapshot(FEBRUARY)
    drift = case.run(layouts=[SPARK, {**HIVE, "prefix": "again_"}]).manifest.verify.drift
    assert drift is not None
    assert drift.keys is not None
    assert (drift.keys.both, drift.keys.only_now) == (case.rows, 0)


def test_two_tables_of_one_published_name_are_refused(case: Case) -> None:
    case.mapping.write_text("table,column\nx,people_1_value\nspark_x,people_2_value\n")
    with pytest.raises(MappingError) as caught:
        case.run(UNPUBLISHED, layouts=[{**HIVE, "prefix": ""}, SPARK])
    text = str(caught.value)
    assert "'spark_x' with" in text
    assert "'x' with" in text
    assert "would both be published as 'spark_x'; rename one in the mapping, or change one of these prefixes" in text


def test_bucket_count_of_a_flag_applies_to_layouts_without_their_own(case: Case) -> None:
    settings = case.settings(buckets={"count": 32}, layouts=[{"name": "a"}, SPARK])
    assert [layout.buckets for layout in resolved_layouts(settings)] == [32, 8]
