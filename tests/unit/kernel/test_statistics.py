"""Statistics of columns equal those that DuckDB computes from the written files."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from bucketwheel.catalogs.sql import quoted
from bucketwheel.kernel import distinct as distinct_values
from bucketwheel.kernel.arrow_types import canonical_type
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.distinct import KEPT_HASHES, DistinctValues, hash_values
from bucketwheel.kernel.normalize import Rules, encode_batches, typed_batches
from bucketwheel.kernel.statistics import StatisticsCollector
from bucketwheel.runs.column_statistics import ColumnStatistics


def collected(
    table: pa.Table, level: str = "basic", exact: tuple[str, ...] = (), parts: int = 3
) -> dict[str, ColumnStatistics]:
    """Collect the statistics of a table in several parts."""
    total, dictionaries = StatisticsCollector(level, exact), UnifiedDictionaries()
    types = {field.name: canonical_type(field.type) for field in table.schema}
    step = -(-table.num_rows // parts)
    for start in range(0, table.num_rows, step):
        part = StatisticsCollector(level, exact)
        batch = table.slice(start, step).combine_chunks().to_batches()[0]
        rules = Rules(types, exact)
        (typed,) = typed_batches(batch, rules, part)
        list(encode_batches(typed, rules, dictionaries, part))
        total.merge(part)
    total.finish(dictionaries)
    return {column.name: column for column in total.result()}


def wide_table(rows: int = 5000) -> pa.Table:
    random = np.random.default_rng(1)
    numbers = random.integers(-(10**12), 10**12, rows)
    null = random.random(rows) < 0.1
    days = random.integers(-200_000, 2_000_000, rows).astype(np.int32)
    columns: dict[str, pa.Array] = {
        "tiny": pa.array(random.integers(-128, 127, rows).astype(np.int8), mask=null),
        "short": pa.array(random.integers(0, 60_000, rows).astype(np.uint16)),
        "long": pa.array(numbers, mask=null),
        "single": pa.array(random.normal(size=rows).astype(np.float32)),
        "double": pa.array(np.where(null, -0.0, random.normal(size=rows).round(2))),
        "decimal": pa.array([Decimal(int(n)) * 10**20 / 100 for n in numbers], pa.decimal128(38, 2), mask=null),
        "date": pa.array(days, mask=null).cast(pa.int32()).view(pa.date32()),
        "seconds": pa.array(numbers // 10**3, pa.int64()).view(pa.timestamp("ms")),
        "time": pa.array(numbers, pa.int64()).view(pa.timestamp("us", "UTC")),
        "text": pa.array([random.bytes(int(n) % 40).hex() for n in numbers], mask=null),
        "bytes": pa.array([random.bytes(int(n) % 30) for n in numbers], pa.large_binary(), mask=null),
        "flag": pa.array(numbers % 3 == 0, mask=null),
        "code": pa.array([f"C{n % 300}é" for n in numbers], mask=null).dictionary_encode(),
        "empty": pa.nulls(rows, pa.int32()),
    }
    return pa.table(columns)


def in_duckdb(table: pa.Table, text: str) -> tuple[Any, ...]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("t", table)
        (row,) = connection.execute(f"SELECT {text} FROM t").fetchall()
    return tuple(row)


def test_statistics_of_every_type_equal_those_of_duckdb() -> None:
    table = wide_table()
    columns = collected(table, "distinct", ("code", "tiny"))
    assert set(columns) == set(table.column_names)
    for name, column in columns.items():
        kind, q = table.schema.field(name).type, quoted(name)
        assert column.nulls == in_duckdb(table, f"count(*) - count({q})")[0]
        if name == "flag":
            assert column.trues == in_duckdb(table, f"count_if({q})")[0]
        elif name in ("text", "bytes", "code"):
            length = f"octet_length({q}::BLOB)" if name == "bytes" else f"strlen({q})"
            assert (column.longest, column.bytes) == in_duckdb(table, f"max({length}), sum({length})")
        else:
            text = f"min({q})::VARCHAR, max({q})::VARCHAR"
            assert [_value(given, kind) for given in (column.smallest, column.largest)] == [
                _value(given, kind) for given in in_duckdb(table, text)
            ]
        if column.distinct is not None:
            expected = in_duckdb(table, f"count(DISTINCT {q})")[0]
            assert column.distinct_exact == (expected < KEPT_HASHES)
            assert column.distinct == (expected if column.distinct_exact else pytest.approx(expected, rel=0.11))


def _value(text: str | None, kind: pa.DataType) -> Any:
    if text is None:
        return None
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return np.datetime64(text.removesuffix("+00").replace(" ", "T"), "us")
    return np.float32(text) if kind == pa.float32() else Decimal(text)


def test_basic_level_counts_distinct_values_of_exact_columns_only() -> None:
    columns = collected(wide_table(), exact=("code", "tiny"))
    assert {name for name, column in columns.items() if column.distinct is not None} == {"code", "tiny"}
    assert all(column.distinct_exact for column in columns.values())
    assert collected(wide_table(), "none") == {}


def test_statistics_ignore_dictionary_values_without_rows() -> None:
    codes = pa.DictionaryArray.from_arrays(pa.array([1, None, 1]), pa.array(["unused, and long", "b", None]))
    columns = collected(pa.table({"c": codes}), exact=("c",), parts=1)
    assert columns["c"] == ColumnStatistics(name="c", nulls=1, distinct=1, longest=1, bytes=2)


@pytest.mark.parametrize(
    ("values", "smallest", "largest", "distinct"),
    [
        ([-0.0, 0.0], "0.0", "0.0", 1),
        ([float("nan"), 2.0, -float("nan"), None], "2.0", "2.0", 2),
        ([float("nan")], None, None, 1),
        ([float("-inf"), 1.0], "-inf", "1.0", 2),
        ([None], None, None, 0),
    ],
)
def test_special_floats_keep_ranges_and_counts_exact(
    values: list[float | None], smallest: str | None, largest: str | None, distinct: int
) -> None:
    column = collected(pa.table({"f": pa.array(values, pa.float64())}), "distinct")["f"]
    assert (column.smallest, column.largest, column.distinct) == (smallest, largest, distinct)


def test_nested_columns_have_no_statistics() -> None:
    table = pa.table({"list": pa.array([[1], None]), "struct": pa.array([{"a": 1}, None]), "n": pa.array([1, 2])})
    assert list(collected(table)) == ["n"]


def test_decimal_limits_keep_all_38_digits() -> None:
    most = Decimal("-" + "9" * 36 + ".99")
    column = collected(pa.table({"d": pa.array([most, Decimal("0.01")], pa.decimal128(38, 2))}), "distinct")["d"]
    assert (Decimal(column.smallest or ""), column.largest, column.distinct) == (most, "0.01", 2)


def test_dates_beyond_year_9999_round_trip_as_text() -> None:
    days = pa.array([4_000_000, -1_000_000], pa.int32()).view(pa.date32())
    column = collected(pa.table({"d": days}))["d"]
    assert [int(np.datetime64(text, "D").astype(int)) for text in (column.smallest, column.largest)] == [
        -1_000_000,
        4_000_000,
    ]


@pytest.mark.parametrize("count", [0, 1, KEPT_HASHES - 1, KEPT_HASHES, 300_000])
def test_distinct_count_is_exact_or_within_its_error(count: int) -> None:
    values = pa.array([f"person {number:09d}" for number in range(count)], pa.string())
    total = DistinctValues(exact=False)
    for start in (0, count // 3):
        part = DistinctValues(exact=False)
        part.add(hash_values(values.slice(start)))
        total.merge(part)
    distinct, exact = total.count()
    assert exact == (count < KEPT_HASHES)
    # Five standard errors.
    assert distinct == pytest.approx(count, rel=0 if exact else 0.11)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_exact_count_beyond_its_limit_becomes_an_estimate(
    order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distinct_values, "_MOST_HASHES", 5000)
    parts = []
    for start, end in ((0, 6000), (4000, 8000), (7000, 7100)):
        part = DistinctValues(exact=True)
        part.add(hash_values(pa.array(range(start, end))))
        parts.append(part)
    total = DistinctValues(exact=True)
    for number in order:
        total.merge(parts[number])
    estimate = DistinctValues(exact=False)
    estimate.add(hash_values(pa.array(range(8000))))
    assert total.count() == estimate.count()
    assert not total.count()[1]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 255, 256, 257, 1000])
def test_hash_depends_on_every_byte_and_the_length(size: int) -> None:
    base = bytes(size)
    texts = [base, base + b"\0", *(base[:at] + b"\1" + base[at + 1 :] for at in range(size))]
    assert len(set(hash_values(pa.array([b"shift", *texts], pa.binary())).tolist())) == len(texts) + 1
    once, many = hash_values(pa.array([b"x" * size])), hash_values(pa.array([b"", b"y", b"x" * size]).slice(2))
    assert once.tolist() == many.tolist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([2**64 - 1, 1, 1], pa.uint64()), ("1", str(2**64 - 1))),
        (pa.array([1, 2, 2], pa.float64()).cast(pa.float16()), ("1.0", "2.0")),
        (pa.array([1, 5, 5], pa.time32("s")), ("1", "5")),
        (pa.array([1, 5, 5], pa.duration("us")), ("1", "5")),
    ],
    ids=str,
)
@pytest.mark.parametrize("few", [True, False])
def test_rare_types_are_counted(values: pa.Array, expected: tuple[str, str], few: bool) -> None:
    collector = StatisticsCollector("distinct", ["c"] if few else [])
    collector.add("c", values)
    (column,) = collector.result()
    assert (column.smallest, column.largest) == expected
    assert column.distinct == 2
