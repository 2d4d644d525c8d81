"""Tables of other formats, unfinished jobs and files of other kinds are refused or counted, never read in part."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather, orc

from bucketwheel import api
from bucketwheel.errors import BucketwheelError, SnapshotError, UnreadableFilesError
from bucketwheel.kernel.footers import reason
from bucketwheel.runs.manifest import DiscoverResult
from bucketwheel.settings import StorageSettings
from bucketwheel.stages.table_formats import refuse_table_above
from bucketwheel.storage import Entry, Storage

SNAPSHOT = "snapshot_dt=2026-01-31"
UUID = "0190f4c2-6b1e-7c55-8f7e-0a1b2c3d4e5f"


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A snapshot of one file with 10 rows."""
    directory = tmp_path / "table" / SNAPSHOT
    directory.mkdir(parents=True)
    write(directory / "part-0.parquet")
    return directory


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": range(10), "value": range(10)}), path)


def put(path: Path, content: str | bytes = "{}") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def configuration(source: Path, **settings: object) -> api.Configuration:
    target = {"target": str(source.parent / "out"), "catalog.path": str(source.parent / "c.duckdb")}
    return api.load("local", None, {**target, "datasets.x": {"source": str(source), "key": "id", **settings}}, {})


def discover(source: Path, **settings: object) -> DiscoverResult:
    return api.plan(configuration(source, **settings), "x").discover


def refusal(source: Path, **settings: object) -> str:
    with pytest.raises(BucketwheelError) as refused:
        discover(source, **settings)
    assert refused.value.exit_code == 3
    return str(refused.value)


TABLES = {
    "_delta_log/_last_checkpoint": "Delta",
    ".hoodie/hoodie.properties": "Hudi",
    "metadata/00000-a.gz.metadata.json": "Iceberg",
    "metadata/v2.metadata.json.gz": "Iceberg",
    "base_0000005/000000_0": "Hive with transactions",
    "delta_0000006_0000006_0000/000000_0": "Hive with transactions",
    "delete_delta_0000007_0000007/bucket_00000": "Hive with transactions",
    "delta_0000001_0000001_v0000042/000000_0": "Hive with transactions",
    "schema/schema-0": "Paimon",
}
INSIDE = {
    "below/_delta_log/00000000000000000000.json": "Delta",
    "region=EU/.hoodie_partition_metadata": "Hudi",
    f"ducklake-{UUID}-delete.parquet": "DuckLake",
}


@pytest.mark.parametrize(
    ("name", "table", "above"),
    [*((name, table, above) for name, table in TABLES.items() for above in (False, True)),
     *((name, table, False) for name, table in INSIDE.items())],
)  # fmt: skip
def test_table_of_other_format_is_refused(snapshot: Path, name: str, table: str, above: bool) -> None:
    put((snapshot.parent if above else snapshot) / name)
    text = refusal(snapshot.parent)
    assert f"is a table of {table} (" in text
    assert "Write the version to read as plain Parquet files into a directory of its own" in text


def test_snapshot_named_base_and_date_is_no_table_of_hive(tmp_path: Path) -> None:
    write(tmp_path / "people" / "base_20260131" / "part-0.parquet")
    found = discover(tmp_path / "people", partition="base_YYYYMMDD")
    assert found.snapshot_dt == "2026-01-31"


@pytest.mark.parametrize("name", ["_delta_log/0.json", ".hoodie/hoodie.properties"])
def test_partition_of_other_table_as_source_is_refused(tmp_path: Path, name: str) -> None:
    source = tmp_path / "table" / "region=EU" / "kind=a"
    write(source / SNAPSHOT / "part-0.parquet")
    put(tmp_path / "table" / name)
    assert f"{tmp_path}/table: is a table of " in refusal(source)


@pytest.mark.parametrize("source", ["data", "data/region=EU"])
def test_data_of_iceberg_table_as_source_is_refused(tmp_path: Path, source: str) -> None:
    write(tmp_path / "table" / source / SNAPSHOT / "part-0.parquet")
    put(tmp_path / "table" / "metadata" / "v1.metadata.json")
    assert f"{tmp_path}/table: is a table of Iceberg" in refusal(tmp_path / "table" / source)


@pytest.mark.parametrize("source", ["/data", "s3://data", "s3://a=b", "/a=b", "data"])
def test_roots_and_buckets_have_no_directory_above(source: str) -> None:
    class NoStorage(Storage):
        def list(self, location: str, recursive: bool = False) -> list[Entry]:
            raise AssertionError(location)

        def exists(self, location: str) -> bool:
            raise AssertionError(location)

    refuse_table_above(NoStorage(StorageSettings()), source)


def test_parquet_file_among_many_others_is_found(snapshot: Path) -> None:
    for number in range(120):
        put(snapshot / f"{number:03d}.log", "x")
    (snapshot / "part-0.parquet").rename(snapshot / "zzz")
    write(snapshot / "part-0.parquet")
    assert "Parquet only by their content: zzz; " in refusal(snapshot.parent)


@pytest.mark.parametrize(
    "name",
    [
        ".trash/_delta_log/0.json",
        "_old/metadata/v1.metadata.json",
        "schema/schema-of-people.json",
        "metadata/people.json",
        "base_table/readme.txt",
        "delta_2026/readme.txt",
    ],
)
def test_similar_names_are_no_table(snapshot: Path, name: str) -> None:
    put(snapshot / name)
    found = discover(snapshot.parent)
    assert (found.rows, sum(part.files for part in found.ignored)) == (10, 1)


@pytest.mark.parametrize("work", ["_temporary/0/_temporary/a/part-1.parquet", "region=EU/_temporary/0/b"])
def test_snapshot_with_unfinished_job_is_refused(snapshot: Path, work: str) -> None:
    put(snapshot / work)
    text = refusal(snapshot.parent)
    assert "a job that writes the snapshot has not finished" in text
    assert f"delete {snapshot}/{work[: work.index('_temporary')]}_temporary" in text


@pytest.mark.parametrize(("marker", "setting"), [("_SUCCESS", None), ("region=EU/_SUCCESS", None), ("done", "done")])
def test_work_of_finished_job_is_counted(snapshot: Path, marker: str, setting: str | None) -> None:
    put(snapshot / "region=EU" / "_temporary" / "0" / "part-1.parquet")
    put(snapshot / marker, "")
    found = discover(snapshot.parent, complete_marker=setting)
    assert found.rows == 10
    assert [part.names for part in found.ignored if "hidden" in part.reason] == [("part-1.parquet",)]


@pytest.mark.parametrize("name", ["_temporary_$folder$", "_temporary/0/"])
def test_empty_directory_of_work_is_no_job(snapshot: Path, name: str) -> None:
    (snapshot / name).mkdir(parents=True) if name.endswith("/") else put(snapshot / name, "")
    assert discover(snapshot.parent).rows == 10


def test_uncommitted_file_of_databricks_is_refused(snapshot: Path) -> None:
    put(snapshot / "_started_77")
    assert discover(snapshot.parent).rows == 10
    write(snapshot / "part-00000-tid-77-a-c000.snappy.parquet")
    assert "transaction 77, which has no file _committed_77" in refusal(snapshot.parent)
    put(snapshot / "_committed_77", '{"added": ["part-00000-tid-77-a-c000.snappy.parquet"], "removed": []}')
    assert discover(snapshot.parent).rows == 20


@pytest.mark.parametrize("content", ['{"removed": ["part-1-tid-1-a.parquet"]}', "no JSON", "[]"])
def test_file_removed_by_databricks_is_refused(snapshot: Path, content: str) -> None:
    write(snapshot / "part-1-tid-1-a.parquet")
    put(snapshot / "_committed_2", content)
    if "removed" not in content:
        assert discover(snapshot.parent).rows == 20
    else:
        assert "a Databricks job removed 1 file such as part-1-tid-1-a.parquet" in refusal(snapshot.parent)


def test_snapshot_of_spark_stream_has_a_warning(snapshot: Path) -> None:
    put(snapshot / "_spark_metadata" / "0")
    (warning,) = discover(snapshot.parent).warnings
    assert "was written by a Spark stream; files of failed batches" in warning


@pytest.mark.parametrize(
    ("problem", "cause"),
    [
        ("TProtocolException: Exceeded size limit", "a text in its footer is longer than 100 MB"),
        (
            "Couldn't deserialize thrift: No more data to read.",
            "its footer is damaged, as by a transfer in text mode",
        ),
    ],
)
def test_problem_of_thrift_is_said_in_words(problem: str, cause: str) -> None:
    assert reason(OSError(problem)).startswith(cause)


def test_side_files_of_other_programs_are_counted(snapshot: Path) -> None:
    for name in ("_metadata", "_common_metadata", ".part-0.parquet.crc", "part-0.parquet.crc", "_committed_1"):
        put(snapshot / name, "x")
    for name in ("_SUCCESS", "region_$folder$", "deep/empty"):
        put(snapshot / name, "")
    found = discover(snapshot.parent)
    assert found.rows == 10
    assert {part.reason: part.files for part in found.ignored} == {
        "checksums": 1,
        "empty": 2,
        "hidden, with names that begin with . or _": 4,
    }


def other(kind: str, path: Path) -> None:
    """Write the file of another program."""
    table = pa.table({"id": range(10)})
    writers: dict[str, Callable[[], None]] = {
        "ORC": lambda: orc.write_table(table, str(path)),
        "Arrow IPC": lambda: feather.write_feather(table, str(path)),
        "Avro": lambda: put(path, b"Obj\x01\x04"),
        "gzip": lambda: put(path, gzip.compress(b"id\n1\n")),
        "JSON": lambda: put(path, json.dumps({"id": 1})),
        "": lambda: put(path, "id,value\n1,2\n"),
    }
    writers[kind]()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.orc", "ORC"), ("a.arrow", "Arrow IPC"), ("a.avro", "Avro"), ("a.csv.gz", "gzip"), ("a", "")],
)
def test_files_of_other_formats_are_counted_by_format(snapshot: Path, name: str, kind: str) -> None:
    other(kind, snapshot / name)
    found = discover(snapshot.parent)
    shown = f"{name} ({kind})" if kind else name
    assert found.warnings == (f"{snapshot}: ignored 1 file: {shown}: not named .parquet",)
    (snapshot / "part-0.parquet").unlink()
    assert f"Bucketwheel reads Parquet files only; there are others: {shown}" in refusal(snapshot.parent)


@pytest.mark.parametrize("name", ["part-1.parquet.gz", "part-1.PARQ.gzip"])
def test_compressed_parquet_file_is_refused(snapshot: Path, name: str) -> None:
    put(snapshot / name, gzip.compress((snapshot / "part-0.parquet").read_bytes()))
    assert f"compressed as a whole: {name}; decompress them" in refusal(snapshot.parent)
    (snapshot / "part-0.parquet").unlink()
    assert f"there are others: {name} (gzip)" in refusal(snapshot.parent)
    assert "compressed with gzip as a whole; decompress it" in refusal(snapshot.parent, files="all")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty (0 bytes)"),
        (b"PAR1" + b"x" * 100, "it begins as a Parquet file, but does not end as one"),
        (gzip.compress(b"PAR1"), "it is compressed with gzip as a whole"),
        (bytes(100), "it begins with zeros"),
        (b"id,value\n1,2\n", "it is no Parquet file, but plain text"),
        (b"ORC\x00\x01", "it is no Parquet file, but ORC"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is no Parquet file, but a pointer of Git LFS"),
        (b"\x00\xff\x80abc", "it is no Parquet file: it neither begins nor ends as one"),
    ],
    ids=["empty", "truncated", "gzip", "zeros", "text", "ORC", "Git LFS", "binary"],
)
def test_file_that_is_no_parquet_file_says_what_it_is(snapshot: Path, content: bytes, problem: str) -> None:
    put(snapshot / "part-1.parquet", content)
    with pytest.raises(UnreadableFilesError) as refused:
        discover(snapshot.parent)
    assert f"{snapshot}/part-1.parquet: {problem}" in str(refused.value)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (
            lambda content: content[100:],
            "it does not begin as a Parquet file, so its beginning was lost or changed: ",
        ),
        (lambda content: content + b"\n", "it begins as a Parquet file, but does not end as one"),
        (lambda content: content[:-50], "it begins as a Parquet file, but does not end as one"),
        (lambda content: content[:50] + content[150:], "uncompressed) from byte "),
        (lambda content: content.decode("utf-8", "replace").encode(), "its footer is damaged, as by a transfer in "),
    ],
    ids=["no beginning", "new line", "no end", "hole", "decoded"],
)
def test_damaged_file_says_what_happened_to_it(
    snapshot: Path, damage: Callable[[bytes], bytes], problem: str
) -> None:
    table = pa.table({"id": range(60), "value": range(60)})
    pq.write_table(table, snapshot / "part-1.parquet", use_dictionary=False)
    content = (snapshot / "part-1.parquet").read_bytes()
    put(snapshot / "part-1.parquet", damage(content))
    assert problem in refusal(snapshot.parent)


def test_file_with_bytes_before_it_is_refused(snapshot: Path) -> None:
    content = (snapshot / "part-0.parquet").read_bytes()
    put(snapshot / "part-0.parquet", b"\xef\xbb\xbf" + content)
    with pytest.raises(UnreadableFilesError, match=r"part-0\.parquet: it does not begin as a Parquet file"):
        api.run(configuration(snapshot.parent), "x")


def test_snapshot_that_became_a_table_is_refused_on_resume(snapshot: Path) -> None:
    config = configuration(snapshot.parent)
    run = api.run(config, "x", stages=["discover", "split", "size", "bucket"])
    put(snapshot / "_delta_log" / "0.json")
    with pytest.raises(SnapshotError, match="is a table of Delta"):
        api.run(config, "x", resume=run.manifest.run_id)
