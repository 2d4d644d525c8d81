from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.errors import SchemaError, SelectionError, SnapshotError
from bucketwheel.runs.manifest import DiscoverResult
from bucketwheel.sample import Sample, SampleSpec, write_sample
from bucketwheel.settings import StorageSettings
from bucketwheel.stages.discover import find_key
from bucketwheel.stages.source_files import check_partition_columns, data_files, ignored_files
from bucketwheel.storage import Entry, Storage
from project import NARROW, WIDE, Project
from stage_support import Pair

KEY = "Customer_User_id"


def discover(project: Project, dataset: str = WIDE, snapshot_dt: str | None = None) -> DiscoverResult:
    return api.plan(project.configuration(), dataset, snapshot_dt=snapshot_dt).discover


@pytest.fixture(scope="module")
def broad(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A sample with columns of every kind, including lists."""
    spec = SampleSpec(rows=900, tables=2, columns=33, files=2, row_group_rows=200)
    return write_sample(tmp_path_factory.mktemp("broad"), spec)


def test_discover_reads_rows_bytes_and_columns_from_footers(project: Project, broad: Sample) -> None:
    project.use(broad)
    result = discover(project)
    footers = {path: pq.read_metadata(path) for path in sorted(broad.snapshot.glob("*.parquet"))}
    assert (result.snapshot_dt, result.location, result.rows) == ("2025-10-22", str(broad.snapshot), 900)
    assert result.bytes == broad.bytes
    assert [(file.path, file.bytes, file.rows) for file in result.files] == [
        (str(path), path.stat().st_size, footer.num_rows) for path, footer in footers.items()
    ]
    assert [file.row_group_rows for file in result.files] == [(200, 200, 50), (200, 200, 50)]
    chunks: dict[str, list[pq.ColumnChunkMetaData]] = {}
    for footer in footers.values():
        for group in range(footer.num_row_groups):
            for index in range(footer.num_columns):
                chunk = footer.row_group(group).column(index)
                chunks.setdefault(chunk.path_in_schema.partition(".")[0], []).append(chunk)
    assert [column.name for column in result.columns] == list(chunks)
    for column in result.columns:
        of_column = chunks[column.name]
        assert column.compressed_bytes == sum(chunk.total_compressed_size for chunk in of_column)
        assert column.uncompressed_bytes == sum(chunk.total_uncompressed_size for chunk in of_column)
        coded = all(chunk.dictionary_page_offset for chunk in of_column)
        assert (column.dictionary_bytes is not None) is coded, column.name
    assert result.schema().names == list(chunks)
    assert {str(field.type) for field in result.schema()} >= {"string", "int16", "list<element: string>"}


def test_discover_reads_no_data_page(project: Project, broad: Sample, tmp_path: Path) -> None:
    copy = shutil.copytree(broad.directory, tmp_path / "copy")
    source = copy / "opus" / WIDE / "raw_input"
    project.set(datasets={WIDE: {**project.settings["datasets"][WIDE], "source": str(source)}})
    before = discover(project)
    for path in source.rglob("*.parquet"):
        content = bytearray(path.read_bytes())
        footer = int.from_bytes(content[-8:-4], "little") + 8
        content[4:-footer] = bytes(len(content) - footer - 4)
        path.write_bytes(content)
    after = discover(project)
    assert (after.rows, after.columns) == (before.rows, before.columns)


@pytest.mark.parametrize(("marker", "taken"), [("_SUCCESS", "2025-10-22"), (None, "2025-12-01")])
def test_discover_selects_latest_complete_snapshot(
    project: Project, dirty: Callable[..., Sample], marker: str | None, taken: str
) -> None:
    sample = dirty(None)
    for date, complete in (("2024-12-31", True), ("2025-09-30", True), ("2025-12-01", False)):
        shutil.copytree(sample.snapshot, sample.source / f"snapshot_dt={date}")
        if not complete:
            (sample.source / f"snapshot_dt={date}" / "_SUCCESS").unlink()
    project.use(sample)
    project.settings["datasets"][WIDE]["complete_marker"] = marker
    project.set()
    assert discover(project).snapshot_dt == taken
    assert discover(project, snapshot_dt="2024-12-31").location.endswith("/snapshot_dt=2024-12-31")


def test_discover_accepts_nested_files_and_any_suffix_case(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.PARQUET", "deep/er/c.parq", "x.parquet.crc", "_x.parquet", ".y.parquet"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for name in ("_temporary/0/d.parquet", ".hidden/e.parquet", "notes.txt", "empty.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty.txt" else b"x")
    warnings: list[str] = []
    ignored: dict[str, list[Entry]] = {}
    result = data_files(Storage(StorageSettings()), str(tmp_path), warnings=warnings, ignored=ignored)
    assert [entry.location.removeprefix(f"{tmp_path}/") for entry in result] == [
        *("a.PARQUET", "b.parquet", "deep/er/c.parq")
    ]
    assert warnings == [f"{tmp_path}: ignored 1 file: notes.txt: not named .parquet"]
    hidden = "hidden, with names that begin with . or _"
    assert [(part.reason, part.files, part.bytes) for part in ignored_files(ignored, ".y.parquet")] == [
        ("checksums", 1, 1),
        ("empty", 1, 0),
        (hidden, 3, 3),
        ("not named .parquet", 1, 1),
    ]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (("*",), ["20251022_000", "b.parquet", "part-0.gz"]),
        (("all",), ["20251022_000", "b.parquet", "part-0.gz"]),
        (("part-*", "2025*"), ["20251022_000", "part-0.gz"]),
        (("*.PARQUET",), []),
    ],
)
def test_patterns_select_data_files(tmp_path: Path, patterns: tuple[str, ...], names: list[str]) -> None:
    for name in ("20251022_000", "part-0.gz", "b.parquet", "_SUCCESS", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "deep_$folder$").touch()
    files = data_files(Storage(StorageSettings()), str(tmp_path), patterns)
    assert [entry.name for entry in files] == names


def test_parquet_files_under_other_names_are_refused_beside_data_files(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "20251022_000").write_bytes(b"PAR1 and more")
    (tmp_path / "notes.txt").write_bytes(b"x")
    with pytest.raises(
        SnapshotError, match=r"content: 20251022_000; set datasets.people.files=all to read all files"
    ):
        data_files(Storage(StorageSettings()), str(tmp_path), (), [], "datasets.people.files")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("_delta_log/00000000000000000000.json", "Delta"),
        (".hoodie/hoodie.properties", "Hudi"),
        ("metadata/v1.metadata.json", "Iceberg"),
        ("people/metadata/00001-a.metadata.json", "Iceberg"),
    ],
)
def test_tables_of_other_formats_are_refused(tmp_path: Path, name: str, table: str) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(SnapshotError, match=rf"is a table of {table} \(({name}|{name.partition('/')[0]})\)"):
        data_files(Storage(StorageSettings()), str(tmp_path))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("_delta_log/00000000000000000000.json", "."),
        (".hoodie/hoodie.properties", "."),
        ("metadata/v1.metadata.json", "."),
        ("metadata/v1.metadata.json", "data"),
    ],
)
def test_table_above_its_snapshots_is_refused(tmp_path: Path, name: str, source: str) -> None:
    table = tmp_path / "table"
    for path in (name, f"{source}/snapshot_dt=2026-01-31/a.parquet"):
        (table / path).parent.mkdir(parents=True)
        (table / path).write_text("{}")
    config = api.load("local", None, {"datasets.x": {"source": str(table / source), "key": "id"}}, {})
    with pytest.raises(SnapshotError, match="is a table of "):
        api.plan(config, "x")


def test_hidden_directory_of_partition_column_is_read(tmp_path: Path) -> None:
    for name in ("_region=EU/a.parquet", "_temporary/b.parquet"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"PAR1")
    (entry,) = data_files(Storage(StorageSettings()), str(tmp_path))
    assert entry.location == f"{tmp_path}/_region=EU/a.parquet"


@pytest.mark.parametrize(
    ("directory", "columns", "refused"),
    [
        ("region=EU", ["id"], True),
        ("_region=EU", ["id", "region"], True),
        ("region=EU", ["id", "Region"], False),
        ("plain", ["id"], False),
        ("a=b.parquet", ["id"], True),
    ],
)
def test_partition_column_outside_files_is_refused(
    tmp_path: Path, directory: str, columns: list[str], refused: bool
) -> None:
    (tmp_path / directory).mkdir()
    (tmp_path / directory / "x=1.parquet").write_bytes(b"PAR1")
    entries = data_files(Storage(StorageSettings()), str(tmp_path))
    with pytest.raises(SnapshotError, match=r"set datasets\.x\.partitions=columns") if refused else nullcontext():
        check_partition_columns(str(tmp_path), entries, columns, "datasets.x.partitions")


def test_discover_ignores_hidden_directory_above_snapshot(tmp_path: Path) -> None:
    place = tmp_path / ".cache" / "_data" / "snapshot_dt=2025-10-22"
    place.mkdir(parents=True)
    (place / "a.parquet").write_bytes(b"x")
    assert len(data_files(Storage(StorageSettings()), str(place))) == 1


def write(project: Project, table: pa.Table, **options: object) -> None:
    source = project.root / "in"
    snapshot = source / "snapshot_dt=2025-10-22"
    snapshot.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, snapshot / "a.parquet", **options)
    project.set(datasets={NARROW: {"source": str(source), "key": KEY}})


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.string(), "string"),
        (pa.large_string(), "string"),
        (pa.dictionary(pa.int32(), pa.string()), "string"),
        (pa.bool_(), "boolean"),
        (pa.int8(), "tinyint"),
        (pa.int16(), "smallint"),
        (pa.int32(), "int"),
        (pa.int64(), "bigint"),
        (pa.date32(), "date"),
    ],
    ids=str,
)
def test_discover_accepts_every_bucketable_key_type(project: Project, kind: pa.DataType, name: str) -> None:
    values = pa.array([True, False]) if pa.types.is_boolean(kind) else pa.array([1, 2], pa.int32())
    if name in ("string", "tinyint", "smallint", "bigint"):
        values = values.cast(pa.string() if name == "string" else kind)
    write(project, pa.table({KEY: values.cast(kind) if name != "string" else values}))
    assert discover(project, NARROW).key_types == (name,)


def test_nested_columns_are_summed_under_top_level_name(project: Project) -> None:
    nested = pa.array([{"b": [{"c": 1, "d": "x"}]}, None])
    write(project, pa.table({KEY: ["1", "2"], "a": nested, "a.b": ["p", "q"]}))
    result = {column.name: column for column in discover(project, NARROW).columns}
    assert set(result) == {KEY, "a", "a.b"}
    assert all(column.compressed_bytes > 0 for column in result.values())


def test_nulls_are_counted_from_footer_statistics(project: Project) -> None:
    columns = {
        KEY: ["1", None, "3", "4"],
        "none": [1, 2, 3, 4],
        "all": pa.array([None] * 4, pa.string()),
        "coded": pa.array(["x", None, "x", None]).dictionary_encode(),
        # Two of these rows are NULL; the lists contain more NULLs.
        "nested": [{"a": None}, None, {"a": 1}, None],
        "list": [[None, None], None, [], [1]],
        "without": [None, 1, 2, 3],
    }
    with_statistics = [KEY, "none", "all", "coded", "nested.a", "list.list.element"]
    write(project, pa.table(columns), row_group_size=3, write_statistics=with_statistics)
    result = {column.name: column.null_count for column in discover(project, NARROW).columns}
    assert result == {KEY: 1, "none": 0, "all": 4, "coded": 2, "nested": None, "list": None, "without": None}


def test_nulls_are_unknown_if_one_file_lacks_statistics(project: Project) -> None:
    table = pa.table({KEY: ["1", "2"], "v": [None, 1]})
    write(project, table)
    pq.write_table(table, project.root / "in" / "snapshot_dt=2025-10-22" / "b.parquet", write_statistics=[KEY])
    result = {column.name: column.null_count for column in discover(project, NARROW).columns}
    assert result == {KEY: 0, "v": None}


def test_extension_type_counts_all_its_stored_columns(project: Project) -> None:
    pair = pa.ExtensionArray.from_storage(Pair(), pa.array([{"a": 1, "b": "x"}], Pair().storage_type))
    pa.register_extension_type(Pair())
    try:
        write(project, pa.table({KEY: ["1"], "p": pair, "last": ["x" * 50_000]}))
        result = {column.name: column.uncompressed_bytes for column in discover(project, NARROW).columns}
    finally:
        pa.unregister_extension_type("tests.pair")
    assert result["p"] < 1000
    assert result["last"] > 50_000


def test_schema_omits_metadata_of_footer(project: Project) -> None:
    table = pa.table({KEY: ["1"], "v": [1]}).replace_schema_metadata({"pandas": "{}", "secret": "x"})
    write(project, table)
    assert discover(project, NARROW).schema().metadata is None


def test_key_is_matched_exactly_then_without_case() -> None:
    assert find_key("ID", ["id", "ID"], "d") == "ID"
    assert find_key("ID", ["x", "Id"], "d") == "Id"
    with pytest.raises(SchemaError, match=r"key 'ID' of d matches 'id' and 'Id'; set datasets\.d\.key to one of"):
        find_key("ID", ["id", "Id"], "d")
    names = [f"column_{number}" for number in range(30)]
    with pytest.raises(
        SchemaError, match=r"key 'ID' of d is not in the snapshot; set .*: column_0, .*, column_19, …$"
    ):
        find_key("ID", names, "d")


def test_several_keys_keep_their_order(project: Project) -> None:
    write(project, pa.table({"a": [1], "B": ["x"], "c": [2]}))
    project.set(datasets={NARROW: {"source": str(project.root / "in"), "key": ["b", "A"]}})
    result = discover(project, NARROW)
    assert (result.keys, result.key_types) == (("B", "a"), ("string", "bigint"))


def test_plan_accepts_text_and_dates_as_selection(project: Project) -> None:
    config = project.configuration()
    for snapshot in (dt.date(2025, 10, 22), dt.datetime(2025, 10, 22, 5, tzinfo=dt.UTC), "2025-10-22"):
        seen = api.plan(config, WIDE, "discover, split,size", snapshot, "ibe_01")
        assert seen.discover.snapshot_dt == "2025-10-22"
        assert [table.name for table in seen.split.tables] == ["ibe_01"]
    with pytest.raises(SelectionError, match="no stage 'sizes'; did you mean 'size'"):
        api.plan(config, WIDE, stages="sizes")
