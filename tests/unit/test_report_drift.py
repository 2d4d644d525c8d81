"""Drift and cost in the report."""

from __future__ import annotations

import re
from typing import Any

from bucketwheel.cost import Cost
from bucketwheel.runs.manifest import Drift
from report_support import Page, bucket, discover, manifest, outcome, size, split, verify, whole


def drifted(**changes: Any) -> Page:
    shares = [{"name": f"c_{n}", "before": 0.5, "now": 0.5 + n / 100} for n in range(20)]
    values = {
        **{"run_id": "2025-09-22-20251002T031500Z-77aa01", "snapshot_dt": "2025-09-22"},
        **{"rows_before": 1000, "rows": 900, "rows_changed_percent": 10, "null_shares": shares},
    }
    written = bucket(outcome(0, 900))
    checked = verify(written, drift=Drift.model_validate(values | changes))
    return Page(manifest(discover(900), split(1), size(1, 1), written, checked))


def test_page_shows_drift() -> None:
    keys = {"both": 800, "only_now": 100, "only_before": 200, "share": 0.8}
    markup = {"name": "<b>", "before": "int64", "now": "string"}
    shown = drifted(keys=keys, new_columns=["fresh"], vanished_columns=["old", "older"], changed_types=[markup])
    for words in (
        *("Published run2025-09-22-20251002T031500Z-77aa01", "Rows: before, now1,000, 900 (\u221210 %)"),
        *("Keys in both800 (80 % of the keys before)", "Keys only now, only before100, 200"),
        *("New columnsfresh", "Removed columnsold, older", "new type<b>: int64, now string"),
        *("Columns with a changed share of NULLs19 of 20", "The 12 largest changes"),
    ):
        assert words in shown.text
    assert "<b>:" not in shown.html
    assert "new keys: 11.1\xa0%; missing keys: 20\xa0%" in shown.html.replace(" %", "\xa0%")
    changed = re.findall(r'<tr><th scope="row">(c_\d+)</th><td class="n">50 %', shown.html)
    assert changed == [f"c_{n}" for n in range(19, 7, -1)]


def test_page_shows_why_keys_were_not_compared() -> None:
    shown = drifted(keys_not_compared="its bucket count is 4", null_shares=[], null_shares_unknown=7, rows=1100)
    assert "Keys not comparedits bucket count is 4" in shown.text
    assert "1,000, 1,100 (+10 %)" in shown.text
    assert "share of NULLs0 of 0, 7 unknown" in shown.text
    assert "largest changes" not in shown.text
    assert "Changes since the published snapshot" not in Page(whole()).text


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
