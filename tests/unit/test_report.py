from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from bucketwheel.report import render
from bucketwheel.runs.manifest import Manifest
from report_support import (
    RUN_ID,
    TARGET,
    WARNINGS,
    Page,
    bucket,
    discover,
    manifest,
    many,
    outcome,
    published,
    size,
    split,
    verify,
    whole,
)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(whole())


def test_page_has_no_external_references_or_scripts(page: Page) -> None:
    for reference in ("http://", "https://", "url(", "@import", "src=", "href=", "<script", "<link", "<img"):
        assert reference not in page.html
    assert "default-src 'none'" in page.html


def test_page_shows_numbers_of_manifest(page: Page) -> None:
    written = many()
    biggest, mean = written.outcomes[17].rows, written.rows / 256
    for shown in (
        *(RUN_ID, "finished", "2025-11-01 04:11:09 UTC", "pyarrow 26.0.1", "256 buckets, hive_v1, sorted"),
        *(f"Rows{written.rows:,}all keys verified", "Tables8120 columns mapped", "Written208.0 GB2,040 files"),
        *("Buckets2561 empty", "Null keys1,204< 0.001 % of rows", "Duplicate keys2,345,6780.627 % of rows"),
        *("Time35 min 21 s7 of 7 stages done", "Source212.0 GB198.0 GB to read", "c0ffee" * 10),
        f"bucket, 17, holds {biggest:,} rows, {biggest / mean:.2f} \u00d7 the mean of {mean:,.0f}",
        f"bucketed_ibe_02ctas{TARGET}/ibe_02/{RUN_ID}{TARGET}/2025-09-24-20251002T031500Z-77aa01",
        "2 warnings discover: snapshot_dt=2025-13-40: not a date, skippedverify: 2345678 rows repeat a key",
    ):
        assert shown in page.text
    assert "--resume" not in page.text


@pytest.mark.parametrize(("lost", "last"), [(0, "yes"), (1, "\u2013")])
def test_table_row_shows_sizes_and_verification(lost: int, last: str) -> None:
    written = bucket(*(outcome(n, 10**6 * n) for n in range(4)))
    html = Page(manifest(discover(), split(1), size(1, 4), written, verify(written, lost=lost))).html
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t", html.split("<tbody>")[2].split("</tr>")[0])
    assert cells == ["ibe_01", "15", "6,000,000", "3", "17.0 GB", "270.0 MB", "45.0 MB", "90.0 MB", "135.0 MB", last]


@pytest.mark.parametrize("count", [1, 8, 256, 1024])
@pytest.mark.parametrize("what", ["Rows", "Bytes"])
def test_bucket_chart_has_one_bar_per_bucket(count: int, what: str) -> None:
    chart = render.render(whole(2, count, skewed=False)).split(f'aria-label="{what} of each of {count}:')[1]
    assert chart.split("</svg>")[0].count("<rect") == count + 3  # two backgrounds and the mean


def test_bytes_chart_adds_bytes_of_all_tables() -> None:
    written = bucket(outcome(0, 1000, 2), outcome(1, 3000, 2), outcome(2, 0))
    html = Page(manifest(discover(), split(2), size(2, 3), written)).html
    # 900 bytes a file, 45 a row of the first table and 52 of the second.
    assert 'aria-label="Bytes of each of 3: largest 292.8 kB, mean 130.5 kB"' in html
    assert "<title>0: 98.8 kB, 0.76 \u00d7 mean</title>" in html
    assert "<title>2: 0 B, 0.00 \u00d7 mean</title>" in html


def test_quality_chart_shows_shares_of_null_and_duplicate_keys() -> None:
    written = bucket(outcome(0, 200, null_keys=3, duplicate_keys=50))
    shares = "null keys: 1.5\u00a0%; duplicate keys: 25\u00a0%"
    assert f'aria-label="{shares}"' in render.render(manifest(discover(), split(1), size(1, 1), written))


def test_large_buckets_are_highlighted(page: Page) -> None:
    large = page.html.split('color-1">')[1].split("</g></g></g>")[0]
    assert re.findall(r"<title>(\d+):", large) == ["17"]
    assert "Strong skew" in page.text


def test_times_and_sizes_choose_their_unit() -> None:
    for seconds, shown in (
        (0, "0 s"),
        (0.25, "0.25 s"),
        (59.9, "59.9 s"),
        (59.99, "1 min 00 s"),
        (3725, "1 h 02 min"),
    ):
        stages = {"split": {"started": "", "seconds": seconds, "result": split(1).model_dump()}}
        assert f'aria-label="split: {shown}"' in Page(manifest(stages=stages)).html
    for number, shown in (
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (999_960, "1.0 MB"),
    ):
        assert f"Source{shown}" in Page(manifest(discover(bytes=number))).text


def test_page_escapes_text_from_data() -> None:
    markup = "<script>alert('x')</script>\"&\x01/"
    written = bucket(outcome(0, 10, [markup], smallest_key=markup, largest_key=markup))
    source = discover(10, keys=[markup], location=markup, warnings=[markup])
    results = (source, split([markup], [markup]), size([markup], 1), written, verify(written, [markup]))
    words = {"error": markup, "dataset": markup, "runtime": markup, "tables_filter": [markup], "created": markup}
    maps = {"fingerprint": {markup: markup}, "versions": {markup: markup}, "status": "failed"}
    shown = Page(manifest(*results, published(markup, [markup]), published(markup, [markup]), **words, **maps))
    assert "<script" not in shown.html
    assert shown.html.count("&lt;script&gt;") > 25


LONG = "a_table_with_a_very_long_name_indeed"
FAILED = manifest(discover(), split(), size(), status="failed", error="a page is corrupt")
STARTED = manifest(discover(), status="running")
PARTS = whole(3, 20, skewed=False, hive=False)


@pytest.mark.parametrize(
    ("run", "charts", "shown"),
    [
        (manifest(status="failed", error="no snapshot", snapshot_dt=None, fingerprint={}), 0, "no snapshot"),
        (STARTED, 1, "The run had not finished when this report was written"),
        (STARTED, 1, "Stages not run: split, size, bucket, verify, register, ctas."),
        (STARTED, 1, "374,112,345in the source"),
        (STARTED, 1, "40 files, 374,112,345 rows, 212.0 GB, 130 columns. The first 12:"),
        (FAILED, 2, "The run failed a page is corrupt"),
        (FAILED, 2, f"bucketwheel run infobase_attributes --resume {RUN_ID}"),
        (FAILED, 2, "Estimated from the footers of the source."),
        (manifest(discover(), split(), size(), bucket(outcome(0, 0))), 3, "Buckets2561 empty"),
        (manifest(discover(), split(), size(), bucket(outcome(0, 9), spilled=10**9)), 6, "1.0 GB spilled to disk"),
        (PARTS, 6, "20 parts, not bucketed"),
        (PARTS, 6, "Evenly filled. The largest part, 6, holds"),
        (manifest(discover(), split([LONG]), size([LONG])), 2, "a_table_with\u2026name_indeed"),
        (manifest(discover(), split(unmapped=["C"] * 300)), 1, "300 source columns are not in the mapping"),
        (manifest(discover(warnings=[f"odd {n}" for n in range(15)])), 1, "15 warnings"),
    ],
)
def test_page_of_partial_or_unusual_run_renders(run: Manifest, charts: int, shown: str) -> None:
    partial = Page(run)
    assert shown in partial.text
    assert partial.tags.count("svg") == charts


@pytest.mark.parametrize(
    ("warnings", "error", "outcomes"),
    [
        (WARNINGS, None, ["warning", "warning"]),
        (WARNINGS[1:], None, ["allowed", "warning"]),
        (None, f"{WARNINGS[0]}; nothing was published", ["refused", "not checked yet"]),
    ],
)
def test_quality_table_shows_policy_outcome(warnings: Any, error: str | None, outcomes: list[str]) -> None:
    checked = [] if warnings is None else [verify(many(1, 4), warnings)]
    html = render.render(manifest(discover(), split(1), size(1, 4), many(1, 4), *checked, error=error))
    assert re.findall(r'<td><span class="pill \w+">([^<]+)<', html) == outcomes


@pytest.mark.parametrize(
    ("types", "ranges", "expected"),
    [
        (["string"], [("10", "9"), ("9", "99")], ["10", "99"]),
        (["bigint"], [("10", "9"), ("-9", "100")], ["-9", "100"]),
        (["string", "int"], [("a|10", "b|9"), ("a|9", "b|10")], ["a|9", "b|10"]),
        (["string", "int"], [("a|b|10", "b|9")], ["\u2013", "\u2013"]),
        (["string"], [(None, None)], ["\u2013", "\u2013"]),
    ],
)
def test_key_range_follows_order_of_type(types: list[str], ranges: list[Any], expected: list[str]) -> None:
    written = bucket(*(outcome(n, 5, smallest_key=a, largest_key=b) for n, (a, b) in enumerate(ranges)))
    source = discover(keys=["k"] * len(types), key_types=types)
    html = render.render(manifest(source, split(1), size(1, 2), written))
    assert re.findall(r'<dt>(?:Smallest|Largest) key</dt><dd class="id">([^<]*)</dd>', html) == expected


def test_file_chart_shows_small_files_beside_a_large_one() -> None:
    written = bucket(*(outcome(n, 1_000 + 400 * n) for n in range(8)), outcome(8, 5_000_000))
    html = Page(manifest(discover(), split(1), size(1, 9), written)).html
    bars = dict(re.findall(r"<title>(\S+ kB|\S+ MB) to [^<]*: (\d+)</title>", html))
    assert bars == {"20.0 kB": "1", "50.0 kB": "3", "100.0 kB": "4", "200.0 MB": "1"}


def test_render_is_deterministic(page: Page) -> None:
    assert Page(Manifest.model_validate_json(whole().model_dump_json())).html == page.html


def test_render_leaves_no_import_finder(page: Page) -> None:
    assert page.tags.count("svg") == 6
    assert [finder for finder in sys.meta_path if type(finder).__module__.startswith("pygal")] == []


@pytest.mark.parametrize(("tables", "count", "limit"), [(8, 256, 120_000), (25, 256, 150_000), (25, 1024, 340_000)])
def test_page_is_small(tables: int, count: int, limit: int) -> None:
    assert len(render.render(whole(tables, count)).encode()) < limit
