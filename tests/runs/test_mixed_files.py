"""Snapshots whose files differ in what only Arrow distinguishes, not in what Parquet stores."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.errors import SchemaError

KEYS = 40


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "in" / "snapshot_dt=2026-01-31"
    directory.mkdir(parents=True)
    return directory


def write(source: Path, name: str, values: pa.Array, first: int = 0, **options: Any) -> None:
    """Write a file with keys from `first` on; `values` may be a field for a column that is not nullable inside."""
    keys = pa.array([f"k{number:03d}" for number in range(first, first + len(values))])
    pq.write_table(pa.table({"id": keys, "value": values}), source / name, **options)


def run(source: Path, engine: str = "arrow", **changes: Any) -> api.RunOutcome:
    settings = {
        "engine": engine,
        "target": "out",
        "catalog.path": "c.duckdb",
        "catalog.final_prefix": "final_",
        "buckets.count": 2,
        "datasets.x": {"source": str(source.parent), "key": "id"},
        **changes,
    }
    return api.run(api.load("local", None, settings, {}), "x")


def published(_: api.RunOutcome) -> list[tuple[Any, ...]]:
    with duckdb.connect("c.duckdb", read_only=True) as connection:
        ((name,),) = connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE view_name LIKE 'final%'"
        ).fetchall()
        return connection.execute(f"SELECT id, value FROM bucketwheel.{name} ORDER BY id").fetchall()


def optional(kind: pa.DataType) -> pa.DataType:
    return pa.struct([pa.field("a", kind)])


def required(kind: pa.DataType) -> pa.DataType:
    return pa.struct([pa.field("a", kind, nullable=False)])


NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
WORDS = [f"word {number % 5}" for number in range(KEYS)]
MIXES = {
    "offsets": (pa.array(WORDS), pa.array(WORDS, pa.large_string())),
    "dictionary": (pa.array(WORDS).dictionary_encode(), pa.array(WORDS, pa.large_string())),
    "ordered dictionary": (
        pa.array(WORDS),
        pa.array(WORDS).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.large_string())),
    ),
    "zones": (
        pa.array([NOON] * KEYS, pa.timestamp("us", "UTC")),
        pa.array([NOON] * KEYS, pa.timestamp("us", "America/Chicago")),
    ),
    "required field": (
        pa.array([{"a": number} for number in range(KEYS)], required(pa.int64())),
        pa.array([{"a": number} for number in range(KEYS)], optional(pa.int64())),
    ),
    "required element": (
        pa.array([[number] for number in range(KEYS)], pa.list_(pa.field("element", pa.int32(), nullable=False))),
        pa.array([[number] for number in range(KEYS)], pa.large_list(pa.int32())),
    ),
    "nested text": (
        pa.array([[{"a": word}] for word in WORDS], pa.list_(optional(pa.string()))),
        pa.array([[{"a": word}] for word in WORDS], pa.list_(required(pa.large_string()))),
    ),
    "map": (
        pa.array([[(word, 1)] for word in WORDS], pa.map_(pa.string(), pa.int64())),
        pa.array(
            [[(word, 1)] for word in WORDS], pa.map_(pa.large_string(), pa.field("value", pa.int64(), nullable=False))
        ),
    ),
    "fixed-size list": (
        pa.array([[number, 1] for number in range(KEYS)], pa.list_(pa.int16(), 2)),
        pa.array([[number, 1] for number in range(KEYS)], pa.list_(pa.int16())),
    ),
    "decimal width": (
        pa.array(list(range(KEYS)), pa.decimal256(20, 2)),
        pa.array(list(range(KEYS)), pa.decimal128(20, 2)),
    ),
    "days": (pa.array([86_400_000] * KEYS, pa.date64()), pa.array([1] * KEYS, pa.date32())),
}


@pytest.mark.parametrize("reverse", [False, True], ids=["", "reversed"])
@pytest.mark.parametrize("name", list(MIXES))
def test_files_stored_alike_are_published_together(source: Path, name: str, reverse: bool) -> None:
    first, second = reversed(MIXES[name]) if reverse else MIXES[name]
    write(source, "a.parquet", first)
    write(source, "b.parquet", second, KEYS)
    rows = published(run(source))
    assert len(rows) == 2 * KEYS
    assert [value for _, value in rows[:KEYS]] == [value for _, value in rows[KEYS:]]
    with duckdb.connect() as connection:
        expected = connection.execute(f"SELECT id, value FROM '{source}/a.parquet' ORDER BY id").fetchall()
    assert [key for key, _ in rows[:KEYS]] == [key for key, _ in expected]
    if name != "zones":
        assert rows[:KEYS] == expected


@pytest.mark.parametrize("reverse", [False, True], ids=["", "reversed"])
def test_int96_and_utc_timestamps_are_the_same_instants(source: Path, reverse: bool) -> None:
    old, new = ("b", "a") if reverse else ("a", "b")
    naive = pa.array([NOON.replace(tzinfo=None)] * KEYS, pa.timestamp("us"))
    write(source, f"{old}.parquet", naive, use_deprecated_int96_timestamps=True)
    write(source, f"{new}.parquet", pa.array([NOON] * KEYS, pa.timestamp("us", "UTC")), KEYS)
    assert {value.astimezone(UTC) for _, value in published(run(source))} == {NOON}


def test_local_and_utc_timestamps_are_refused(source: Path) -> None:
    write(source, "a.parquet", pa.array([NOON] * KEYS, pa.timestamp("us", "UTC")))
    write(source, "b.parquet", pa.array([NOON.replace(tzinfo=None)] * KEYS, pa.timestamp("us")), KEYS)
    with pytest.raises(SchemaError, match=r"b\.parquet: column 'value' has type timestamp\[us\], in .*a\.parquet"):
        run(source)


@pytest.mark.parametrize("kind", [pa.int32(), pa.binary(), pa.date32(), pa.null()], ids=str)
def test_files_stored_differently_name_the_odd_one(source: Path, kind: pa.DataType) -> None:
    write(source, "a.parquet", pa.nulls(KEYS, kind))
    write(source, "b.parquet", pa.array(WORDS), KEYS)
    write(source, "c.parquet", pa.array(WORDS).dictionary_encode(), 2 * KEYS)
    write(source, "d.parquet", pa.array(WORDS), 3 * KEYS)
    with pytest.raises(SchemaError) as refused:
        run(source)
    lines = [line for line in str(refused.value).splitlines() if "column 'value'" in line]
    assert lines == [f"{source}/a.parquet: column 'value' has type {kind}, in {source}/b.parquet it has type string"]


@pytest.mark.parametrize("odd", ["UUID", "fixed_size_binary[16]"])
def test_uuids_and_plain_bytes_are_refused_with_a_fix_that_works(source: Path, odd: str) -> None:
    """Both store the same bytes, but readers see text of the first ones."""
    values = [uuid.UUID(int=number) for number in range(KEYS)]
    for number, name in enumerate("abc"):
        write(source, f"{name}.parquet", pa.array([value.bytes for value in values], pa.binary(16)), number * KEYS)
        path = source / f"{name}.parquet"
        if (number == 0) == (odd == "UUID"):
            copied = f"SELECT id, hex(value)::UUID AS value FROM '{path}'"
            duckdb.sql(f"COPY ({copied}) TO '{path}.new' (FORMAT parquet)")
            path.with_suffix(".parquet.new").rename(path)
    other = {"UUID": "fixed_size_binary[16]"}.get(odd, "UUID")
    with pytest.raises(SchemaError) as refused:
        run(source)
    problem = f"{source}/a.parquet: column 'value' has type {odd}, in {source}/b.parquet it has type {other}"
    assert f"{problem}; set types.uuid=binary to publish the bytes of both\n" in str(refused.value)
    rows = published(run(source, **{"types.uuid": "binary"}))
    assert [value for _, value in rows] == [value.bytes for value in values] * 3


def test_uuids_in_lists_and_plain_bytes_are_refused_with_a_fix_that_works(source: Path) -> None:
    values = [[uuid.UUID(int=number).bytes] for number in range(KEYS)]
    for number, name in enumerate("ab"):
        write(source, f"{name}.parquet", pa.array(values, pa.list_(pa.binary(16))), number * KEYS)
    path = source / "a.parquet"
    duckdb.sql(f"COPY (SELECT id, [hex(value[1])::UUID] AS value FROM '{path}') TO '{path}.new' (FORMAT parquet)")
    path.with_suffix(".parquet.new").rename(path)
    with pytest.raises(SchemaError, match=r"set types\.uuid=binary to publish the bytes of both"):
        run(source)
    assert [value for _, value in published(run(source, **{"types.uuid": "binary"}))] == values * 2


def test_empty_file_with_other_schema_is_ignored_with_warning(source: Path) -> None:
    write(source, "a.parquet", pa.array([], pa.null()))
    write(source, "b.parquet", pa.array(WORDS), KEYS)
    outcome = run(source)
    assert len(published(outcome)) == KEYS
    assert outcome.manifest.discover.warnings == (f"{source}/a.parquet: has no rows and another schema; ignored",)


@pytest.mark.parametrize("key_type", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_keys_of_different_arrow_types_meet_in_one_bucket(source: Path, key_type: pa.DataType) -> None:
    keys = pa.array([f"k{number:03d}" for number in range(KEYS)])
    pq.write_table(pa.table({"id": keys, "value": WORDS}), source / "a.parquet")
    pq.write_table(pa.table({"id": keys.cast(key_type), "value": WORDS}), source / "b.parquet")
    outcome = run(source)
    assert outcome.manifest.verify.duplicate_keys == KEYS


@pytest.mark.skipif(not hasattr(pa, "json_"), reason="pyarrow 17 writes no list views")
@pytest.mark.parametrize("view", [pa.list_view, pa.large_list_view])
@pytest.mark.parametrize("mixed", [False, True])
def test_list_views_are_published_as_lists(source: Path, view: Any, mixed: bool) -> None:
    values = [[number % 7] * (number % 3) if number % 5 else None for number in range(KEYS)]
    write(source, "a.parquet", pa.array(values, view(pa.int32())))
    if mixed:
        write(source, "b.parquet", pa.array(values, pa.list_(pa.int32())), first=KEYS)
    rows = published(run(source))
    assert [value for _, value in rows] == values * (2 if mixed else 1)
