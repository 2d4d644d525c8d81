from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bucketwheel import formatting
from bucketwheel.catalogs.live import LiveCount
from bucketwheel.cli import live_text, text
from bucketwheel.pipeline.layout_advice import advise
from bucketwheel.pipeline.plan import Plan, planned_layouts
from bucketwheel.pipeline.run_states import RunState
from bucketwheel.runs.drift_records import Drift
from bucketwheel.runs.manifest import (
    BucketOutcome,
    BucketResult,
    FileRecord,
    Manifest,
    PublishedTable,
    PublishResult,
    VerifiedTable,
    VerifyResult,
)
from bucketwheel.settings import STAGES
from stage_support import column, discovered, manifest, services, size, split

Golden = Callable[[str, str], None]


def plan(**overrides: Any) -> Plan:
    columns = [
        column("Key", 6_000_000_000),
        *(column(f"Column {n}", 170_000_000) for n in range(140)),
        column("Z", 3),
    ]
    snapshot = discovered(columns, [[1_000_000] * 94] * 3 + [[1_000_000] * 92])
    # Fixed, so that the texts are the same on every machine.
    parts: dict[str, Any] = {
        "split__columns_over_limit": "parts",
        "split__column_limit": 100,
        "memory": 2**36,
        **overrides,
    }
    sized, settings = size(snapshot, **parts), services(**parts).settings
    advice = advise(planned_layouts(sized, settings), settings.readers, snapshot.rows)
    return Plan("addressable_ids", STAGES, snapshot, split(snapshot, **parts), sized, advice=advice)


def test_plan_text_matches_golden_file(golden: Golden) -> None:
    golden("plan.txt", text.plan_text(plan()) + "\n")


def test_plan_text_variants_match_golden_file(golden: Golden) -> None:
    unbucketed = text.plan_text(plan(buckets__count="none", tables=["addressable_ids_part_2"]))
    many = text.plan_text(plan(buckets__count=20_000, buckets__hash="spark"))
    both = text.plan_text(plan(readers=["trino", "athena", "clean_rooms", "duckdb"], buckets__count=256))
    golden("plan_variants.txt", f"{unbucketed}\n\n{many}\n\n{both}\n")


def finished() -> Manifest:
    outcome: dict[str, Any] = {
        "null_keys": 0,
        "duplicate_keys": 0,
        "smallest_key": "a",
        "largest_key": "b",
        "key_checksum": 1,
    }
    files = tuple(FileRecord(table=name, name="000000_0", rows=1200, bytes=5_000_000) for name in ("t1", "t2"))
    outcomes = (BucketOutcome(bucket=0, rows=1200, files=files, **outcome),)
    tables = tuple(VerifiedTable(name=name, rows=1200, files=1, bytes=5_000_000) for name in ("t1", "t2"))
    placed = tuple(
        PublishedTable(name=f"ext_{n}", location=f"/out/{n}/x", previous_location=None) for n in ("t1", "t2")
    )
    return manifest(
        discover=discovered([column("Key")], [[1200]]),
        bucket=BucketResult(rows=1200, empty_buckets=0, spilled_bytes=0, outcomes=outcomes),
        verify=VerifyResult(rows=1200, key_checksum=1, null_keys=0, duplicate_keys=0, tables=tables),
        register=PublishResult(tables=placed),
    ).model_copy(update={"status": "finished", "snapshot_dt": "2025-10-22"})


def test_run_and_runs_text_match_golden_file(golden: Golden) -> None:
    run, begun = finished(), manifest()
    selected = run.model_copy(update={"tables_filter": ("t1", "t2", "t3", "t4")})
    found = discovered([column("Key"), column("A")], [[1200]])
    sized = manifest(discover=found, size=size(found, buckets__count=256))
    texts = (
        text.run_text(run, True),
        text.run_text(run, False),
        text.run_text(begun, True),
        live_text.runs_text(
            [
                RunState(run, "finished", live=LiveCount(2, 2, "final")),
                RunState(selected, "finished", live=LiveCount(1, 4, "staged")),
                RunState(sized, "interrupted", (62, 256), LiveCount(0, 1, "final")),
                RunState(begun, "running"),
            ]
        ),
        live_text.runs_text([RunState(run, "finished")]),
        live_text.runs_text([]),
    )
    golden("runs.txt", "\n\n".join(texts) + "\n")


def test_run_text_names_the_layout_of_each_table() -> None:
    snapshot = discovered([column("Key"), column("A")], [[1200]])
    tables = [VerifiedTable(name="t1", rows=1200, files=1, bytes=5_000_000, layout=name) for name in ("", "spark")]
    checked = VerifyResult(rows=1200, key_checksum=1, null_keys=0, duplicate_keys=0, tables=tuple(tables))
    sized = size(snapshot, readers=["trino", "glue"])
    lines = text.run_text(manifest(discover=snapshot, size=sized, verify=checked), True).splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [
        ["layout", "table"],
        ["------", "-----"],
        ["hive", "t1"],
        ["spark", "t1"],
    ]


def test_stages_text_shows_peak_memory_if_known() -> None:
    run = manifest(discover=discovered([column("Key")], [[1200]]))
    assert text.stages_text(run).splitlines()[0].split() == ["stage", "time", "start"]
    measured = run.stages["discover"].model_copy(update={"peak_memory_bytes": 210_000_000})
    lines = text.stages_text(run.with_stage("discover", measured)).splitlines()
    assert lines[0].split() == ["stage", "time", "peak", "memory", "start"]
    assert "210.0 MB" in lines[2]


def drift(**changes: Any) -> Drift:
    rows = {"rows_before": 1000, "rows": 1005, "rows_changed_percent": 0.5}
    return Drift.model_validate({"run_id": "RUN", "snapshot_dt": "2025-09-22", **rows, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["compared with run RUN, snapshot 2025-09-22: 1,005 rows, 1,000 before (+0.5 %)"]),
        ({"rows": 250}, ["compared with run RUN, snapshot 2025-09-22: 250 rows, 1,000 before (-75.0 %)"]),
        (
            {
                "new_columns": ["a", "b", "c", "d"],
                "vanished_columns": ["e"],
                "changed_types": [{"name": "f", "before": "int32", "now": "int64"}],
                "null_shares": [
                    {"name": "g", "before": 0.25, "now": 0.2},
                    {"name": "h", "before": 0.1, "now": 0.9},
                    {"name": "i", "before": 0.3, "now": 0.3},
                ],
                "keys": {"both": 900, "only_now": 105, "only_before": 100, "share": 0.9},
            },
            [
                "compared with run RUN, snapshot 2025-09-22: 1,005 rows, 1,000 before (+0.5 %); columns: "
                "4 new (a, b, c, …), 1 removed (e), 1 with a changed type (f); "
                "largest change in NULLs: h, 10.0% to 90.0%",
                "keys: 900 in both (90.0% of the earlier keys), 105 new, 100 removed",
            ],
        ),
        (
            {
                "null_shares": [{"name": "g", "before": 0.25, "now": 0.2504}],
                "keys_not_compared": "its bucket count is 4, that of this run 8",
            },
            [
                "compared with run RUN, snapshot 2025-09-22: 1,005 rows, 1,000 before (+0.5 %)",
                "keys not compared: its bucket count is 4, that of this run 8",
            ],
        ),
        (
            {"keys": {"both": 0, "only_now": 5, "only_before": 0, "share": None}},
            [
                "compared with run RUN, snapshot 2025-09-22: 1,005 rows, 1,000 before (+0.5 %)",
                "keys: 0 in both, 5 new, 0 removed",
            ],
        ),
    ],
)
def test_drift_lines_are_at_most_two(changes: dict[str, Any], expected: list[str]) -> None:
    assert text.drift_lines(drift(**changes)) == expected
    run = finished()
    checked = run.verify.model_copy(update={"drift": drift(**changes)})
    record = run.stages["verify"].model_copy(update={"result": checked.model_dump()})
    shown = text.run_text(run.model_copy(update={"stages": {**run.stages, "verify": record}}), True)
    assert "\n".join(expected) in shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (999_999, "1.0 MB"),
        (12_345_678, "12.3 MB"),
        (5 * 10**9, "5.0 GB"),
        (9 * 10**15, "9000.0 TB"),
    ],
)
def test_size_has_unit(count: int, shown: str) -> None:
    assert formatting.size_text(count) == shown


def test_table_aligns_numbers_right_and_words_left() -> None:
    assert formatting.table(("name", "rows"), [("a", "1"), ("long one", "1,000")]).splitlines() == [
        "name       rows",
        "--------  -----",
        "a             1",
        "long one  1,000",
    ]
    assert formatting.table(("a", "b"), []) == "a  b\n-  -"
