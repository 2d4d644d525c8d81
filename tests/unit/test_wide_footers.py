"""Footers of many columns and of many files: figures, and what they cost, counted in calls and bytes."""

from __future__ import annotations

import gc
import io
import os
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.errors import SchemaError
from bucketwheel.kernel import footers as footer_parser
from bucketwheel.kernel.footers import FooterParser, FooterSummary
from bucketwheel.kernel.scatter import chunk_ranges
from bucketwheel.runs import manifest
from bucketwheel.runs.manifest import SourceColumn
from bucketwheel.settings import StorageSettings
from bucketwheel.stages import footers, source_schema
from bucketwheel.stages.footers import ColumnSums, Footer, read_footers
from bucketwheel.storage import Entry, Storage

ROWS = 60
STRUCT = pa.struct([("x", pa.int64()), ("y", pa.string())])


def people(first: int = 0, rows: int = ROWS) -> pa.Table:
    numbers = range(first, first + rows)
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "text": pa.array([f"t{number % 3}" if number % 4 else None for number in numbers], pa.string()),
            "none": pa.nulls(rows, pa.int32()),
            "list": pa.array([[number] * (number % 3) for number in numbers], pa.list_(pa.int64())),
            "struct": pa.array([{"x": number, "y": str(number)} for number in numbers], STRUCT),
            "time": pa.array([number * 10**6 for number in numbers], pa.timestamp("us")),
            "a.b": pa.array([number / 7 for number in numbers], pa.float64()),
        }
    )


def wide(columns: int) -> bytes:
    """Return a file with this many columns."""
    sink = io.BytesIO()
    pq.write_table(pa.table({f"column_{number}": [number] for number in range(columns)}), sink)
    return sink.getvalue()


def read(directory: Path) -> tuple[list[Footer], ColumnSums]:
    storage, sums = Storage(StorageSettings()), ColumnSums()
    return read_footers(storage, storage.list(str(directory)), sums), sums


def plain_columns(paths: Sequence[Path], schema: pa.Schema) -> list[SourceColumn]:
    """Return the columns as a plain reader sums them, chunk by chunk."""
    chunks: dict[str, list[pq.ColumnChunkMetaData]] = {name: [] for name in schema.names}
    rows = []
    for path in paths:
        metadata = pq.read_metadata(path)
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            rows.append(group.num_rows)
            for chunk in map(group.column, range(group.num_columns)):
                name = chunk.path_in_schema
                chunks[name if name in chunks else name.partition(".")[0]].append(chunk)
    columns = []
    for name, own in chunks.items():
        # A row group without rows has neither dictionaries nor statistics.
        filled = [chunk for chunk in own if chunk.num_values]
        pages = [
            chunk.data_page_offset - (chunk.dictionary_page_offset or chunk.data_page_offset) for chunk in filled
        ]
        nested = pa.types.is_nested(schema.field(name).type)
        counts = [chunk.statistics.null_count if chunk.is_stats_set else None for chunk in filled]
        known = [count for count in counts if count is not None]
        columns.append(
            SourceColumn(
                name=name,
                type=str(schema.field(name).type),
                compressed_bytes=sum(chunk.total_compressed_size for chunk in own),
                uncompressed_bytes=sum(chunk.total_uncompressed_size for chunk in own),
                dictionary_bytes=max(pages) if min(pages) > 0 else None,
                null_count=None if nested or len(known) < len(counts) else sum(known),
            )
        )
    return columns


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"row_group_size": 7},
        {"use_dictionary": ["text"], "write_statistics": ["id", "none"]},
        {"use_deprecated_int96_timestamps": True, "store_schema": False, "data_page_version": "2.0"},
        {"compression": "none", "use_dictionary": False, "write_page_index": True},
    ],
)
def test_sums_equal_those_of_plain_reader(tmp_path: Path, options: dict[str, Any]) -> None:
    parts = [people(0), people(ROWS, 5), people(0, 0), people(100, 1)]
    for number, part in enumerate(parts):
        pq.write_table(part, tmp_path / f"{number}.parquet", **options)
    found, sums = read(tmp_path)
    paths = sorted(tmp_path.iterdir())
    assert list(sums.columns(found[0].schema)) == plain_columns(paths, found[0].schema)
    assert [footer.rows for footer in found] == [ROWS, 5, 0, 1]
    assert {footer.int96 for footer in found} == {frozenset({"time"} if "store_schema" in options else ())}
    assert len({id(footer.schema) for footer in found}) == 1


def test_columns_of_files_in_other_order_are_summed_by_name(tmp_path: Path) -> None:
    names = people().column_names
    pq.write_table(people(), tmp_path / "a.parquet")
    pq.write_table(people(ROWS, 3).select(names[::-1]), tmp_path / "b.parquet")
    pq.write_table(people(0, 0).select(names[:2]), tmp_path / "c.parquet")
    (first, *_), sums = read(tmp_path)
    paths = sorted(tmp_path.iterdir())
    assert list(sums.columns(first.schema)) == plain_columns(paths, first.schema)


def test_schemas_with_equal_leaves_are_distinguished() -> None:
    parser = FooterParser()
    flat = pa.schema([pa.field("x", pa.int64(), nullable=False)])
    inside = pa.schema([pa.field("s", pa.struct(list(flat)), nullable=False)])
    schemas = []
    for schema in (flat, inside, flat):
        sink = io.BytesIO()
        pq.write_table(schema.empty_table(), sink, store_schema=False)
        summary = parser.parse(sink.getvalue(), sink.tell())
        assert isinstance(summary, FooterSummary)
        schemas.append(pa.ipc.read_schema(pa.py_buffer(summary.schema)))
    assert [str(schema.types) for schema in schemas] == [
        "[DataType(int64)]",
        "[StructType(struct<x: int64 not null>)]",
        "[DataType(int64)]",
    ]


def test_each_schema_is_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    converted = []
    convert = footer_parser._leaves

    def counted(*arguments: Any) -> Any:
        converted.append(arguments)
        return convert(*arguments)

    monkeypatch.setattr(footer_parser, "_leaves", counted)
    parser = FooterParser()
    files = [wide(3), wide(4)] * 5
    summaries = [parser.parse(file, len(file)) for file in files]
    assert len(converted) == 2
    # The same object, so that a process sends it once for many files.
    assert len({id(summary.schema) for summary in summaries if isinstance(summary, FooterSummary)}) == 2


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Free objects only if nothing refers to them."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_ranges_of_chunks_keep_no_metadata_in_memory() -> None:
    metadata = pq.read_metadata(io.BytesIO(wide(3)))
    alive = weakref.ref(metadata)
    assert len(list(chunk_ranges(metadata, [0], ["column_1"]))) == 1
    del metadata
    assert alive() is None


@pytest.mark.usefixtures("no_collector")
def test_parser_keeps_metadata_of_each_schema_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[weakref.ref[pq.FileMetaData]] = []

    class Observed(footer_parser._Footer):
        @property
        def metadata(self) -> pq.FileMetaData:
            metadata = super().metadata
            if not seen or seen[-1]() is not metadata:
                seen.append(weakref.ref(metadata))
            return metadata

    monkeypatch.setattr(footer_parser, "_Footer", Observed)
    parser, content = FooterParser(), wide(3)
    for _ in range(3):
        parser.parse(content, len(content))
    assert [alive() is not None for alive in seen] == [True, False, False]


def calls(work: Callable[[], object]) -> int:
    """Return the number of functions that a piece of work calls."""
    count = 0

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("again", [False, True])
def test_calls_of_parser_are_linear_in_columns(again: bool) -> None:
    counts = []
    for columns in (100, 200, 400):
        content, parser = wide(columns), FooterParser()
        if again:
            parser.parse(content, len(content))
        counts.append(calls(partial(parser.parse, content, len(content))))
    small, medium, large = counts
    assert large - medium <= 2.1 * (medium - small)
    if again:
        # The column chunk is one call, whether it is coded two; its figures are attributes.
        assert large - medium < 4 * 200


def test_memory_of_footers_does_not_grow_with_columns_of_each_file(tmp_path: Path) -> None:
    columns, files = 400, 60
    (tmp_path / "0.parquet").write_bytes(wide(columns))
    for number in range(1, files):
        os.link(tmp_path / "0.parquet", tmp_path / f"{number}.parquet")
    storage = Storage(StorageSettings())
    entries = storage.list(str(tmp_path))
    read_footers(storage, entries[:2], ColumnSums())
    held = []
    tracemalloc.start()
    try:
        for count in (files // 2, files):
            sums = ColumnSums()
            found = read_footers(storage, entries[:count], sums)
            held.append(tracemalloc.get_traced_memory()[0])
            del found
    finally:
        tracemalloc.stop()
    # Four numbers for each column would take 32 bytes.
    assert held[1] - held[0] < files // 2 * columns * 8


def test_footers_are_parsed_in_batches_of_few_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footers, "_BATCH_BYTES", 1000)
    for number in range(5):
        pq.write_table(people(), tmp_path / f"{number}.parquet")
    storage = Storage(StorageSettings())
    parts = list(footers._Ends(storage).read(storage.list(str(tmp_path))))
    assert [len(part) for part in parts] == [1] * 5
    assert [entry.name for part in parts for entry, _ in part] == [f"{number}.parquet" for number in range(5)]


def test_schemas_of_many_files_are_compared_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    differences = source_schema._differences

    def counted(*arguments: Any) -> Any:
        compared.append(arguments)
        return differences(*arguments)

    monkeypatch.setattr(source_schema, "_differences", counted)
    usual, other = (pa.schema([("id", kind), ("only", pa.string())]) for kind in (pa.int64(), pa.int32()))
    short = pa.schema([("id", pa.int64())])
    kinds = [*[usual] * 40, *[other] * 15, *[short] * 10]
    files = [Footer(entry(number), kind, (1,), frozenset()) for number, kind in enumerate(kinds)]
    with pytest.raises(SchemaError) as error:
        source_schema.snapshot_schema(files, [])
    assert len(compared) == 3
    first, *lines, more, _ = str(error.value).splitlines()
    assert (first, more) == ("the files of the snapshot have different schemas:", "and 5 more")
    assert lines == [
        *(f"/{number}: column 'id' has type int32, in /0 it has type int64" for number in range(40, 55)),
        *(f"/{number}: column 'only' is missing" for number in range(55, 60)),
    ]


def entry(number: int) -> Entry:
    return Entry(f"/{number}", f"{number}", 10, "", False)


def test_estimate_opens_its_file_once_for_all_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    class Counted(pq.ParquetFile):  # type: ignore[misc]  # pyarrow has no types
        def __init__(self, *arguments: Any, **options: Any) -> None:
            opened.append(arguments)
            super().__init__(*arguments, **options)

    snapshot = tmp_path / "in" / "snapshot_dt=2026-01-31"
    snapshot.mkdir(parents=True)
    pq.write_table(pa.table({f"column_{number}": ["x", "y", None] for number in range(30)}), snapshot / "a.parquet")
    source = {"source": str(tmp_path / "in"), "key": "column_0"}
    settings = {"target": str(tmp_path / "out"), "catalog.path": str(tmp_path / "c.duckdb"), "datasets.x": source}
    monkeypatch.setattr(pq, "ParquetFile", Counted)
    manifest._schema.cache_clear()
    plan = api.plan(api.load("local", None, settings, {}), "x")
    assert plan.size.tables[0].columns == 29
    assert len(opened) == 1
    assert manifest._schema.cache_info().misses == 1
