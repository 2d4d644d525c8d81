from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketwheel.catalogs import sql
from bucketwheel.catalogs.hive_types import hive_type
from bucketwheel.contracts import CatalogTable, TableCopy
from bucketwheel.errors import ConfigError, SchemaError
from bucketwheel.executors import athena, trino
from stage_support import Pair

# DuckDB takes text up to a NUL; nothing else is special.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


def test_statements_match_golden_file(golden: Callable[[str, str], None]) -> None:
    location = "/data/it's [here]/*?/ibe_01/2025-10-22-20251101T041109Z-3f9a1c"
    statements = [
        sql.parquet_view(
            "omc_flywheel_local",
            "bucketed_ibe_01",
            [f"/out/ibe_01/2025-10-22-20251101T041109Z-3f9a1c/00000{bucket}_0.snappy.parquet" for bucket in (0, 1)],
        ),
        sql.parquet_view('odd "schema"', "Ext Größe", [f"{location}/000000_0.snappy.parquet"]),
        sql.drop_view("omc_flywheel_local", "bucketed_ibe_01"),
        sql.drop_view('odd "schema"', "Ext Größe"),
    ]
    golden("duckdb.sql", "".join(f"{statement};\n\n" for statement in statements))


def a_copy(table: str = "ibe_01", **changes: Any) -> TableCopy:
    place = f"s3://bucket/target/people/{table}"
    source = CatalogTable(
        name=f"ext_{table}",
        location=f"{place}/2025-10-22-20251101T041109Z-3f9a1c",
        columns=(("customer_user_id", "string"), ("order", "bigint"), ("1st_value", "decimal(10,2)")),
        bucket_columns=("customer_user_id",),
        bucket_count=64,
        sorted=True,
    )
    return TableCopy(
        source=replace(source, **changes),
        name=f"tmp_bucketwheel_20251101t041109z_3f9a1c_07b2aa_{table}",
        location=f"{place}/ctas-2025-10-22-20251101T041109Z-3f9a1c-07b2aa",
        hash="hive_v1",
    )


def test_athena_statements_match_golden_file(golden: Callable[[str, str], None]) -> None:
    statements = [
        athena.copy_statement(a_copy(), "omc_flywheel_prod"),
        athena.copy_statement(
            a_copy("select", bucket_columns=("customer_user_id", "order"), bucket_count=100), "table"
        ),
        # The workgroup chooses the place.
        athena.copy_statement(replace(a_copy(bucket_columns=(), bucket_count=0), location=None), "omc_flywheel_prod"),
        sql.key_facts(sql.name_of("omc_flywheel_prod", "ext_ibe_01"), ["customer_user_id", "order"]),
        sql.drop_hive_table("omc_flywheel_prod", a_copy().name),
        sql.drop_hive_table("table", "odd`name"),
    ]
    golden("athena.sql", "".join(f"{statement};\n\n" for statement in statements))


def test_trino_statements_match_golden_file(golden: Callable[[str, str], None]) -> None:
    statements = [
        trino.copy_statement(a_copy(), "hive", "omc_flywheel_prod", False),
        trino.copy_statement(replace(a_copy("it's"), hash="hive_v2"), "hive", 'odd "schema"', True),
        trino.copy_statement(a_copy(bucket_columns=(), bucket_count=0), "hive", "omc_flywheel_prod", True),
        sql.key_facts(sql.name_of("hive", "omc_flywheel_prod", "ext_ibe_01"), ["customer_user_id"]),
        sql.drop_table(sql.name_of("hive", "omc_flywheel_prod", a_copy().name)),
    ]
    golden("trino.sql", "".join(f"{statement};\n\n" for statement in statements))


@pytest.mark.parametrize("name", ["plain", "select", "1st", "UPPER", "a_b", "x" * 255])
def test_names_readable_by_athena_are_accepted(name: str) -> None:
    sql.check_plain_name("catalog.database", name)


@pytest.mark.parametrize("name", ["", "with space", "hy-phen", "größe", 'x"', "a.b", "a`b", "x" * 256, "new\nline"])
def test_names_unreadable_by_athena_are_refused_with_setting(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^catalog\.database: .* is not a name that Athena can read; use at most"):
        sql.check_plain_name("catalog.database", name)


@pytest.mark.parametrize("field", ["a:b", "a b", "a,b", "a>b", "a<b", "", 'a"b', "a`b"])
def test_field_name_that_breaks_type_text_is_refused(field: str) -> None:
    with pytest.raises(SchemaError, match=r"^column 'My Column' has a field .*, which Hive catalogs cannot name"):
        hive_type(pa.struct([("fine", pa.int8()), (field, pa.string())]), "My Column")


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


@given(text=texts)
def test_quoted_identifiers_and_literals_round_trip(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    cursor = connection.execute(f"SELECT {sql.literal(text)} AS {sql.quoted(text)}")
    assert cursor.description
    assert cursor.description[0][0] == text
    assert cursor.fetchall() == [(text,)]


@pytest.mark.parametrize(
    ("text", "identifier", "literal"),
    [
        ("plain", '"plain"', "'plain'"),
        ('a"b', '"a""b"', "'a\"b'"),
        ("a'b", '"a\'b"', "'a''b'"),
        ("a\\b", '"a\\b"', "'a\\b'"),
        ("", '""', "''"),
    ],
)
def test_quotes_are_doubled_and_backslashes_kept(text: str, identifier: str, literal: str) -> None:
    assert (sql.quoted(text), sql.literal(text)) == (identifier, literal)


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "with space",
        "it's",
        'say "x"',
        "star*",
        "question?",
        "[brackets]",
        "[a-z]",
        "]",
        "**",
        "{braces,too}",
        "per%cent",
        "größe",
        "env=prod",
        "~",
        "$HOME;--",
    ],
)
def test_view_reads_files_of_its_directory_only(tmp_path: Path, name: str) -> None:
    places = {name: 1, "plain but other": 2, "starx": 3, "questionx": 4, "b": 5, "a": 6, "brackets": 7}
    for place, value in places.items():
        directory = tmp_path / place
        directory.mkdir(exist_ok=True)
        pq.write_table(pa.table({"v": [value]}), directory / "000000_0.snappy.parquet")
    below = tmp_path / name / "below"
    below.mkdir()
    pq.write_table(pa.table({"v": [8]}), below / "000000_0.snappy.parquet")
    with duckdb.connect() as connection:
        connection.execute('CREATE SCHEMA "s"')
        connection.execute(sql.parquet_view("s", name, [str(tmp_path / name / "000000_0.snappy.parquet")]))
        shown = connection.execute(f'SELECT * FROM "s".{sql.quoted(name)}')
        assert [column[0] for column in shown.description or ()] == ["v"]
        assert shown.fetchall() == [(1,)]
        connection.execute(sql.drop_view("s", name))
        connection.execute(sql.drop_view("s", name))
        assert connection.execute("SELECT count(*) FROM duckdb_views() WHERE schema_name = 's'").fetchall() == [(0,)]


def test_path_that_duckdb_cannot_list_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^/a\\b: DuckDB treats a backslash as a path separator; choose"):
        sql.parquet_view("s", "v", ["/a\\b"])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.bool_(), "boolean"),
        (pa.int8(), "tinyint"),
        (pa.int16(), "smallint"),
        (pa.int32(), "int"),
        (pa.int64(), "bigint"),
        # Hive has no unsigned numbers; of these the next larger type holds all values, and Trino reads them right.
        (pa.uint8(), "smallint"),
        (pa.uint16(), "int"),
        (pa.float32(), "float"),
        (pa.float64(), "double"),
        (pa.date32(), "date"),
        (pa.string(), "string"),
        (pa.large_string(), "string"),
        (pa.string_view(), "string"),
        (pa.binary(), "binary"),
        (pa.large_binary(), "binary"),
        (pa.binary_view(), "binary"),
        (pa.binary(16), "binary"),
        (pa.decimal128(10, 2), "decimal(10,2)"),
        (pa.decimal256(38, 0), "decimal(38,0)"),
        (pa.timestamp("us"), "timestamp"),
        (pa.timestamp("ns", "UTC"), "timestamp"),
        (pa.time64("us"), "bigint"),
        (pa.dictionary(pa.int8(), pa.string()), "string"),
        (Pair(), "struct<a:bigint,b:string>"),
        (pa.list_(pa.int32()), "array<int>"),
        (pa.large_list(pa.string()), "array<string>"),
        (pa.list_(pa.float64(), 3), "array<double>"),
        (pa.list_view(pa.int8()), "array<tinyint>"),
        (pa.large_list_view(pa.list_view(pa.string())), "array<array<string>>"),
        (pa.map_(pa.string(), pa.date32()), "map<string,date>"),
        (pa.struct([("a", pa.int16()), ("b", pa.string())]), "struct<a:smallint,b:string>"),
        (
            pa.list_(pa.struct([("m", pa.map_(pa.string(), pa.list_(pa.decimal128(5, 1))))])),
            "array<struct<m:map<string,array<decimal(5,1)>>>>",
        ),
    ],
    ids=str,
)
def test_every_parquet_type_has_hive_name(kind: pa.DataType, name: str) -> None:
    assert hive_type(kind, "c") == name


@pytest.mark.parametrize(
    "kind",
    [pa.null(), pa.decimal256(50, 2), pa.list_(pa.null()), pa.struct([("a", pa.month_day_nano_interval())])],
    ids=str,
)
def test_types_without_hive_name_are_refused_by_column(kind: pa.DataType) -> None:
    with pytest.raises(SchemaError, match=r"^column 'My Column' has type .*, which Hive catalogs cannot name"):
        hive_type(kind, "My Column")


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (
            pa.uint32(),
            "bigint",
            r"type uint32; the nearest Hive type is bigint, .* 2\^31 or more .* written with int64,",
        ),
        (pa.uint64(), "bigint", r"type uint64; the nearest Hive type is bigint, .* negative\. .*int64 or decimal"),
        (pa.float16(), "float", "type halffloat; the nearest Hive type is float, .* has 2, .* written with float32"),
        (pa.time32("s"), "int", r"type time32\[s\]; the nearest Hive type is int, .* written with time64"),
        (pa.time32("ms"), "int", r"type time32\[ms\]"),
        (pa.list_(pa.uint64()), "array<bigint>", "type uint64"),
        (pa.map_(pa.string(), pa.float16()), "map<string,float>", "type halffloat"),
        (pa.struct([("a", pa.list_(pa.uint64()))]), "struct<a:array<bigint>>", "type uint64"),
        (pa.dictionary(pa.int8(), pa.uint64()), "bigint", "type uint64"),
    ],
    ids=str,
)
def test_types_without_exact_hive_type_are_for_files_only(kind: pa.DataType, name: str, text: str) -> None:
    with pytest.raises(SchemaError, match=f"^column 'My Column' has {text}.*or leave the column unmapped"):
        hive_type(kind, "My Column")
    assert hive_type(kind, "My Column", exact=False) == name
