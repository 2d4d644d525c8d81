"""Manifests for tests of the report, and the report as its reader sees it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

from bucketwheel.report import render
from bucketwheel.runs import manifest as kinds
from bucketwheel.runs.cost import Cost
from bucketwheel.runs.drift_records import Drift
from bucketwheel.runs.manifest import BucketOutcome, BucketResult, Manifest
from bucketwheel.runs.record import Record

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
    parts = [{"name": name, "columns": columns} for name in names_of(tables)]
    values = {"keys": columns[:1], "tables": parts, "unmapped": unmapped, "mapping_sha256": "0" * 64}
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


def stage(result: dict[str, Any]) -> kinds.StageRecord:
    return kinds.StageRecord(started="", seconds=1, result=result)


def manifest(*results: Record, **other: Any) -> Manifest:
    """Return the manifest of a run whose first stages have `results`."""
    done = zip(STAGES, SECONDS, results, strict=False)
    values = {
        **{"run_id": RUN_ID, "dataset": "infobase_attributes", "created": "2025-11-01T04:11:09+00:00"},
        **{"status": "finished", "snapshot_dt": "2025-10-22", "planned_stages": STAGES, "runtime": "local, 2 cores"},
        **{"fingerprint": {"input files": "c0ffee" * 10}, "versions": {"bucketwheel": "0.3.0", "pyarrow": "26.0.1"}},
        "stages": {name: {"started": "", "seconds": s, "result": result.model_dump()} for name, s, result in done},
    }
    return Manifest.model_validate(values | other)


def whole(tables: int = 8, count: int = 256, skewed: bool = True, hive: bool = True) -> Manifest:
    written = many(tables, count, skewed)
    source = discover(written.rows, warnings=["snapshot_dt=2025-13-40: not a date, skipped"] if skewed else [])
    checked = verify(written, WARNINGS[1:] if skewed else ())
    catalogued = (published("ext", tables), published("bucketed", tables))
    return manifest(source, split(tables), size(tables, count, hive), written, checked, *catalogued)


class Page(HTMLParser):
    """The visible text and the tags of a report; asserts that the tags nest."""

    def __init__(self, run: Manifest, cost: Cost | None = None, before: Manifest | None = None, **how: Any) -> None:
        super().__init__()
        self.html = render.render(run, cost, before=before, **how).replace("\u00a0", " ")
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
