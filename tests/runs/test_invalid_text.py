"""Text that is not UTF-8: refused by place, replaced, or published as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.errors import ConfigError, SchemaError
from compact_thrift import I32, Struct, change_footer

ROWS = 300
BYTES = pa.schema([("id", pa.binary()), ("few", pa.binary())])


def latin(values: Sequence[bytes | None]) -> pa.Array:
    return pa.array(values, pa.binary()).view(pa.string())


def columns(bad: bool = True) -> dict[str, pa.Array]:
    few = [b"R\xc9UNION" if bad else b"REUNION", b"ok", "Zürich".encode(), None]
    many = [b"M\xfcller %d" % row if bad and row % 50 == 7 else b"Mueller %d" % row for row in range(ROWS)]
    return {
        "id": pa.array([f"P{row:04d}" for row in range(ROWS)]),
        "few": latin([few[row % 4] for row in range(ROWS)]),
        "many": latin(many),
        "tags": pa.ListArray.from_arrays(pa.array(range(ROWS + 1), pa.int32()), latin(many)),
    }


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "in" / "snapshot_dt=2026-01-31"
    directory.mkdir(parents=True)
    return directory


def write(source: Path, content: dict[str, pa.Array], name: str = "a.parquet", **options: Any) -> None:
    pq.write_table(pa.table(content), source / name, row_group_size=100, **options)


def run(source: Path, engine: str = "arrow", **settings: Any) -> api.RunOutcome:
    values = {
        **{"engine": engine, "target": "out", "catalog.path": "c.duckdb", "buckets.count": 2},
        "datasets.x": {"source": str(source.parent), "key": "id", **settings.pop("dataset", {})},
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    return api.run(api.load("local", None, values, {}), "x")


def published(name: str = "x") -> dict[str, tuple[Any, ...]]:
    with duckdb.connect("c.duckdb", read_only=True) as connection:
        rows = connection.execute(f"FROM bucketwheel.bucketed_{name}").fetchall()
    return {str(row[0]): row[1:] for row in rows}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("few", "row group 0, column 'few', row 0: byte 0xC9 at position 1 is not UTF-8;"),
        ("many", "row group 0, column 'many', row 7: byte 0xFC at position 1 is not UTF-8;"),
        ("tags", "row group 0, column 'tags': text inside is not UTF-8;"),
    ],
)
@pytest.mark.parametrize("memory", ["256MB", "1MB"])
def test_invalid_text_is_refused_by_place(source: Path, name: str, place: str, memory: str) -> None:
    write(source, columns(bad=False))
    run(source, types__invalid_text="error")
    before = published()
    write(source, columns(bad=False) | {name: columns()[name]})
    with pytest.raises(SchemaError) as refused:
        run(source, memory=memory)
    text = str(refused.value)
    assert text.startswith(f"{source}/a.parquet: {place}")
    assert "set types.invalid_text=replace" in text
    assert "datasets.NAME.binary_columns" in text
    assert "Müller" not in text
    assert published() == before


@pytest.mark.parametrize("annotation", [4, 19])
def test_place_in_enum_or_json_is_named(source: Path, annotation: int) -> None:
    content = columns(bad=False)
    write(source, content | {"many": columns()["many"].cast(pa.binary())}, store_schema=False)

    def annotate(metadata: Struct) -> None:
        for element in metadata[2].values:
            if element[4] == b"many":
                element.set(6, I32, annotation)

    change_footer(source / "a.parquet", annotate)
    with pytest.raises(SchemaError, match="row group 0, column 'many', row 7: byte 0xFC at position 1 is not UTF-8"):
        run(source)


def test_all_columns_with_invalid_text_are_named(source: Path) -> None:
    write(source, columns(bad=False), "a.parquet")
    write(source, columns(), "b.parquet")
    with pytest.raises(SchemaError, match=r"b\.parquet: row group 0, column 'few', .*\(also in 'many', 'tags'\)"):
        run(source)


def test_row_group_of_first_invalid_text_is_named(source: Path) -> None:
    text = latin([b"\xff" if row == 250 else b"ok %d" % row for row in range(ROWS)])
    write(source, columns(bad=False) | {"many": text})
    with pytest.raises(SchemaError, match="row group 2, column 'many', row 50: byte 0xFF at position 0"):
        run(source)


def test_replaced_text_is_published_with_warning(source: Path) -> None:
    write(source, columns())
    outcome = run(source, types__invalid_text="replace")
    assert outcome.manifest.bucket.warnings == (
        "column 'few': replaced bytes that are not UTF-8 in 75 texts",
        "column 'many': replaced bytes that are not UTF-8 in 6 texts",
        "column 'tags': replaced bytes that are not UTF-8 in 6 texts",
    )
    rows = published()
    assert rows["P0007"] == (None, "M\ufffdller 7", ["M\ufffdller 7"])
    assert rows["P0008"] == ("R\ufffdUNION", "Mueller 8", ["Mueller 8"])
    assert rows["P0002"] == ("Zürich", "Mueller 2", ["Mueller 2"])
    assert len(rows) == ROWS


@pytest.mark.parametrize("dictionary", [True, False])
def test_binary_columns_keep_their_bytes(source: Path, dictionary: bool) -> None:
    write(source, {name: columns()[name] for name in ("id", "few", "many")}, use_dictionary=dictionary)
    run(source, dataset={"binary_columns": "few,many"})
    rows = published()
    assert rows["P0057"] == (b"ok", b"M\xfcller 57")
    assert rows["P0000"] == (b"R\xc9UNION", b"Mueller 0")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("fews", "did you mean 'few'"),
        ("tags", "column 'tags' has type list<"),
        ("id", "'id' is a key"),
    ],
)
def test_wrong_binary_columns_are_refused(source: Path, names: str, problem: str) -> None:
    write(source, columns(bad=False))
    with pytest.raises(ConfigError, match=f"datasets.x.binary_columns: .*{problem}"):
        run(source, dataset={"binary_columns": names})


@pytest.mark.parametrize("policy", ["error", "replace"])
def test_invalid_keys_are_kept_with_warning(source: Path, policy: str) -> None:
    keys = latin([b"P\xff%d" % row if row in {7, 299} else b"P%d" % row for row in range(ROWS)])
    write(source, columns(bad=False) | {"id": keys})
    outcome = run(source, types__invalid_text=policy)
    assert outcome.manifest.bucket.warnings == (
        "column 'id': kept 2 keys that DuckDB rejects, because the text is not UTF-8",
    )
    files = list(Path("out/x/x", outcome.manifest.run_id).glob("*.parquet"))
    written = pa.concat_tables(pq.ParquetFile(path).read(["id"]).cast(BYTES.remove(1)) for path in files)
    assert sorted(written["id"].to_pylist()) == sorted(keys.cast(pa.binary()).to_pylist())


def test_kept_text_is_written_as_it_is(source: Path) -> None:
    keys = latin([b"P\xff%d" % row if row == 299 else b"P%d" % row for row in range(ROWS)])
    write(source, columns() | {"id": keys})
    outcome = run(source, types__invalid_text="keep")
    files = list(Path("out/x/x", outcome.manifest.run_id).glob("*.parquet"))
    written = pa.concat_tables(pq.ParquetFile(path).read(["id", "few"]).cast(BYTES) for path in files).to_pylist()
    assert len(written) == ROWS
    assert {"id": b"P\xff299", "few": None} in written
    assert {"id": b"P0", "few": b"R\xc9UNION"} in written


def test_invalid_text_of_unmapped_column_is_ignored(source: Path) -> None:
    write(source, columns())
    (source.parent.parent / "mapping.csv").write_text("table,column\nx,value\n")
    write(source, columns() | {"value": pa.array(range(ROWS))})
    run(source, dataset={"mapping": "mapping.csv"})
    assert published()["P0003"] == (3,)


def test_changed_policy_starts_a_new_run(source: Path) -> None:
    write(source, columns(bad=False))
    first = run(source)
    assert run(source).manifest.run_id == first.manifest.run_id
    second = run(source, dataset={"binary_columns": "few"}, quality__schema_changes="allow")
    assert second.manifest.run_id != first.manifest.run_id


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.xdist_group("spark")
def test_spark_refuses_and_replaces_invalid_text(java: None, source: Path) -> None:
    write(source, columns())
    with pytest.raises(SchemaError, match="row group 0, column 'few', row 0: byte 0xC9"):
        run(source, engine="spark")
    outcome = run(source, engine="spark", types__invalid_text="replace")
    assert outcome.manifest.bucket.warnings[0] == "column 'few': replaced bytes that are not UTF-8 in 75 texts"
    assert published()["P0008"] == ("R\ufffdUNION", "Mueller 8", ["Mueller 8"])
