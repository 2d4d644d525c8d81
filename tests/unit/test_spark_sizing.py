"""The formulas of docs/spark.md for the size of production, and the engine's own limits."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from benchmarks.spark_shapes import SPARK_SHAPES

from bucketwheel.cli.text import cost_lines
from bucketwheel.engines.spark_sizing import (
    Work,
    gather_memory,
    header_bytes,
    scatter_memory,
    sizing,
    tasks_for,
)
from bucketwheel.kernel.passes import Widths
from bucketwheel.runs.cost import Cost
from bucketwheel.runs.manifest import DiscoverResult, SizeResult
from bucketwheel.settings import STAGES
from bucketwheel.stages.requests import planned_files, run_requests
from bucketwheel.stages.run_cost import estimate
from bucketwheel.stages.scan_requests import SourceScan
from glue_calls import publication_calls
from stage_support import column, discovered, services, size, split

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "spark.md"
PRODUCTION = Work(
    rows=374_000_000,
    slices=5000,
    # The widest table has 625 bytes with the key.
    widths=Widths(23, (602, *[(6275 - 625) / 24] * 24), 6275),
    columns=1250,
    buckets=256,
    coded_columns=976,
    dictionary_bytes=97_600,
)
CORES, TABLES = 144, 25
KEY_BYTES, WIDEST_BYTES, COMPRESSED_BYTES = 19, 625, 1100
# Compressed bytes of a key.
STORED_KEY_BYTES = 15
JOBS: dict[str, Any] = {
    "engine": "spark",
    "target": "s3://lake/out",
    "catalog__kind": "glue",
    "buckets__count": PRODUCTION.buckets,
    "split__columns_over_limit": "parts",
    "split__column_limit": PRODUCTION.columns // TABLES,
}


def documented(page: str) -> dict[str, str]:
    """Return the values of the table about a month of production, by name."""
    section = page.partition("### A month of production")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.*?) \| (.+?) \|$", section, re.MULTILINE)
    return {name: value for name, _, value in rows}


@cache
def month() -> tuple[DiscoverResult, SizeResult]:
    """Return the month of production in tables of equal width, and its sizes."""
    rows, count = PRODUCTION.rows, PRODUCTION.columns
    coded = {number * count // PRODUCTION.coded_columns for number in range(PRODUCTION.coded_columns)}
    stored = (COMPRESSED_BYTES - STORED_KEY_BYTES) * rows // count
    columns = [
        column("Key", STORED_KEY_BYTES * rows, uncompressed_bytes=KEY_BYTES * rows, null_count=0),
        *(column(f"c{number}", stored, dictionary_bytes=100 if number in coded else None) for number in range(count)),
    ]
    types = {f"c{number}": pa.float64() for number in range(count) if number not in coded}
    snapshot = discovered(columns, [[rows // PRODUCTION.slices]] * PRODUCTION.slices, types)
    snapshot = snapshot.model_copy(update={"location": "s3://lake/in"})
    return snapshot, size(snapshot, **JOBS)


def cost() -> Cost:
    snapshot, sizes = month()
    estimated = estimate(services(**JOBS).settings, STAGES, snapshot, split(snapshot, **JOBS), sizes)
    assert estimated is not None
    return estimated


def test_documented_requests_follow_from_formulas() -> None:
    snapshot, sizes = month()
    settings = services(**JOBS).settings
    sent = run_requests(settings, snapshot, split(snapshot, **JOBS), sizes, planned_files(snapshot, sizes), STAGES)
    coded = set(sizes.dictionary_columns)
    assert (len(sizes.tables), len(sizes.slices)) == (TABLES, PRODUCTION.slices)
    assert (len(coded), sizes.decoded_bytes_per_row) == (PRODUCTION.coded_columns, PRODUCTION.widths.total)
    calls = sum(
        publication_calls(len(table.columns) + 1, sum(part.source in coded for part in table.columns))
        for table in split(snapshot, **JOBS).tables
    )
    expected = {
        "GET: footers": sent.reads["footers"],
        "GET: sample": sent.reads["sample"],
        "GET: scatter": sent.reads["scatter"],
        "GET: `verify`": sent.reads["verify"],
        "GET: keys of both runs": sent.reads["compared keys"],
        "GET: metadata": sent.reads["metadata"],
        "PUT: files": sent.writes["files"],
        "PUT: checkpoints": sent.writes["checkpoints"],
        "PUT: metadata": sent.writes["metadata"],
        "LIST: source": sent.writes["list the source"],
        "LIST: metadata": sent.writes["list metadata"],
        "LIST: tables": sent.writes["list tables"],
        "calls of Glue": 2 * calls,
    }
    shown = documented(DOCS.read_text(encoding="utf-8"))
    assert {name: shown.get(name) for name in expected} == {name: f"{number:,}" for name, number in expected.items()}
    assert len(expected) == len(sent.reads) + len(sent.writes) + 1


def test_documented_time_of_the_month_follows_from_the_settings() -> None:
    minutes = cost().seconds / 60
    limit = services(**JOBS).settings.glue.timeout_minutes
    shown = documented(DOCS.read_text(encoding="utf-8"))["time of the job"]
    assert shown == f"{minutes:.0f} minutes; time-out {limit}"


def test_documented_cost_is_that_of_the_month() -> None:
    page = (ROOT / "docs" / "reference" / "cost.md").read_text(encoding="utf-8")
    assert "\n".join(cost_lines(cost(), "about")) in page


def test_miniature_keeps_the_ratios_of_the_month() -> None:
    shape, computed = SPARK_SHAPES["production"], sizing(PRODUCTION, CORES)
    assert (shape.tables, shape.columns, shape.buckets) == (TABLES, PRODUCTION.columns, PRODUCTION.buckets)
    assert shape.slices >= 1000
    assert shape.slices_per_task * shape.tasks == shape.slices
    assert shape.slices_per_task * shape.rows == computed.rows_at_once
    assert shape.partitions == computed.partitions


def test_documented_month_of_production_follows_from_formulas() -> None:
    shown = documented(DOCS.read_text(encoding="utf-8"))
    size = sizing(PRODUCTION, CORES)
    snapshot, sizes = month()
    held = SourceScan.of(snapshot, split(snapshot, **JOBS)).held(snapshot, sizes.slices)
    scatter = scatter_memory(held.compressed_bytes, held.decoded_bytes, PRODUCTION.dictionary_bytes)
    gather = gather_memory(PRODUCTION.rows // PRODUCTION.buckets, KEY_BYTES, WIDEST_BYTES)
    expected = {
        "dictionaries of a scatter task": f"{size.header_bytes / 1e6:.1f} MB",
        "scatter tasks": f"{size.tasks:,}, of up to {size.slices_per_task} slices",
        "dictionaries of all tasks": f"{size.tasks * size.header_bytes / 1e9:.1f} GB before compression",
        "rows ordered at a time": f"{size.rows_at_once:,}",
        "passes over them": f"{size.passes}",
        "batches": f"{size.batches:,}",
        "shuffle blocks": f"{size.blocks / 1e6:.1f} million",
        "rows of a block": f"{size.rows_per_block:.0f}",
        "bytes of blocks around their rows": f"{size.block_bytes / 1e9:.1f} GB before compression",
        "memory of a scatter task": f"{scatter / 1e9:.2f} GB",
        "memory of a gather task": f"{gather / 1e9:.2f} GB",
        "memory of the driver for statuses and statistics": f"{size.driver_bytes / 1e6:.0f} MB",
    }
    assert {name: shown.get(name) for name in expected} == expected


def test_documented_settings_leave_gather_tasks_enough_memory() -> None:
    section = DOCS.read_text(encoding="utf-8").partition("These settings work:")[2].partition("\n\n`spark.task")[0]
    rows = re.findall(r"^\| `(.+?)` .*\| ([\d.]+) GB \| ([\d.]+) GB \|$", section, re.MULTILINE)
    assert len(rows) >= 3
    for setting, needed, left in rows:
        buckets = int(re.findall(r"buckets\.count=(\d+)", setting)[0]) if "buckets" in setting else 256
        assert f"{gather_memory(PRODUCTION.rows // buckets, KEY_BYTES, WIDEST_BYTES) / 1e9:.2f}" == needed
        assert float(needed) < float(left)


def test_blocks_keep_their_length_at_any_width() -> None:
    narrow = replace(PRODUCTION, widths=Widths(20, (90, *[70] * 7), 600), columns=120, coded_columns=90)
    assert sizing(PRODUCTION, CORES).rows_per_block > 500
    assert sizing(narrow, CORES).rows_per_block > 500
    # Files of 200 rows; those of a task are joined.
    tiny = replace(PRODUCTION, rows=1_000_000, slices=5000)
    assert 50 < sizing(tiny, CORES).rows_per_block < 100


def test_large_dictionaries_reduce_tasks() -> None:
    assert tasks_for(CORES, 5000, 10**12) == 3726
    small = header_bytes(256, 100, 10_000)
    assert tasks_for(CORES, 5000, 10**12, small) == 3726
    large = header_bytes(256, 1000, 1_000_000)
    assert tasks_for(CORES, 5000, 10**12, large) == CORES
    assert tasks_for(CORES, 5000, 10**9, large) == 1
