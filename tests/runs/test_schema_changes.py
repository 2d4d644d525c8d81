"""Snapshots whose columns, NULLs or keys differ from the published ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.errors import QualityError
from bucketwheel.pipeline.plan import plan
from bucketwheel.pipeline.services import RunRequest
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case, reports, warnings_in

Change = Callable[[pa.Table], pa.Table]


def rewrite(directory: Path, change: Change) -> None:
    paths = sorted(directory.glob("*.parquet"))
    assert paths
    for path in paths:
        pq.write_table(change(pq.ParquetFile(path).read()), path)


def replace(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def unmap(case: Case, column: str) -> None:
    lines = case.mapping.read_text().splitlines()
    kept = [line for line in lines if column not in line]
    assert len(kept) == len(lines) - 1
    case.mapping.write_text("\n".join([*kept, ""]))


def as_text(table: pa.Table) -> pa.Table:
    return replace(table, "people_1_value", table["people_1_value"].cast("string"))


def as_numbers(table: pa.Table) -> pa.Table:
    numbers = [int(key.split()[-1]) for key in table["Customer_User_id"].to_pylist()]
    return replace(table, "Customer_User_id", pa.array(numbers, "int64"))


def with_nulls(table: pa.Table) -> pa.Table:
    values = [None if n % 4 == 0 else n for n in range(table.num_rows)]
    return replace(table, "people_1_value", pa.array(values, "int64"))


@pytest.mark.parametrize(
    ("change", "unmapped", "text"),
    [
        (as_text, None, "people_1.people_1_value changed from bigint to string"),
        (lambda table: table, "people_2_value", "people_2.people_2_value was removed"),
        (as_numbers, None, "key column customer_user_id changed from string to bigint"),
    ],
)
def test_breaking_change_is_refused_before_bucketing(
    case: Case, change: Change, unmapped: str | None, text: str
) -> None:
    january = case.run().manifest
    rewrite(case.snapshot(FEBRUARY), change)
    if unmapped:
        unmap(case, unmapped)
    with pytest.raises(QualityError) as refused:
        case.run()
    for words in (january.run_id, text, "--set quality.schema_changes=warn"):
        assert words in str(refused.value)
    assert [run.run_id for run in case.manifests()] == [january.run_id]
    assert case.shown()["bucketed_people_1"] == {JANUARY}
    seen, report = reports()
    outcome = case.run(report=report, quality__schema_changes="warn")
    assert outcome.manifest.status == "finished"
    assert f"breaking change for readers of the published tables: {text}" in warnings_in(seen)
    assert case.shown()["bucketed_people_1"] == {FEBRUARY}


def test_allowed_breaking_change_is_silent(case: Case) -> None:
    case.run()
    rewrite(case.snapshot(FEBRUARY), as_text)
    seen, report = reports()
    case.run(report=report, quality__schema_changes="allow")
    assert "breaking" not in warnings_in(seen)


def test_new_column_gives_warning(case: Case) -> None:
    case.run()
    rewrite(case.snapshot(FEBRUARY), lambda table: table.append_column("fresh", table["people_1_value"]))
    seen, report = reports()
    assert case.run(report=report).manifest.status == "finished"
    assert "new columns in the snapshot: fresh" in warnings_in(seen)


def test_memory_layout_is_no_schema_change(case: Case) -> None:
    case.run()
    rewrite(
        case.snapshot(FEBRUARY),
        lambda table: replace(
            table, "people_1_mark", table["people_1_mark"].cast("large_string").dictionary_encode()
        ),
    )
    drift = case.run().manifest.verify.drift
    assert drift is not None
    assert drift.schema_changes == ()


def test_table_removed_from_mapping_gives_warning(case: Case) -> None:
    case.run()
    case.snapshot(FEBRUARY)
    for column in ("people_2_value", "people_2_mark"):
        unmap(case, column)
    seen, report = reports()
    case.run(report=report)
    assert "tables no longer in the mapping: people_2; their published versions stay unchanged" in warnings_in(seen)
    assert (case.shown()["bucketed_people_1"], case.shown()["bucketed_people_2"]) == ({FEBRUARY}, {JANUARY})


def test_table_is_compared_with_run_it_shows(case: Case) -> None:
    case.run()
    rewrite(case.snapshot(FEBRUARY), as_text)
    case.run(tables=["people_1"], quality__schema_changes="warn")
    case.snapshot(MARCH)
    with pytest.raises(QualityError, match=r"people_1\.people_1_value changed from string to bigint; quality"):
        case.run()
    assert case.run(tables=["people_2"]).manifest.status == "finished"


def test_changed_null_share_warns_or_is_refused(case: Case) -> None:
    case.run()
    rewrite(case.snapshot(FEBRUARY), with_nulls)
    changed = r"people_1_value 0\.0% to 25\.\d%"
    with pytest.raises(QualityError, match=rf"{changed}; quality\.max_null_share_changed_points is 20"):
        case.run(quality__max_null_share_changed_points=20)
    assert len(case.manifests()) == 1
    seen, report = reports()
    case.run(report=report)
    assert "shares of NULLs changed: people_1_value 0.0% to 25." in warnings_in(seen)
    assert "monitoring.null_share_changed_points is 10" in warnings_in(seen)


def test_missing_keys_warn_or_are_refused(case: Case) -> None:
    case.run()
    case.rows = 200
    case.snapshot(FEBRUARY)
    with pytest.raises(QualityError, match=r"has only 66\.67 % of the keys of .*min_keys_kept_percent is 70"):
        case.run(quality__min_keys_kept_percent=70)
    assert list(case.manifests()[-1].stages) == ["discover", "split", "size", "bucket"]
    assert case.shown()["bucketed_people_1"] == {JANUARY}
    seen, report = reports()
    case.run(report=report, resume="last")
    assert "only 66.67 % of the published keys are in the snapshot" in warnings_in(seen)
    assert "the number of rows changed by 33.33 %; monitoring.rows_changed_percent is 20" in warnings_in(seen)


def test_half_of_rows_more_than_default_is_refused(case: Case) -> None:
    case.run()
    case.rows = 460
    case.snapshot(FEBRUARY)
    with pytest.raises(QualityError, match=r"quality\.max_rows_changed_percent is 50"):
        case.run()


def test_plan_shows_breaking_change_without_writing(case: Case) -> None:
    january = case.run().manifest
    rewrite(case.snapshot(FEBRUARY), as_text)
    before = case.tree()
    planned = plan(case.settings(), RunRequest(DATASET))
    drift = planned.drift
    assert drift is not None
    (obstacle,) = planned.obstacles
    assert obstacle.endswith("quality.schema_changes is error; accept it with --set quality.schema_changes=warn")
    assert plan(case.settings(quality__schema_changes="warn"), RunRequest(DATASET)).obstacles == ()
    assert plan(case.settings(), RunRequest(DATASET, ("discover",))).obstacles == ()
    assert (drift.run_id, [change.text for change in drift.schema_changes if change.breaking]) == (
        january.run_id,
        ["people_1.people_1_value changed from bigint to string"],
    )
    assert case.tree() == before
