"""Columns of types that some reader rejects or misreads."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api, plugins
from bucketwheel.cli.text import plan_text
from bucketwheel.errors import SchemaError
from memory_catalog import MemoryCatalog
from runs_support import DATABASE, JANUARY, Case

LARGEST = 2**64 - 1
# Types that change, and one that does not.
TYPES = {
    "device": "uuid(i)",
    "document": "{'n': i}::JSON",
    "color": "['red', 'blue'][1 + i % 2]::ENUM('red', 'blue')",
    "seen_at": "'2024-02-29 12:34:56.789012'::TIMESTAMP_NS",
    "opens": "TIME '09:30:00' + INTERVAL 1 SECOND * i",
    "hash": f"({LARGEST} - i)::UBIGINT",
    "devices": "[{'d': uuid(i), 'at': TIME '23:59:59.5'}, NULL]",
    "words": "'word ' || i",
}
UUID = "md5(i::VARCHAR)::UUID"


def write(root: Path, columns: dict[str, str], rows: int = 300) -> None:
    """Write a snapshot of two files with DuckDB."""
    directory = root / "in" / f"snapshot_dt={JANUARY}"
    directory.mkdir(parents=True)
    selected = ", ".join(f"{sql.replace('uuid(i)', UUID)} AS {name}" for name, sql in columns.items())
    with duckdb.connect() as connection:
        for number in range(2):
            connection.execute(
                f"COPY (SELECT 'key ' || i AS id, {selected} FROM range({rows}) t(i) WHERE i % 2 = {number}) "
                f"TO '{directory}/part-{number}.parquet' (FORMAT parquet)"
            )


def configuration(root: Path, **settings: Any) -> api.Configuration:
    given = {
        "target": str(root / "out"),
        "catalog.path": str(root / "catalog.duckdb"),
        "buckets.count": 3,
        "datasets.people": {"source": str(root / "in"), "key": "id"},
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    return api.load("local", None, given, {})


def texts(root: Path, table: str) -> list[tuple[str, ...]]:
    """Return all rows of a table in DuckDB, each value as text."""
    with duckdb.connect(str(root / "catalog.duckdb"), read_only=True) as connection:
        columns = ", ".join(f"{name}::VARCHAR" for name in ("id", *TYPES))
        return sorted(connection.execute(f"SELECT {columns} FROM {table}").fetchall())


def test_duckdb_shows_the_values_of_the_source(tmp_path: Path) -> None:
    write(tmp_path, TYPES)
    config = configuration(tmp_path)
    converted = "\nconverts device from UUID to string, document from JSON to string, seen_at from timestamp[ns] to "
    assert converted in plan_text(api.plan(config, "people"))
    api.run(config, "people")
    source = f"read_parquet('{tmp_path}/in/*/*.parquet', hive_partitioning = false)"
    assert texts(tmp_path, "bucketwheel.bucketed_people") == texts(tmp_path, source)


def test_kept_types_are_those_of_the_source(tmp_path: Path) -> None:
    write(tmp_path, TYPES)
    config = configuration(tmp_path, types__uuid="binary", types__timestamps="keep", types__times="keep")
    api.run(config, "people")
    path = next((tmp_path / "out" / "people" / "people").rglob("*.parquet"))
    types = dict(zip(pq.read_schema(path).names, pq.read_schema(path).types, strict=True))
    assert types["device"] == pa.binary(16)
    assert types["seen_at"] == pa.timestamp("ns")
    assert types["opens"] == pa.time64("us")


def test_nanoseconds_are_refused_before_any_work_and_cut_on_request(tmp_path: Path) -> None:
    write(tmp_path, {"seen_at": "make_timestamp_ns(1700000000000000000 + i)"})
    with pytest.raises(SchemaError, match=r"^column 'seen_at' has timestamps with digits that microseconds cannot"):
        api.plan(configuration(tmp_path), "people")
    with pytest.raises(SchemaError, match=r"such as 2023-11-14T22:13:20\.0000\d+; cut them with types\.timestamps="):
        api.run(configuration(tmp_path), "people")
    assert not (tmp_path / "out" / "people").exists()
    api.run(configuration(tmp_path, types__timestamps="truncate"), "people")
    with duckdb.connect(str(tmp_path / "catalog.duckdb"), read_only=True) as connection:
        found = connection.execute("SELECT DISTINCT seen_at FROM bucketwheel.bucketed_people").fetchall()
    assert found == [(datetime(2023, 11, 14, 22, 13, 20),)]


def test_column_that_cannot_be_written_may_stay_unmapped(tmp_path: Path) -> None:
    write(tmp_path, {"span": "INTERVAL 1 DAY", "n": "i"})
    with pytest.raises(SchemaError, match="column 'span' has type INTERVAL, which Spark and Trino cannot read"):
        api.plan(configuration(tmp_path), "people")
    mapping = tmp_path / "mapping.csv"
    mapping.write_text("table,column\npeople,n\n")
    source = {"source": str(tmp_path / "in"), "key": "id", "mapping": str(mapping)}
    assert api.plan(configuration(tmp_path, datasets__people=source), "people").split.unmapped == ("span",)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("{'currencyCode': i, 'currencycode': i}", "fields 's.currencyCode' and 's.currencycode', but readers do"),
        ("{'a': [{'zip-code': i}]}", r"a field 's.a.zip-code' with '-' in its name, which readers of Hive's types"),
        ("MAP {'k': {'a/b': i}}", "a field 's.a/b' with '/' in its name"),
    ],
)
def test_fields_that_readers_reject_are_refused_before_any_work(tmp_path: Path, fields: str, problem: str) -> None:
    by_case = fields.startswith("{'currency")
    write(tmp_path, {"s": "i" if by_case else fields})
    if by_case:
        # DuckDB, too, knows one of them.
        for path in (tmp_path / "in").rglob("*.parquet"):
            pairs = pa.StructArray.from_arrays([pa.array([1, 2])] * 2, ["currencyCode", "currencycode"])
            pq.write_table(pa.table({"id": [f"{path.stem} {n}" for n in range(2)], "s": pairs}), path)
    with pytest.raises(SchemaError, match=f"column 's' has {problem}"):
        api.run(configuration(tmp_path), "people")
    assert not (tmp_path / "out" / "people").exists()


@pytest.fixture
def large(case: Case, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A case with a value beyond the range of Hive's bigint."""
    monkeypatch.setitem(plugins._BUILT_IN["catalogs"], "memory", "memory_catalog:MemoryCatalog")
    real = plugins.catalog
    monkeypatch.setattr(plugins, "catalog", lambda s: MemoryCatalog() if s.catalog.kind == "memory" else real(s))
    for path in (case.mapping.parent / f"snapshot_dt={JANUARY}").iterdir():
        read = pq.read_table(path)
        values = pa.array([LARGEST] * read.num_rows, pa.uint64())
        pq.write_table(read.set_column(1, read.column_names[1], values), path)
    return case


def test_uint64_values_become_decimals(large: Case) -> None:
    large.run()
    with duckdb.connect(str(large.catalog), read_only=True) as connection:
        rows = connection.execute(f"SELECT DISTINCT people_1_value FROM {DATABASE}.bucketed_people_1").fetchall()
    assert rows == [(Decimal(LARGEST),)]


def test_catalogs_of_hive_types_get_decimals(large: Case) -> None:
    large.run(catalog__kind="memory")
    assert large.manifests()[-1].status == "finished"
