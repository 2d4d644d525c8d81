"""Drift and cost in the report."""

from __future__ import annotations

import re
from typing import Any

from bucketwheel.runs.cost import Cost
from bucketwheel.runs.drift_records import Drift
from bucketwheel.runs.manifest import Manifest
from report_support import Page, bucket, discover, manifest, outcome, size, split, verify, whole


def drifted(before: Manifest | None = None, **changes: Any) -> Page:
    shares = [{"name": f"c_{n}", "before": 0.5, "now": 0.5 + n / 100} for n in range(20)]
    values = {
        **{"run_id": "2025-09-22-20251002T031500Z-77aa01", "snapshot_dt": "2025-09-22"},
        **{"rows_before": 1000, "rows": 900, "rows_changed_percent": 10, "null_shares": shares},
    }
    written = bucket(outcome(0, 900))
    checked = verify(written, drift=Drift.model_validate(values | changes))
    return Page(manifest(discover(900), split(1), size(1, 1), written, checked), before=before)


def test_page_shows_drift() -> None:
    keys = {"both": 800, "only_now": 100, "only_before": 200, "share": 0.8}
    markup = {"name": "<b>", "before": "int64", "now": "string"}
    shown = drifted(keys=keys, new_columns=["fresh"], vanished_columns=["old", "older"], changed_types=[markup])
    for words in (
        *(
            "Changes since snapshot 2025-09-22",
            "Compared with run2025-09-22-20251002T031500Z-77aa01",
            "Rows: before, now1,000, 900 (\u221210 %)",
        ),
        *("Keys in both800 (80 % of the keys before)", "Keys only now, only before100, 200"),
        *("New in the sourcefresh", "Gone from the sourceold, older", "New type in the source<b>: int64, now string"),
        *(
            "NULLs changed by 0.1 points or more19 of 20 columns",
            "c_1950 %69 %+19",
            "Rows900\u221210 %, 1,000 before",
        ),
        "No column of a published table changed.",
    ):
        assert words in shown.text
    assert "<b>:" not in shown.html
    changed = re.findall(r'<tr><th scope="row">(c_\d+)</th><td class="n">50 %', shown.html)
    assert changed == [f"c_{n}" for n in range(19, 11, -1)]


def test_page_marks_changes_that_break_readers() -> None:
    changes = [
        {"table": "ibe_01", "column": "fresh", "before": None, "now": "int"},
        {"table": "ibe_01", "column": "age", "before": "bigint", "now": "string"},
        {"table": "ibe_01", "column": "old", "before": "bigint", "now": None},
        {"table": None, "column": "id", "before": "string", "now": "bigint"},
        *({"table": "ibe_02", "column": f"c_{n}", "before": "int", "now": "date"} for n in range(10)),
    ]
    shown = drifted(schema_changes=changes, removed_tables=["gone"])
    for words in (
        "breaks readersibe_01agebigintstring breaks readersibe_01oldbigint\u2013 breaks readersevery tableidstring",
        "2 more changed columns, 1 breakingbreaks readersibe_02c_9intdate newibe_01fresh\u2013int",
        "not updated 1 published table no longer in the mapping: gone.",
        "Tables113 breaking changes15 columns mapped",
    ):
        assert words in shown.text
    assert shown.html.index('id="changes"') < shown.html.index('id="tables"')


def test_tiles_show_change_since_published_run() -> None:
    written = bucket(outcome(0, 1000, null_keys=4))
    before = manifest(discover(1000, bytes=10**11), split(1), size(1, 1), written, verify(written))
    shown = drifted(before).text
    for words in (
        *("Rows900\u221210 %, 1,000 before", "Source212.0 GB+112 %, 100.0 GB before", "Tables1unchanged"),
        *("Written41.4 kB\u22129.8 %, 45.9 kB before", "Buckets1unchanged", "NULL keys0\u2212100 %, 4 before"),
        *("Duplicate keys0unchanged", "Time35 min 17 sunchanged"),
    ):
        assert words in shown


def test_tiles_compare_bytes_only_with_same_tables() -> None:
    written = bucket(outcome(0, 1000, 2))
    shown = drifted(manifest(discover(1000), split(2), size(2, 1), written, verify(written))).text
    assert "Tables1\u221250 %, 2 before" in shown
    assert "Written41.4 kB1 file" in shown


def test_page_shows_why_keys_were_not_compared() -> None:
    shown = drifted(keys_not_compared="its bucket count is 4", null_shares=[], null_shares_unknown=7, rows=1100)
    assert "Keys not comparedits bucket count is 4" in shown.text
    assert "1,000, 1,100 (+10 %)" in shown.text
    assert "points or more0 of 0 columns, 7 unknown" in shown.text
    assert "Largest changes" not in shown.text
    assert "Changes since" not in Page(whole()).text


def test_page_shows_cost() -> None:
    cost = Cost("emr-serverless", 3600, {"vCPU-hours": 40, "GB-hours": 300}, 3.9, 9_000, 400, 0.006, 10**12, 5, "why")
    shown = Page(whole(), cost).text
    for words in (
        "Workers of emr-serverless (upper limit)40.00 vCPU-hours, 300.00 GB-hours3.90",
        *("S3 requests (estimate)9,000 reads, 400 writes0.01", "Athena scans1.0 TB5.00", "Total8.91"),
        "why, at the configured prices.",
    ):
        assert words in shown
    requests = Page(whole(), Cost(None, 1, {}, 0, 9, 4, 0.02, 0, 0, "why")).text
    assert "Total0.02" in requests
    assert "Workers of" not in requests
    assert "Athena" not in requests
