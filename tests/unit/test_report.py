from __future__ import annotations

import base64
import random
import re
from collections.abc import Sequence
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pytest

from bucketwheel.manifest import (
    BucketOutcome,
    BucketResult,
    ColumnMapping,
    DiscoverResult,
    FileRecord,
    Manifest,
    PublishedTable,
    PublishResult,
    Record,
    SizeResult,
    SourceColumn,
    SourceFile,
    SplitResult,
    StageRecord,
    TableColumns,
    TableSize,
    VerifiedTable,
    VerifyResult,
)
from bucketwheel.observe import report

STAGES = ("discover", "split", "size", "bucket", "verify", "register", "ctas")
RUN_ID = "2025-10-22-20251101T041109Z-3f9a1c"
SECONDS = (3.4, 0.02, 0.01, 1711.5, 402.2, 2.25, 1.5)
SCRIPT = "<script>alert('x')</script>"


def table_names(count: int) -> list[str]:
    return [f"miacs_{n // 4 + 1:02}" if n % 4 == 3 else f"ibe_{n + 1:02}" for n in range(count)]


def discover(rows: int = 374_112_345, files: int = 40, **other: Any) -> DiscoverResult:
    each = tuple(
        SourceFile(
            path=f"s3://data/opus/infobase_attributes/raw_input/snapshot_dt=2025-10-22/part-{n:05}.parquet",
            bytes=5_300_000_000 + 17_000_003 * n,
            modified="2025-10-23T02:15:00+00:00",
            row_group_rows=(rows // files // 2, rows // files - rows // files // 2),
        )
        for n in range(files)
    )
    column = SourceColumn(name="C", type="string", compressed_bytes=1, uncompressed_bytes=1, dictionary_bytes=None)
    schema = base64.b64encode(pa.schema([("C", pa.string())]).serialize().to_pybytes()).decode()
    values: dict[str, Any] = {
        **{"snapshot_dt": "2025-10-22", "location": "s3://data/opus/infobase_attributes/raw_input", "rows": rows},
        **{"bytes": sum(file.bytes for file in each), "keys": ("Customer_User_id",), "key_types": ("string",)},
        **{"files": each, "columns": (column,) * 130, "schema_ipc": schema},
    }
    return DiscoverResult(**values | other)


def split(tables: int = 8, unmapped: Sequence[str] = ("Record_Source", "Batch_Number"), **other: Any) -> SplitResult:
    columns = tuple(ColumnMapping(source=f"C_{n}", name=f"c_{n}") for n in range(15))
    values: dict[str, Any] = {
        "keys": (ColumnMapping(source="Customer_User_id", name="customer_user_id"),),
        "tables": tuple(TableColumns(name=name, columns=columns) for name in table_names(tables)),
        "unmapped": tuple(unmapped),
        "mapping_sha256": "0" * 64,
    }
    return SplitResult(**values | other)


def size(tables: int = 8, buckets: int = 256, bucketed: bool = True, **other: Any) -> SizeResult:
    values: dict[str, Any] = {
        **{"bucket_count": buckets, "bucketed": bucketed, "hash": "hive_v1", "sort": True, "slices": ()},
        **{"max_file_bytes": 1 << 30, "page_bytes": 1 << 20, "bytes_to_read": 198_000_000_000},
        **{"decoded_bytes_per_row": 900, "dictionary_columns": ()},
        "tables": tuple(
            TableSize(name=name, columns=15, bytes=17_000_000_000 + n, files=buckets, row_group_rows=100_000)
            for n, name in enumerate(table_names(tables))
        ),
    }
    return SizeResult(**values | other)


def outcome(bucket: int, rows: int, tables: Sequence[str], **other: Any) -> BucketOutcome:
    files = tuple(
        FileRecord(table=table, name=f"{bucket:06}_0.snappy.parquet", rows=rows, bytes=900 + rows * (45 + 7 * n))
        for n, table in enumerate(tables)
    )
    values: dict[str, Any] = {
        **{"bucket": bucket, "rows": rows, "null_keys": 0, "duplicate_keys": 0, "key_checksum": 7},
        **{"smallest_key": f"{bucket:019}" if rows else None, "largest_key": f"9{bucket:018}" if rows else None},
        "files": files if rows else (),
    }
    return BucketOutcome(**values | other)


def buckets(tables: int = 8, count: int = 256, rows: int = 374_112_345, skewed: bool = True) -> BucketResult:
    rng = random.Random(7)
    weights = [rng.gauss(1, 0.03) for _ in range(count)]
    if skewed:
        weights[17 % count] *= 2.7
        weights[143 % count] *= 1.6
        weights[200 % count] = 0
    share = rows / sum(weights)
    outcomes = [outcome(n, round(w * share), table_names(tables)) for n, w in enumerate(weights)]
    if skewed:
        outcomes[0] = outcomes[0].model_copy(update={"null_keys": 1_204})
        outcomes[17 % count] = outcomes[17 % count].model_copy(update={"duplicate_keys": 2_345_678})
    return BucketResult(
        rows=sum(o.rows for o in outcomes),
        empty_buckets=sum(not o.rows for o in outcomes),
        spilled_bytes=0,
        outcomes=tuple(outcomes),
    )


def verify(bucket: BucketResult, warnings: Sequence[str] = ()) -> VerifyResult:
    records: dict[str, list[FileRecord]] = {}
    for file in (file for o in bucket.outcomes for file in o.files):
        records.setdefault(file.table, []).append(file)
    return VerifyResult(
        rows=bucket.rows,
        key_checksum=sum(o.key_checksum for o in bucket.outcomes),
        null_keys=sum(o.null_keys for o in bucket.outcomes),
        duplicate_keys=sum(o.duplicate_keys for o in bucket.outcomes),
        tables=tuple(
            VerifiedTable(name=name, rows=sum(f.rows for f in of), files=len(of), bytes=sum(f.bytes for f in of))
            for name, of in records.items()
        ),
        warnings=tuple(warnings),
    )


def published(prefix: str, tables: int) -> PublishResult:
    root = "s3://data/omc_cleanroom_data/infobase_attributes"
    return PublishResult(
        tables=tuple(
            PublishedTable(
                name=f"{prefix}_{name}",
                location=f"{root}/{name}/{RUN_ID}/",
                previous_location=f"{root}/{name}/2025-09-24-20251002T031500Z-77aa01/" if n else None,
            )
            for n, name in enumerate(table_names(tables))
        )
    )


def manifest(*results: Record, **other: Any) -> Manifest:
    """Return the manifest of a run whose first stages found `results`."""
    times = zip(STAGES, results, SECONDS, strict=False)
    values: dict[str, Any] = {
        **{"run_id": RUN_ID, "dataset": "infobase_attributes", "created": "2025-11-01T04:11:09+00:00"},
        **{"status": "finished", "snapshot_dt": "2025-10-22", "planned_stages": STAGES},
        **{"fingerprint": {"input files": "c0ffee" * 10, "buckets": '{"count":256,"hash":"hive_v1"}'}, "runtime": "local, 2 cores, 8 GB"},
        "versions": {"bucketwheel": "0.1.0", "numpy": "2.4.6", "pyarrow": "26.0.1", "python": "3.11.7"},
        "stages": {
            name: StageRecord(started="2025-11-01T04:11:10+00:00", seconds=s, result=result.model_dump(mode="json"))
            for name, result, s in times
        },
    }
    return Manifest(**values | other)


def whole(tables: int = 8, count: int = 256, *, skewed: bool = True, bucketed: bool = True, **other: Any) -> Manifest:
    bucket = buckets(tables, count, skewed=skewed)
    warnings = ["2345678 rows repeat a key"] if skewed else []
    return manifest(
        discover(rows=bucket.rows, warnings=("snapshot_dt=2025-13-40: not a date, skipped",) if skewed else ()),
        split(tables),
        size(tables, count, bucketed),
        bucket,
        verify(bucket, warnings),
        published("ext", tables),
        published("bucketed", tables),
        **other,
    )


class Page(HTMLParser):
    """Collects visible text and the tags in use, and checks that every tag is closed in order."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))
