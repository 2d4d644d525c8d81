from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import memory_catalog
from bucketwheel import plugins
from bucketwheel.errors import MappingError, SchemaError, SelectionError
from bucketwheel.kernel.layout import standard_name
from bucketwheel.runs.manifest import DiscoverResult, SplitResult
from bucketwheel.stages import split as split_stage
from memory_catalog import MemoryCatalog
from stage_support import DATASET, column, discovered, split

HEADER = "OMC_FLYWHEEL_TABLE,OMC_FLYWHEEL_COLUMN\n"


def snapshot(*names: str, **types: pa.DataType) -> DiscoverResult:
    return discovered([column(name) for name in ("Key", *names)], types=types)


def mapped(
    directory: Path, lines: str, discovered_columns: DiscoverResult, *tables: str, **overrides: object
) -> SplitResult:
    path = directory / "mapping.csv"
    path.write_text(HEADER + lines)
    return split(discovered_columns, tables, **{f"datasets.{DATASET}.mapping": str(path)}, **overrides)


def layout(result: SplitResult) -> dict[str, list[tuple[str, str]]]:
    return {table.name: [(c.source, c.name) for c in table.columns] for table in result.tables}


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (pa.struct({"x.y": pa.int8()}), "x.y"),
        (pa.list_(pa.struct({"a": pa.map_(pa.string(), pa.struct({"größe": pa.int8()}))})), "größe"),
        (pa.list_(pa.field("an item", pa.struct({"1A_b": pa.int8()}))), None),
        (pa.dictionary(pa.int8(), pa.string()), None),
    ],
)
def test_split_warns_of_fields_that_spark_rejects(kind: pa.DataType, field: str | None) -> None:
    settings: dict[str, Any] = {"catalog.kind": "glue", "catalog.path": None, "target": "s3://bucket/t"}
    warnings = split(snapshot("A", A=kind), **settings).warnings
    expected = f"column 'A' has a nested field {field!r}, so Spark (Glue, EMR, Clean Rooms) rejects the whole table"
    assert [expected in text for text in warnings] == [True] * (field is not None)
    assert split(snapshot("A", A=kind)).warnings == ()


def test_split_without_mapping_makes_one_table_of_all_columns() -> None:
    result = split(snapshot("Hashed Email", "B"))
    assert layout(result) == {DATASET: [("Hashed Email", "hashed_email"), ("B", "b")]}
    assert [(key.source, key.name) for key in result.keys] == [("Key", "key")]
    assert (result.unmapped, result.mapping_sha256, result.warnings) == ((), None, ())


def test_split_of_key_only_snapshot_makes_key_table() -> None:
    assert layout(split(snapshot())) == {DATASET: []}


def test_tables_and_columns_keep_order_of_mapping(tmp_path: Path) -> None:
    result = mapped(tmp_path, "T2,B\nT1,C\nT2,A\n", snapshot("A", "B", "C", "D"))
    assert layout(result) == {"t2": [("B", "b"), ("A", "a")], "t1": [("C", "c")]}
    assert result.unmapped == ("D",)
    assert result.warnings == ("1 source column is not in the mapping: D",)
    assert result.mapping_sha256


def test_column_can_be_in_several_tables(tmp_path: Path) -> None:
    assert layout(mapped(tmp_path, "T1,A\nT2,A\n", snapshot("A"))) == {"t1": [("A", "a")], "t2": [("A", "a")]}


def test_names_match_exactly_then_without_case(tmp_path: Path) -> None:
    result = mapped(tmp_path, "T1,Abc\nT1,DEF\n", snapshot("abc", "Abc", "ABC", "def"))
    assert layout(result) == {"t1": [("Abc", "abc"), ("def", "def")]}
    with pytest.raises(MappingError, match="line 2: 'aBC' matches 'abc' and 'Abc'; write it as one of them"):
        mapped(tmp_path, "T1,aBC\n", snapshot("abc", "Abc"))


class Compared(str):
    """A name that counts how often it is compared."""

    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.comparisons += 1
        return str.__eq__(self, other)


def test_comparisons_of_names_are_linear_in_columns() -> None:
    names = [Compared(f"column_{number}") for number in range(500)]
    content = HEADER + "".join(f"T{number % 2},{name}\n" for number, name in enumerate(names))
    Compared.comparisons = 0
    tables = split_stage._resolve("mapping.csv", content.encode(), names, (), [])
    assert [len(columns) for columns in tables.values()] == [250, 250]
    assert Compared.comparisons < 10 * len(names)


def test_similar_names_are_looked_for_only_in_shown_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def hint(name: str, _known: object) -> str:
        asked.append(name)
        return ""

    monkeypatch.setattr(split_stage, "did_you_mean", hint)
    lines = "".join(f"T1,unknown_{number}\n" for number in range(30))
    with pytest.raises(MappingError, match=r"line 21: no column 'unknown_19' in the snapshot\nand 11 more"):
        mapped(tmp_path, lines, snapshot("A"))
    assert len(asked) == 20


def test_long_list_of_unmapped_columns_is_cut(tmp_path: Path) -> None:
    names = [f"c{number:02}" for number in range(30)]
    (warning,) = mapped(tmp_path, "T1,c00\n", snapshot(*names)).warnings
    assert warning.startswith("29 source columns are not in the mapping: c01, ")
    assert warning.endswith("c20, …")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a b", "a_b"), "addressable_ids: columns 'a b' and 'a_b' would both be called 'a_b'; remove"),
        (("KEY ",), "addressable_ids: columns 'Key' and 'KEY ' would both be called 'key'"),
        (("--",), "addressable_ids: column '--' needs a letter or digit in its name"),
    ],
)
def test_columns_with_colliding_names_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        split(snapshot(*names))


def test_columns_of_same_name_can_be_in_different_tables(tmp_path: Path) -> None:
    result = mapped(tmp_path, "T1,a b\nT2,a_b\n", snapshot("a b", "a_b"))
    assert layout(result) == {"t1": [("a b", "a_b")], "t2": [("a_b", "a_b")]}


def test_dataset_name_without_table_name_is_refused() -> None:
    with pytest.raises(SelectionError, match=r"dataset '\+\+' needs a letter or digit in its name"):
        split(snapshot("A"), dataset="++")


def test_mapped_types_unknown_to_catalogs_are_refused(tmp_path: Path) -> None:
    discovered_columns = snapshot("A", "B", A=pa.null())
    with pytest.raises(
        SchemaError, match=r"column 'A' has type null, which Hive catalogs cannot name, because .* leave it out"
    ):
        split(discovered_columns)
    assert layout(mapped(tmp_path, "T1,B\n", discovered_columns)) == {"t1": [("B", "b")]}


def test_field_name_is_refused_for_the_layouts_of_the_configuration() -> None:
    columns_of_structs = snapshot("A", A=pa.struct([("first name", pa.string())]))
    with pytest.raises(SchemaError, match=r"'A.first name' with ' ' in its name, which readers of Hive's types"):
        split(columns_of_structs)
    with pytest.raises(SchemaError, match=r"'A.first name' with ' ' in its name; .* also of Iceberg tables"):
        split(columns_of_structs, buckets__hash="iceberg")


def test_table_filter_keeps_order_of_mapping(tmp_path: Path) -> None:
    discovered_columns = snapshot("A", "B", "C")
    result = mapped(tmp_path, "T1,A\nT2,B\nT 3,C\n", discovered_columns, "t-3", "T1")
    assert list(layout(result)) == ["t1", "t_3"]
    # Tables outside the filter count as mapped.
    assert result.unmapped == ()
    with pytest.raises(SelectionError, match=r"table filter: no table 'x'; known: t1, t2, t_3"):
        mapped(tmp_path, "T1,A\nT2,B\nT 3,C\n", discovered_columns, "x")


def test_part_named_like_another_table_is_refused(tmp_path: Path) -> None:
    lines = "T1,A\nT1,B\nT1_part_1,C\n"
    limits = {"split__columns_over_limit": "parts", "split__column_limit": 1}
    with pytest.raises(MappingError, match="two tables are called 't1_part_1'; rename one in the mapping"):
        mapped(tmp_path, lines, snapshot("A", "B", "C"), **limits)


def test_column_limit_counts_only_value_columns() -> None:
    names = [f"c{number}" for number in range(100)]
    assert len(split(snapshot(*names), split__column_limit=100).tables[0].columns) == 100
    message = "table 'addressable_ids' has 101 columns, split.column_limit is 100; map some to another table, or set"
    with pytest.raises(MappingError, match=message):
        split(snapshot(*names, "one_more"), split__column_limit=100)
    assert len(split(snapshot(*names, "one_more")).tables[0].columns) == 101
    parts = split(snapshot(*names, "one_more"), split__columns_over_limit="parts").tables
    assert [len(table.columns) for table in parts] == [50, 51]


@pytest.mark.parametrize(
    "header",
    [
        *("table,column", "Column, TABLE", "OMC_FLYWHEEL_TABLE,OMC_FLYWHEEL_COLUMN", "target table,source-column"),
        "\ufefftable,column",
    ],
)
def test_mapping_header_may_have_prefix_case_and_order(tmp_path: Path, header: str) -> None:
    path = tmp_path / "mapping.csv"
    row = "A,T1" if header.startswith("Column") else "T1,A"
    path.write_text(f"{header}\n{row}\n", encoding="utf-8")
    result = split(snapshot("A"), **{f"datasets.{DATASET}.mapping": str(path)})
    assert layout(result) == {"t1": [("A", "a")]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("T1,A", "header 'T1,A', expected table,column; a mapping without a header needs table,column as first line"),
        ("table,table", "header 'table,table', expected table,column;"),
        ("stable,column", "header 'stable,column', expected table,column;"),
        ("table,column,note", "header 'table,column,note', expected table,column;"),
        ("table;column", "semicolons separate the names of the header 'table;column'; use commas: table,column"),
        ("table\tcolumn", "tabs separate the names of the header 'table\\tcolumn'; use commas: table,column"),
    ],
)
def test_other_mapping_header_is_refused(tmp_path: Path, header: str, message: str) -> None:
    path = tmp_path / "mapping.csv"
    path.write_text(f"{header}\nT1,A\n")
    with pytest.raises(MappingError) as refused:
        split(snapshot("A"), **{f"datasets.{DATASET}.mapping": str(path)})
    assert message in str(refused.value)


@given(count=st.integers(1, 600), limit=st.integers(1, 120))
def test_parts_are_even_and_keep_every_column(count: int, limit: int) -> None:
    names = [f"c{number}" for number in range(count)]
    result = split(snapshot(*names), split__columns_over_limit="parts", split__column_limit=limit)
    widths = [len(table.columns) for table in result.tables]
    assert [c.source for table in result.tables for c in table.columns] == names
    assert len(widths) == math.ceil(count / limit)
    assert max(widths) <= limit
    assert max(widths) - min(widths) <= 1
    parts = [f"{DATASET}_part_{number}" for number in range(1, len(widths) + 1)]
    assert [table.name for table in result.tables] == (parts if len(parts) > 1 else [DATASET])


@given(st.text(max_size=20))
def test_standard_names_are_idempotent(name: str) -> None:
    standard = standard_name(name)
    assert set(standard) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
    assert not standard.startswith("_")
    assert not standard.endswith("_")
    assert "__" not in standard
    assert standard_name(standard) == standard


@pytest.mark.parametrize("kind", [pa.uint32(), pa.uint64(), pa.float16(), pa.list_(pa.uint64())], ids=str)
def test_types_only_in_files_are_for_duckdb_only(kind: pa.DataType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins._BUILT_IN["catalogs"], "of_a_plugin", "memory_catalog:MemoryCatalog")
    discovered_columns = snapshot("A", A=kind)
    assert layout(split(discovered_columns)) == {DATASET: [("A", "a")]}
    for catalog in ("glue", "of_a_plugin"):
        with pytest.raises(
            SchemaError, match=r"column 'A' has type .* nearest Hive type .* leave the column unmapped"
        ):
            split(discovered_columns, **{"catalog.kind": catalog})


def test_names_up_to_glue_limit_are_accepted(tmp_path: Path) -> None:
    table, value = "t" * (255 - len("bucketed_")), "c" * 255
    result = mapped(tmp_path, f"{table},{value}\n", snapshot(value), **{"catalog.kind": "glue"})
    assert layout(result) == {table: [(value, value)]}


@pytest.mark.parametrize(
    ("prefixes", "setting"),
    [({}, "final_prefix"), ({"catalog.staged_prefix": "before_they_are_"}, "staged_prefix")],
)
def test_table_name_too_long_for_glue_is_refused(tmp_path: Path, prefixes: dict[str, str], setting: str) -> None:
    table = "t" * 247
    discovered_columns = snapshot("A")
    with pytest.raises(
        MappingError,
        match=rf"table 't+' has 2\d\d characters with catalog.{setting}, but catalog glue accepts at most 255",
    ):
        mapped(tmp_path, f"{table},A\n", discovered_columns, **{"catalog.kind": "glue", **prefixes})
    assert mapped(tmp_path, f"{table},A\n", discovered_columns, **prefixes)


def test_column_name_too_long_for_glue_is_refused() -> None:
    name = "c" * 256
    with pytest.raises(
        SchemaError, match=f"the name of column '{name}' has 256 characters, but catalog glue accepts at most 255"
    ):
        split(snapshot(name), **{"catalog.kind": "glue"})
    assert split(snapshot(name))
    # Key names collide like those of other columns.
    key = discovered([column("k" * 256), column("B")], keys=["k" * 256])
    with pytest.raises(SchemaError, match=r"the name of column 'k+' has 256 characters"):
        split(key, **{"catalog.kind": "glue"})


def test_type_text_too_long_for_glue_is_refused() -> None:
    wide = pa.struct([(f"field_number_{number:08d}", pa.decimal128(38, 10)) for number in range(4000)])
    discovered_columns = snapshot("A", A=wide)
    with pytest.raises(
        SchemaError,
        match=r"the Hive type of column 'A' has 1\d{5} characters, but catalog glue accepts at most 131072; leave",
    ):
        split(discovered_columns, **{"catalog.kind": "glue"})
    assert split(discovered_columns)


class Narrow(MemoryCatalog):
    """A catalog that declares narrow limits."""

    longest_name = 12
    longest_type = 6


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(memory_catalog, "Narrow", Narrow, raising=False)
    monkeypatch.setitem(plugins._BUILT_IN["catalogs"], "narrow", "memory_catalog:Narrow")
    return "narrow"


def test_split_respects_limits_declared_by_catalog(narrow: str, tmp_path: Path) -> None:
    with pytest.raises(
        MappingError, match=r"table 'letters' has 16 characters .*, but catalog narrow accepts at most 12"
    ):
        mapped(tmp_path, "letters,A\n", snapshot("A"), **{"catalog.kind": narrow})
    with pytest.raises(
        SchemaError, match=r"column 'a_column_name' has 13 characters, but catalog narrow accepts at most 12"
    ):
        mapped(tmp_path, "t,a_column_name\n", snapshot("a_column_name"), **{"catalog.kind": narrow})
    wide = snapshot("A", A=pa.timestamp("us"))
    with pytest.raises(
        SchemaError, match="Hive type of column 'A' has 9 characters, but catalog narrow accepts at most 6"
    ):
        mapped(tmp_path, "t,A\n", wide, **{"catalog.kind": narrow})


def test_split_works_without_packages_of_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bucketwheel.catalogs.duckdb", raising=False)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert layout(split(snapshot("A"))) == {DATASET: [("A", "a")]}


def test_catalog_without_capabilities_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(MemoryCatalog, "typed")
    monkeypatch.setitem(plugins._BUILT_IN["catalogs"], "bare", "memory_catalog:MemoryCatalog")
    with pytest.raises(SelectionError, match="catalog 'bare' does not declare typed; set these as attributes of"):
        split(snapshot("A"), **{"catalog.kind": "bare"})
