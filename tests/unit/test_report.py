from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from bucketwheel.report import render
from bucketwheel.runs.column_statistics import ColumnStatistics
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
    stage,
    verify,
    whole,
)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(whole())


def test_page_has_no_external_references_or_scripts(page: Page) -> None:
    for reference in ("http://", "https://", "url(", "@import", "src=", "<script", "<link", "<img"):
        assert reference not in page.html
    assert set(re.findall(r'href="(.)', page.html)) == {"#"}
    assert "default-src 'none'" in page.html


def test_page_shows_numbers_of_manifest(page: Page) -> None:
    written = many()
    biggest, mean = written.outcomes[17].rows, written.rows / 256
    for shown in (
        *(RUN_ID, "finished", "2025-11-01 04:11:09 UTC", "pyarrow 26.0.1", "256 buckets, hive_v1, sorted"),
        *(f"Rows{written.rows:,}all keys verified", "Tables8120 columns mapped", "Written208.0 GB2,040 files"),
        *("Buckets2561 empty", "NULL keys1,204< 0.001 % of rows", "Duplicate keys2,345,6780.627 % of rows"),
        *("Time35 min 21 s218,587 rows/s written", "Source212.0 GB198.0 GB to read", "c0ffee" * 10),
        *("bucket28 min 32 s218,587", "verify6 min 42 s930,165", f"Largest: 17 ({biggest / mean:.2f} \u00d7)"),
        *("8 tables120208.0 GB2,040", f"Every table has the same {written.rows:,} rows."),
        f"bucketed_<table>8 tablesctas{TARGET}/<table>/{RUN_ID}{TARGET}/2025-09-24-20251002T031500Z-77aa01",
        "2 warnings discover: snapshot_dt=2025-13-40: not a date, skippedverify: 2345678 rows repeat a key",
    ):
        assert shown in page.text
    assert "--resume" not in page.text


def test_page_shows_peak_memory_where_known(page: Page) -> None:
    assert "Peak memory" not in page.text
    run = whole()
    measured = run.stages["bucket"].model_copy(update={"peak_memory_bytes": 1_547_000_000})
    text = Page(run.with_stage("bucket", measured)).text
    assert re.search(r"bucket28 min 32 s218,587\s*1.5.GB", text)
    assert re.search(r"Total35 min 21 s\s*1.5.GB", text)


def test_rows_of_a_table_have_the_same_columns_on_narrow_screens(page: Page) -> None:
    run = whole()
    measured = run.stages["bucket"].model_copy(update={"peak_memory_bytes": 1})
    for html in (page.html, Page(run.with_stage("bucket", measured)).html):
        tables = [table for table in re.findall(r"<table>.*?</table>", html, re.DOTALL) if 'class="share"' in table]
        assert len(tables) == 2
        for table in tables:
            # The style sheet hides the bars.
            rows = re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
            assert {row.count('class="share"') for row in rows} == {1}


def test_page_of_one_bucket_has_no_spread() -> None:
    text = Page(whole(tables=1, count=1, skewed=False)).text
    assert "Layout1 bucket, hive_v1, sorted" in text
    assert "One bucket holds all 374,112,345 rows." in text
    assert "standard deviation" not in text


def test_links_lead_to_sections_of_page(page: Page) -> None:
    targets = re.findall(r'href="#(\w+)"', page.html)
    assert len(targets) == 9
    assert [page.html.count(f'id="{target}"') for target in targets] == [1] * 9
    failed = Page(manifest(status="failed", error="no snapshot", fingerprint={})).html
    assert re.findall(r'href="#(\w+)"', failed) == ["time"]


@pytest.mark.parametrize(("lost", "last"), [(0, "yes"), (1, "\u2013")])
def test_table_row_shows_sizes_and_verification(lost: int, last: str) -> None:
    written = bucket(*(outcome(n, 10**6 * n) for n in range(4)))
    html = Page(manifest(discover(), split(1), size(1, 4), written, verify(written, lost=lost))).html
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t", html.split("<tbody>")[1].split("</tr>")[0])
    assert cells == ["ibe_01", "15", "270.0 MB", "3", "45.0 MB", "90.0 MB", "135.0 MB", last]


def test_rows_of_tables_are_shown_only_where_they_differ() -> None:
    written = bucket(outcome(0, 1000, 2))
    assert "Every table has the same 1,000 rows." in Page(manifest(discover(), split(2), size(2, 1), written)).text
    lost = written.outcomes[0].files[1].model_copy(update={"rows": 999})
    files = (written.outcomes[0].files[0], lost)
    uneven = bucket(written.outcomes[0].model_copy(update={"files": files}))
    shown = Page(manifest(discover(), split(2), size(2, 1), uneven)).text
    assert "ibe_01151,000" in shown
    assert "ibe_0215999" in shown
    assert "same 1,000 rows" not in shown


def test_columns_show_type_and_share_of_nulls() -> None:
    names = [("C_0", "string", 30), ("C_1", "int64", None), ("Record_Source", "string", 0)]
    sizes = {"uncompressed_bytes": 9, "compressed_bytes": 5000, "dictionary_bytes": None}
    columns = [{"name": name, "type": kind, "null_count": nulls, **sizes} for name, kind, nulls in names]
    shown = Page(manifest(discover(120, columns=columns), split(2))).text
    assert "Key 1" in shown
    assert "ibe_02 15" in shown
    assert "c_0C_0string25 %5.0 kB c_1C_1int64\u20135.0 kB" in shown
    assert "Not in the mapping 1 " in shown
    assert "Record_Sourcestring0 %5.0 kB" in shown


def test_columns_show_distinct_values_where_counted() -> None:
    names = [("C_0", "string"), ("C_1", "int64"), ("Record_Source", "string")]
    sizes = {"uncompressed_bytes": 9, "compressed_bytes": 5000, "dictionary_bytes": None, "null_count": 0}
    columns = [{"name": name, "type": kind, **sizes} for name, kind in names]
    counted = [
        ColumnStatistics(name="C_0", nulls=0, distinct=1200),
        ColumnStatistics(name="C_1", nulls=0, distinct=47, distinct_exact=False),
    ]
    written = bucket(outcome(0, 120, 2)).model_copy(update={"column_statistics": tuple(counted)})
    shown = Page(manifest(discover(120, columns=columns), split(2), size(2, 1), written)).text
    assert "c_0C_0string1,2000 %5.0 kB c_1C_1int64~470 %5.0 kB" in shown
    assert "Record_Sourcestring0 %5.0 kB" in shown


def test_published_tables_with_other_locations_have_own_rows() -> None:
    odd = published("ext", 3).model_dump()
    odd["tables"][1]["location"] = "s3://elsewhere/run"
    shown = Page(manifest(*whole(3, 4).results().values()).with_stage("register", stage(odd))).text
    assert f"ext_<table>2 tables: ext_ibe_01, ext_ibe_03register{TARGET}/<table>/{RUN_ID}" in shown
    assert "ext_ibe_02registers3://elsewhere/run" in shown


@pytest.mark.parametrize("count", [1, 8, 256, 1024])
def test_even_buckets_are_one_histogram(count: int) -> None:
    page = Page(whole(2, count, skewed=False))
    assert ("Evenly filled:" if count > 1 else "One bucket holds all") in page.text
    assert "of each of" not in page.html
    chart = page.html.split('aria-label="Number of buckets by rows"')[1].split("</svg>")[0]
    assert sum(int(text.replace(",", "")) for text in re.findall(r"<title>[^<]*: ([\d,]+)</title>", chart)) == count


@pytest.mark.parametrize("count", [8, 256, 1024])
def test_skewed_buckets_are_one_bar_each(count: int) -> None:
    html = Page(whole(2, count)).html
    chart = html.split(f'aria-label="Rows of each of {count}:')[1].split("</svg>")[0]
    assert chart.count("<rect") == count + 3  # two backgrounds and the mean
    assert "Number of buckets by rows" not in html
    assert "Bytes of each of" not in html


def test_buckets_of_few_rows_are_not_skewed_by_chance() -> None:
    rows = [8] * 63 + [20]
    written = bucket(*(outcome(n, count) for n, count in enumerate(rows)))
    assert (
        "2.44 \u00d7 the mean, as chance explains" in Page(manifest(discover(), split(1), size(1, 64), written)).text
    )


def test_bytes_chart_adds_bytes_of_all_tables() -> None:
    wide = outcome(1, 1000, 2)
    wide = wide.model_copy(update={"files": tuple(f.model_copy(update={"bytes": 300_000}) for f in wide.files)})
    written = bucket(outcome(0, 1000, 2), wide, outcome(2, 1000, 2))
    html = Page(manifest(discover(), split(2), size(2, 3), written)).html
    # 900 bytes a file, 45 a row of the first table and 52 of the second.
    assert 'aria-label="Bytes of each of 3: largest 600.0 kB, mean 265.9 kB"' in html
    assert "<title>0: 98.8 kB, 0.37 \u00d7 mean</title>" in html
    assert "Evenly filled" in html


def test_large_buckets_are_highlighted(page: Page) -> None:
    large = page.html.split('color-1">')[1].split("</g></g></g>")[0]
    assert re.findall(r"<title>(\d+):", large) == ["17"]
    assert "Skewed: 1 bucket of 256 holds more than 1.5 \u00d7 the mean" in page.text


def test_times_and_sizes_choose_their_unit() -> None:
    for seconds, shown in (
        (0, "0 s"),
        (0.25, "0.25 s"),
        (59.9, "59.9 s"),
        (59.99, "1 min 00 s"),
        (3725, "1 h 02 min"),
    ):
        stages = {"split": {"started": "", "seconds": seconds, "result": split(1).model_dump()}}
        assert f"split{shown}" in Page(manifest(stages=stages)).text
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
    name = "<script>alert('x')\"&"  # names of tables have neither slashes nor control characters
    written = bucket(outcome(0, 10, [name], smallest_key=markup, largest_key=markup))
    source = discover(10, keys=[markup], location=markup, warnings=[markup])
    results = (source, split([name], [markup]), size([name], 1), written, verify(written, [name]))
    words = {"error": markup, "dataset": markup, "runtime": markup, "tables_filter": [markup], "created": markup}
    maps = {"fingerprint": {markup: markup}, "versions": {markup: markup}, "status": "failed"}
    run = manifest(*results, published(markup, [name]), published(markup, [name]), **words, **maps)
    shown = Page(run, show_keys=True)
    assert "<script" not in shown.html
    assert shown.html.count("&lt;script&gt;") > 25


FAILED = manifest(discover(), split(), size(), status="failed", error="a page is corrupt")
STARTED = manifest(discover(), status="running")
PARTS = whole(3, 20, skewed=False, hive=False)


@pytest.mark.parametrize(
    ("run", "charts", "shown"),
    [
        (manifest(status="failed", error="no snapshot", snapshot_dt=None, fingerprint={}), 0, "no snapshot"),
        (STARTED, 0, "The run had not finished when this report was written"),
        (STARTED, 0, "Stages not run: split, size, bucket, verify, register, ctas."),
        (STARTED, 0, "374,112,345in the source"),
        (STARTED, 0, "40 files, 374,112,345 rows, 212.0 GB, 130 columns. The first 12:"),
        (FAILED, 0, "The run failed a page is corrupt"),
        (FAILED, 0, f"bucketwheel run infobase_attributes --resume {RUN_ID}"),
        (FAILED, 0, "Estimated from the footers of the source."),
        (FAILED, 0, "TableColumnsEstimated ibe_011517.0 GB ibe_021517.0 GB"),
        (manifest(discover(), split(), size(), bucket(outcome(0, 0))), 0, "Buckets2561 empty"),
        (manifest(discover(), split(), size(), bucket(outcome(0, 9), spilled=10**9)), 2, "Spilled to disk1.0 GB"),
        (PARTS, 2, "20 parts, not bucketed"),
        (PARTS, 2, "rows per part, mean 18,705,617; the largest, 6, holds"),
        (manifest(discover(), split(unmapped=["C"] * 300)), 0, "Not in the mapping 300"),
        (manifest(discover(warnings=[f"odd {n}" for n in range(15)])), 0, "15 warnings"),
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
    run = manifest(source, split(1), size(1, 2), written)
    html = render.render(run, show_keys=True)
    assert re.findall(r'<dt>(?:Smallest|Largest) key</dt><dd class="id">([^<]*)</dd>', html) == expected
    hidden = render.render(run)
    assert "mallest key" not in hidden
    assert not any(key and f">{key}<" in hidden for pair in ranges for key in pair)


def test_file_chart_shows_small_files_beside_a_large_one() -> None:
    written = bucket(*(outcome(n, 1_000 + 400 * n) for n in range(8)), outcome(8, 5_000_000))
    html = Page(manifest(discover(), split(1), size(1, 9), written)).html
    bars = dict(re.findall(r"<title>(\S+ kB|\S+ MB) to [^<]*: (\d+)</title>", html))
    assert bars == {"20.0 kB": "1", "50.0 kB": "3", "100.0 kB": "4", "200.0 MB": "1"}


def test_render_is_deterministic(page: Page) -> None:
    assert Page(Manifest.model_validate_json(whole().model_dump_json())).html == page.html


def test_render_leaves_no_import_finder(page: Page) -> None:
    assert page.tags.count("svg") == 2
    assert [finder for finder in sys.meta_path if type(finder).__module__.startswith("pygal")] == []


@pytest.mark.parametrize(("tables", "count", "limit"), [(8, 256, 120_000), (25, 256, 150_000), (25, 1024, 340_000)])
def test_page_is_small(tables: int, count: int, limit: int) -> None:
    assert len(render.render(whole(tables, count)).encode()) < limit
