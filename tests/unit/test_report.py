from __future__ import annotations

import random
import re
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import pytest

from bucketwheel import manifest as kinds
from bucketwheel.cost import Cost
from bucketwheel.manifest import BucketOutcome, BucketResult, Manifest
from bucketwheel.observe import report
from bucketwheel.records import Drift

RUN_ID = "2025-10-22-20251101T041109Z-3f9a1c"
WARNINGS = ("1204 rows have a NULL key", "2345678 rows repeat a key")
SOURCE = "s3://data/opus/infobase_attributes/raw_input/snapshot_dt=2025-10-22"
TARGET = "s3://data/omc_cleanroom_data/infobase_attributes"
STAGES = ("discover", "split", "size", "bucket", "verify", "register", "ctas")
SECONDS = (3.4, 0.02, 0.01, 1711.5, 402.2, 2.25, 1.5)


def names_of(tables: int | Sequence[str]) -> list[str]:
    return [f"ibe_{n + 1:02}" for n in range(tables)] if isinstance(tables, int) else list(tables)


def discover(rows: int = 374_112_345, **other: Any) -> kinds.DiscoverResult:
    file = {"modified": "2025-10-23T02:15:00+00:00", "bytes": 5_300_000_000}
    groups = [rows // 80, rows // 40 - rows // 80]
    column = {"name": "C", "type": "string", "compressed_bytes": 1, "uncompressed_bytes": 1, "dictionary_bytes": None}
    values = {
        **{"snapshot_dt": "2025-10-22", "location": SOURCE, "rows": rows, "bytes": 212 * 10**9, "schema_ipc": ""},
        **{"keys": ["Customer_User_id"], "key_types": ["string"], "columns": [column] * 130},
        "files": [{"path": f"{SOURCE}/part-{n:05}.parquet", "row_group_rows": groups, **file} for n in range(40)],
    }
    return kinds.DiscoverResult.model_validate(values | other)


def split(tables: int | Sequence[str] = 8, unmapped: Sequence[str] = ("Record_Source",)) -> kinds.SplitResult:
    columns = [{"source": f"C_{n}", "name": f"c_{n}"} for n in range(15)]
    found = [{"name": name, "columns": columns} for name in names_of(tables)]
    values = {"keys": columns[:1], "tables": found, "unmapped": unmapped, "mapping_sha256": "0" * 64}
    return kinds.SplitResult.model_validate(values)


def size(tables: int | Sequence[str] = 8, count: int = 256, hive: bool = True) -> kinds.SizeResult:
    table = {"columns": 15, "bytes": 17 * 10**9, "files": count, "row_group_rows": 10**5}
    values = {
        **{"bucket_count": count, "bucketed": hive, "hash": "hive_v1", "sort": True, "dictionary_columns": []},
        **{"max_file_bytes": 2**30, "page_bytes": 2**20, "bytes_to_read": 198 * 10**9, "decoded_bytes_per_row": 900},
        **{"tables": [{"name": name, **table} for name in names_of(tables)], "slices": []},
    }
    return kinds.SizeResult.model_validate(values)


def outcome(bucket: int, rows: int, tables: int | Sequence[str] = 1, **other: Any) -> BucketOutcome:
    file = {"name": f"{bucket:06}_0.snappy.parquet", "rows": rows}
    named = enumerate(names_of(tables) if rows else [])
    values = {
        **{"bucket": bucket, "rows": rows, "null_keys": 0, "duplicate_keys": 0, "key_checksum": 7},
        **{"smallest_key": f"{bucket:019}" if rows else None, "largest_key": f"9{bucket:018}" if rows else None},
        "files": [{"table": name, "bytes": 900 + rows * (45 + 7 * n), **file} for n, name in named],
    }
    return BucketOutcome.model_validate(values | other)


def bucket(*outcomes: BucketOutcome, spilled: int = 0) -> BucketResult:
    rows, empty = sum(o.rows for o in outcomes), sum(not o.rows for o in outcomes)
    return BucketResult(rows=rows, empty_buckets=empty, spilled_bytes=spilled, outcomes=outcomes)


def many(tables: int = 8, count: int = 256, skewed: bool = True) -> BucketResult:
    rng = random.Random(7)
    weights = [rng.gauss(1, 0.03) for _ in range(count)]
    if skewed:
        weights[17 % count], weights[143 % count], weights[200 % count] = 2.7, 1.48, 0
    keys = {"null_keys": 1_204, "duplicate_keys": 2_345_678} if skewed else {}
    rows = [round(weight * 374_112_345 / sum(weights)) for weight in weights]
    return bucket(*(outcome(n, rows, tables, **({} if n else keys)) for n, rows in enumerate(rows)))


def verify(
    written: BucketResult, warnings: Sequence[str] = (), lost: int = 0, drift: Drift | None = None
) -> kinds.VerifyResult:
    files = [file for o in written.outcomes for file in o.files]
    tables = []
    for name in dict.fromkeys(file.table for file in files):
        of = [file for file in files if file.table == name]
        rows, total = sum(file.rows for file in of), sum(file.bytes for file in of)
        tables.append({"name": name, "rows": rows - lost, "files": len(of), "bytes": total})
    values = {"rows": written.rows, "key_checksum": 1792, "null_keys": 0, "duplicate_keys": 0}
    return kinds.VerifyResult.model_validate({**values, "tables": tables, "warnings": warnings, "drift": drift})


def published(prefix: str, tables: int | Sequence[str] = 8) -> kinds.PublishResult:
    before = {"previous_location": f"{TARGET}/2025-09-24-20251002T031500Z-77aa01"}
    after = [{"name": f"{prefix}_{name}", "location": f"{TARGET}/{name}/{RUN_ID}"} for name in names_of(tables)]
    return kinds.PublishResult.model_validate({"tables": [table | before for table in after]})


def manifest(*results: kinds.Record, **other: Any) -> Manifest:
    """Return the manifest of a run whose first stages found `results`."""
    done = zip(STAGES, SECONDS, results, strict=False)
    values = {
        **{"run_id": RUN_ID, "dataset": "infobase_attributes", "created": "2025-11-01T04:11:09+00:00"},
        **{"status": "finished", "snapshot_dt": "2025-10-22", "planned_stages": STAGES, "runtime": "local, 2 cores"},
        **{"fingerprint": {"input files": "c0ffee" * 10}, "versions": {"bucketwheel": "0.1.0", "pyarrow": "26.0.1"}},
        "stages": {name: {"started": "", "seconds": s, "result": found.model_dump()} for name, s, found in done},
    }
    return Manifest.model_validate(values | other)


def whole(tables: int = 8, count: int = 256, skewed: bool = True, hive: bool = True) -> Manifest:
    written = many(tables, count, skewed)
    found = discover(written.rows, warnings=["snapshot_dt=2025-13-40: not a date, skipped"] if skewed else [])
    checked = verify(written, WARNINGS[1:] if skewed else ())
    catalogued = (published("ext", tables), published("bucketed", tables))
    return manifest(found, split(tables), size(tables, count, hive), written, checked, *catalogued)


class Page(HTMLParser):
    """The visible text and the tags of a page; refuses a page whose tags do not nest."""

    def __init__(self, run: Manifest, cost: Cost | None = None) -> None:
        super().__init__()
        self.html = report.render(run, cost).replace("\u00a0", " ")
        self.words: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(self.html)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.open += [] if tag in {"meta", "wbr"} else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += [] if "style" in self.open else [data]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(whole())


def test_page_refers_to_nothing_outside_itself_and_runs_nothing(page: Page) -> None:
    for reference in ("http://", "https://", "url(", "@import", "src=", "href=", "<script", "<link", "<img"):
        assert reference not in page.html
    assert "default-src 'none'" in page.html


def test_numbers_are_those_of_the_manifest(page: Page) -> None:
    written = many()
    biggest, mean = written.outcomes[17].rows, written.rows / 256
    for shown in (
        *(RUN_ID, "finished", "2025-11-01 04:11:09 UTC", "pyarrow 26.0.1", "256 buckets, hive_v1, sorted"),
        *(f"Rows{written.rows:,}all read back", "Tables8120 columns mapped", "Written208 GB2,040 files"),
        *("Buckets2561 empty", "Null keys1,204< 0.001 % of rows", "Duplicate keys2,345,6780.627 % of rows"),
        *("Time35 min 21 s7 of 7 stages done", "Source212 GB198 GB of it to read", "c0ffee" * 10),
        f"bucket, 17, holds {biggest:,} rows, {biggest / mean:.2f} \u00d7 the mean of {mean:,.0f}",
        f"bucketed_ibe_02ctas{TARGET}/ibe_02/{RUN_ID}{TARGET}/2025-09-24-20251002T031500Z-77aa01",
        "2 warnings discover: snapshot_dt=2025-13-40: not a date, skippedverify: 2345678 rows repeat a key",
    ):
        assert shown in page.text
    assert "--resume" not in page.text


@pytest.mark.parametrize(("lost", "last"), [(0, "yes"), (1, "\u2013")])
def test_a_table_shows_its_rows_files_and_sizes_and_whether_it_was_verified(lost: int, last: str) -> None:
    written = bucket(*(outcome(n, 10**6 * n) for n in range(4)))
    html = Page(manifest(discover(), split(1), size(1, 4), written, verify(written, lost=lost))).html
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t", html.split("<tbody>")[2].split("</tr>")[0])
    assert cells == ["ibe_01", "15", "6,000,000", "3", "17.0 GB", "270 MB", "45.0 MB", "90.0 MB", "135 MB", last]


@pytest.mark.parametrize("count", [1, 8, 256, 1024])
def test_every_bucket_has_a_bar(count: int) -> None:
    chart = report.render(whole(2, count, skewed=False)).split(f'aria-label="Rows of each of {count}:')[1]
    assert chart.split("</svg>")[0].count("<rect") == count + 3  # two backgrounds and the mean


def test_large_buckets_stand_out(page: Page) -> None:
    large = page.html.split('color-1">')[1].split("</g></g></g>")[0]
    assert re.findall(r"<title>(\d+):", large) == ["17"]
    assert "Strong skew" in page.text


def test_times_and_sizes_have_fitting_units() -> None:
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
        (1000, "1.00 kB"),
        (12_345_678, "12.3 MB"),
        (999_600, "1.00 MB"),
    ):
        assert f"Source{shown}" in Page(manifest(discover(bytes=number))).text


def test_text_from_the_data_is_escaped() -> None:
    evil = "<script>alert('x')</script>\"&\x01/"
    written = bucket(outcome(0, 10, [evil], smallest_key=evil, largest_key=evil))
    found = discover(10, keys=[evil], location=evil, warnings=[evil])
    results = (found, split([evil], [evil]), size([evil], 1), written, verify(written, [evil]))
    words = {"error": evil, "dataset": evil, "runtime": evil, "tables_filter": [evil], "created": evil}
    maps = {"fingerprint": {evil: evil}, "versions": {evil: evil}, "status": "failed"}
    shown = Page(manifest(*results, published(evil, [evil]), published(evil, [evil]), **words, **maps))
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
        (STARTED, 1, "The run had not finished when this page was made"),
        (STARTED, 1, "Not done: split, size, bucket, verify, register, ctas."),
        (STARTED, 1, "374,112,345in the source"),
        (STARTED, 1, "40 files, 374,112,345 rows, 212 GB, 130 columns. The first 12:"),
        (FAILED, 2, "The run failed a page is corrupt"),
        (FAILED, 2, f"bucketwheel run infobase_attributes --resume {RUN_ID}"),
        (FAILED, 2, "Estimated from the footers of the source."),
        (manifest(discover(), split(), size(), bucket(outcome(0, 0))), 2, "Buckets2561 empty"),
        (manifest(discover(), split(), size(), bucket(outcome(0, 9), spilled=10**9)), 4, "1.00 GB spilled to disk"),
        (PARTS, 4, "20 parts, not bucketed"),
        (PARTS, 4, "Evenly filled. The largest part, 6, holds"),
        (manifest(discover(), split([LONG]), size([LONG])), 2, "a_table_with\u2026name_indeed"),
        (manifest(discover(), split(unmapped=["C"] * 300)), 1, "300 source columns go to no table"),
        (manifest(discover(warnings=[f"odd {n}" for n in range(15)])), 1, "15 warnings"),
    ],
)
def test_a_partial_or_odd_run_has_a_page(run: Manifest, charts: int, shown: str) -> None:
    partial = Page(run)
    assert shown in partial.text
    assert partial.tags.count("svg") == charts


@pytest.mark.parametrize(
    ("warnings", "error", "outcomes"),
    [
        (WARNINGS, None, ["warning", "warning"]),
        (WARNINGS[1:], None, ["allowed", "warning"]),
        (None, f"{WARNINGS[0]}; nothing was published", ["refused", "not judged yet"]),
    ],
)
def test_quality_says_what_the_policy_did(warnings: Any, error: str | None, outcomes: list[str]) -> None:
    checked = [] if warnings is None else [verify(many(1, 4), warnings)]
    html = report.render(manifest(discover(), split(1), size(1, 4), many(1, 4), *checked, error=error))
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
def test_keys_compare_as_their_type_does(types: list[str], ranges: list[Any], expected: list[str]) -> None:
    written = bucket(*(outcome(n, 5, smallest_key=a, largest_key=b) for n, (a, b) in enumerate(ranges)))
    found = discover(keys=["k"] * len(types), key_types=types)
    html = report.render(manifest(found, split(1), size(1, 2), written))
    assert re.findall(r'<dt>(?:Smallest|Largest) key</dt><dd class="id">([^<]*)</dd>', html) == expected


def test_one_giant_file_does_not_hide_the_sizes_of_the_others() -> None:
    written = bucket(*(outcome(n, 1_000 + 400 * n) for n in range(8)), outcome(8, 5_000_000))
    html = Page(manifest(discover(), split(1), size(1, 9), written)).html
    bars = dict(re.findall(r"<title>(\S+ kB|\S+ MB) to [^<]*: (\d+)</title>", html))
    assert bars == {"20.0 kB": "1", "50.0 kB": "3", "100 kB": "4", "200 MB": "1"}


def drifted(**changes: Any) -> Page:
    shares = [{"name": f"c_{n}", "before": 0.5, "now": 0.5 + n / 100} for n in range(20)]
    values = {
        **{"run_id": "2025-09-22-20251002T031500Z-77aa01", "snapshot_dt": "2025-09-22"},
        **{"rows_before": 1000, "rows": 900, "rows_changed_percent": 10, "null_shares": shares},
    }
    written = bucket(outcome(0, 900))
    checked = verify(written, drift=Drift.model_validate(values | changes))
    return Page(manifest(discover(900), split(1), size(1, 1), written, checked))


def test_a_page_shows_how_the_snapshot_differs_from_the_published_one() -> None:
    keys = {"both": 800, "only_now": 100, "only_before": 200, "share": 0.8}
    evil = {"name": "<b>", "before": "int64", "now": "string"}
    shown = drifted(keys=keys, new_columns=["fresh"], vanished_columns=["old", "older"], changed_types=[evil])
    for words in (
        *("Published run2025-09-22-20251002T031500Z-77aa01", "Rows: before, now1,000, 900 (\u221210 %)"),
        *("Keys in both800 (80 % of those before)", "Keys only now, only before100, 200"),
        *("New columnsfresh", "Columns that are goneold, older", "another type<b>: int64, now string"),
        *("Columns with another share of NULL19 of 20", "The 12 that changed most"),
    ):
        assert words in shown.text
    assert "<b>:" not in shown.html
    changed = re.findall(r'<tr><th scope="row">(c_\d+)</th><td class="n">50 %', shown.html)
    assert changed == [f"c_{n}" for n in range(19, 7, -1)]


def test_a_page_says_why_keys_were_not_compared_and_what_is_not_known() -> None:
    shown = drifted(keys_not_compared="its bucket count is 4", null_shares=[], null_shares_unknown=7, rows=1100)
    assert "Keys not comparedits bucket count is 4" in shown.text
    assert "1,000, 1,100 (+10 %)" in shown.text
    assert "share of NULL0 of 0, 7 not known" in shown.text
    assert "changed most" not in shown.text
    assert "Against the published snapshot" not in Page(whole()).text


def test_a_page_shows_what_the_run_cost() -> None:
    cost = Cost("emr-serverless", 3600, {"vCPU-hours": 40, "GB-hours": 300}, 3.9, 9_000, 400, 0.006, 10**12, 5, "why")
    shown = Page(whole(), cost).text
    for words in (
        "Workers of emr-serverless, at most40.00 vCPU-hours, 300.00 GB-hours3.90",
        *("Requests to S3, estimated9,000 reads, 400 writes0.01", "Scans by Athena1.00 TB5.00", "All8.91"),
        "why, at the configured prices.",
    ):
        assert words in shown
    requests = Page(whole(), Cost(None, 1, {}, 0, 9, 4, 0.02, 0, 0, "why")).text
    assert "All0.02" in requests
    assert "Workers of" not in requests
    assert "Athena" not in requests


def test_same_manifest_gives_the_same_page(page: Page) -> None:
    assert Page(Manifest.model_validate_json(whole().model_dump_json())).html == page.html


def test_imports_after_a_report_are_what_they_were(page: Page) -> None:
    assert page.tags.count("svg") == 4
    assert [finder for finder in sys.meta_path if type(finder).__module__.startswith("pygal")] == []


@pytest.mark.parametrize(("tables", "count", "limit"), [(8, 256, 100_000), (25, 256, 150_000), (25, 1024, 300_000)])
def test_page_is_small(tables: int, count: int, limit: int) -> None:
    assert len(report.render(whole(tables, count)).encode()) < limit
