"""Runs with an Iceberg layout: its files, the records of them, and what it refuses before any work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.catalogs.definitions import definitions
from bucketwheel.catalogs.iceberg import IcebergCatalog
from bucketwheel.catalogs.iceberg_files import IcebergFiles
from bucketwheel.contracts import CatalogTable, DataFile, TableHistory
from bucketwheel.errors import ConfigError, QualityError, SchemaError, StorageError
from bucketwheel.kernel.hashing import key_buckets
from bucketwheel.kernel.iceberg_types import field_ids
from bucketwheel.pipeline.plan import plan
from bucketwheel.pipeline.reverify import verify
from bucketwheel.pipeline.services import RunRequest, make_services
from bucketwheel.runs.manifest import Manifest
from bucketwheel.stages.bucket_job import bucket_job
from bucketwheel.stages.iceberg_checks import existing_tables
from runs_support import DATASET, JANUARY, Case

WRITTEN = ("discover", "split", "size", "bucket", "verify")
LAYOUTS = [{"name": "hive", "hash": "hive_v1"}, {"name": "ice", "hash": "iceberg", "buckets": 3}]
NULLS = {"quality__null_keys": "warn", "iceberg__null_keys": "partition"}
TABLE = f"{DATASET}_1"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    case = Case(tmp_path_factory.mktemp("iceberg"), changes={"layouts": LAYOUTS, **NULLS})
    with_nulls(case, 2)
    case.run(stages=WRITTEN)
    return case


def read(path: Path | str) -> pa.Table:
    """Read one file; `read_table` of pyarrow 17 adds the columns in the path."""
    return pq.ParquetFile(path).read()


def with_nulls(case: Case, nulls: int) -> None:
    """Write a snapshot in which the key of some rows is NULL."""
    path = case.snapshot(JANUARY) / "part-0.parquet"
    content = read(path)
    keys = [None] * nulls + content.column(0).to_pylist()[nulls:]
    pq.write_table(content.set_column(0, content.column_names[0], pa.array(keys, pa.string())), path)


def manifest_of(case: Case) -> Manifest:
    (manifest,) = case.manifests()
    return manifest


def iceberg_tables(case: Case, **changes: Any) -> dict[str, CatalogTable]:
    services = make_services(case.settings(**changes), RunRequest(DATASET), lambda _: None)
    return {table.name: table for table in definitions(manifest_of(case), services, "ctas") if table.iceberg}


def files_of(case: Case) -> list[DataFile]:
    definition = iceberg_tables(case)[f"ice_{TABLE}"].iceberg
    assert definition is not None
    return list(definition.files())


def test_iceberg_layout_has_a_file_for_each_bucket_and_one_for_null(case: Case) -> None:
    files = files_of(case)
    assert [file.bucket for file in files] == [0, 1, 2, None]
    assert sum(file.rows for file in files) == case.rows
    assert files[-1].rows == 2
    for file in files:
        content = read(file.path)
        assert (content.num_rows, Path(file.path).stat().st_size) == (file.rows, file.bytes)
        expected = 3 if file.bucket is None else file.bucket
        assert set(key_buckets(content.column("customer_user_id").chunks[:1], "iceberg", 3)) == {expected}


def test_iceberg_definition_describes_directory_schema_and_key(case: Case) -> None:
    table = iceberg_tables(case)[f"ice_{TABLE}"]
    assert table.iceberg is not None
    directory = case.settings().target + f"/{DATASET}/ice.{TABLE}"
    assert (table.iceberg.location, table.location) == (directory, f"{directory}/{manifest_of(case).run_id}")
    assert (table.iceberg.key_id, table.iceberg.bucket_count, table.iceberg.sorted) == (1, 3, True)
    assert '{"id":1,"name":"customer_user_id","required":false,"type":"string"}' in table.iceberg.schema


def test_metrics_of_data_files_match_their_rows(case: Case) -> None:
    for file in files_of(case):
        values = read(file.path).column(f"{TABLE}_value").to_pylist()
        number = file.metrics.lower_bounds[2], file.metrics.upper_bounds[2]
        assert [int.from_bytes(bound, "little", signed=True) for bound in number] == [min(values), max(values)]
        assert file.metrics.value_counts == {1: file.rows, 2: file.rows, 3: file.rows}
        assert file.metrics.null_counts == {1: 0 if file.bucket is not None else 2, 2: 0, 3: 0}
        assert file.metrics.split_offsets == (4,)


def test_pyiceberg_reads_every_row_and_skips_files_of_other_buckets(case: Case) -> None:
    catalog = IcebergCatalog(case.settings())
    table = iceberg_tables(case)[f"ice_{TABLE}"]
    catalog.put(table, None)
    loaded = catalog._catalog.load_table((catalog.namespace, table.name))
    directory = case.mapping.parent / f"snapshot_dt={JANUARY}"
    columns = ["Customer_User_id", f"{TABLE}_value", f"{TABLE}_mark"]
    source = pa.concat_tables(read(path).select(columns) for path in directory.glob("*.parquet"))

    def rows(content: pa.Table) -> list[Any]:
        return sorted(map(str, zip(*(column.to_pylist() for column in content.columns), strict=True)))

    assert rows(loaded.scan().to_arrow()) == rows(source)

    def planned(condition: str) -> int:
        return len(list(loaded.scan(row_filter=condition).plan_files()))

    key = next(key for key in source.column(0).to_pylist() if key)
    assert planned(f"customer_user_id = '{key}'") == 1
    assert planned("customer_user_id is null") == 1
    assert planned(f"{TABLE}_value > 1000000") == 0
    assert planned(f"{TABLE}_value >= 0") == 4
    catalog.remove(catalog.get(table.name) or table)


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_lost_records_of_data_files_name_the_file(case: Case, damage: str) -> None:
    run = manifest_of(case).run_id
    path = Path(case.store().directory(DATASET, run)) / "data_files.ice.parquet"
    content = path.read_bytes()
    path.unlink()
    try:
        if damage == "truncated":
            path.write_bytes(content[:100])
        with pytest.raises(StorageError, match=r"data_files\.ice\.parquet"):
            files_of(case)
    finally:
        path.write_bytes(content)


def test_records_do_not_depend_on_other_layouts(case: Case, tmp_path: Path) -> None:
    alone = Case(tmp_path, changes={"layouts": LAYOUTS[1:], **NULLS})
    with_nulls(alone, 2)
    alone.run(stages=WRITTEN)
    store = case.store()
    _, both = store.data_files(DATASET, manifest_of(case).run_id, "ice")
    assert alone.store().data_files(DATASET, manifest_of(alone).run_id, "")[1] == both


def test_verify_of_a_finished_run_writes_no_records(case: Case) -> None:
    run_id = manifest_of(case).run_id
    path = Path(case.store().data_files(DATASET, run_id, "ice")[0])
    content = path.read_bytes()
    path.unlink()
    try:
        verify(case.settings(), run_id)
        assert not path.exists()
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        ({}, "buckets.hash is hive_v1"),
        ({"readers": "spark"}, "the hash of layout 'spark' is spark"),
        ({"layouts": LAYOUTS}, "the hash of layout 'hive' is hive_v1"),
    ],
)
def test_iceberg_catalog_refuses_other_layouts(tmp_path: Path, changes: dict[str, Any], source: str) -> None:
    case = Case(tmp_path, changes={"catalog__kind": "iceberg", **changes})
    with pytest.raises(ConfigError, match=f"catalog.kind is iceberg, but {source}; set buckets.hash=iceberg, or"):
        plan(case.settings(), RunRequest(DATASET))


def test_null_keys_of_the_footers_are_refused_before_any_work(tmp_path: Path) -> None:
    case = Case(tmp_path, changes={"layouts": LAYOUTS, "quality__null_keys": "allow"})
    with_nulls(case, 1)
    with pytest.raises(QualityError, match=r"1 row has a NULL key, for which Iceberg has no bucket.*=partition"):
        case.run(stages=WRITTEN)
    assert case.manifests() == []


def test_settings_that_accept_null_keys_are_named_together(tmp_path: Path) -> None:
    case = Case(tmp_path, changes={"layouts": LAYOUTS})
    with_nulls(case, 2)
    with pytest.raises(QualityError) as refused:
        case.run(stages=WRITTEN)
    assert str(refused.value).endswith(
        "accept them with --set iceberg.null_keys=partition\n"
        "and 2 rows have a NULL key; quality.null_keys is error; accept them with --set quality.null_keys=warn"
    )
    with pytest.raises(QualityError, match=r"^2 rows have a NULL key; quality.null_keys is error"):
        case.run(stages=WRITTEN, iceberg__null_keys="partition")
    assert case.manifests() == []
    changes: dict[str, Any] = {name.replace(".", "__"): value for name, value in refused.value.accept.items()}
    assert case.run(stages=WRITTEN, **changes).manifest.verify.null_keys == 2


def test_plan_refuses_null_keys_that_the_footers_count(tmp_path: Path) -> None:
    case = Case(tmp_path)
    with_nulls(case, 2)
    text = "2 rows have a NULL key; quality.null_keys is error; accept them with --set quality.null_keys=warn"
    assert plan(case.settings(), RunRequest(DATASET)).obstacles == (text,)
    several: dict[str, Any] = {"datasets__people__key": ["Customer_User_id", f"{TABLE}_value"]}
    assert plan(case.settings(**several), RunRequest(DATASET)).obstacles == (f"at least {text}",)
    assert plan(case.settings(quality__null_keys="warn"), RunRequest(DATASET)).obstacles == ()
    # Without `verify`, nothing looks at the limits.
    assert plan(case.settings(), RunRequest(DATASET, WRITTEN[:-1])).obstacles == ()
    with pytest.raises(QualityError, match="2 rows have a NULL key; nothing was published"):
        case.run(stages=WRITTEN)


def test_verify_refuses_null_keys_that_no_footer_counts(tmp_path: Path) -> None:
    case = Case(tmp_path, changes={"layouts": LAYOUTS, "quality__null_keys": "allow"})
    with_nulls(case, 1)
    for path in case.mapping.parent.glob("*/*.parquet"):
        pq.write_table(read(path), path, write_statistics=False)
    with pytest.raises(QualityError, match=r"1 row has a NULL key.*null_keys=partition and --resume last"):
        case.run(stages=WRITTEN)
    case.run(stages=WRITTEN, resume="last", iceberg__null_keys="partition")
    assert [file.bucket for file in files_of(case)] == [0, 1, 2, None]


def test_several_key_columns_are_refused_for_iceberg(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.snapshot(JANUARY)
    keys: dict[str, Any] = {"datasets__people__key": ["Customer_User_id", f"{TABLE}_value"]}
    with pytest.raises(ConfigError, match=r"layout 'ice' is iceberg, whose buckets have one key column"):
        case.run(layouts=LAYOUTS, **keys)
    with pytest.raises(ConfigError, match=r"buckets.hash is iceberg.* has 2: Customer_User_id, people_1_value; name"):
        case.run(buckets__hash="iceberg", **keys)
    assert case.manifests() == []


def test_iceberg_layout_without_buckets_accepts_null_keys(tmp_path: Path) -> None:
    plain = {"name": "ice", "hash": "iceberg", "buckets": "none"}
    case = Case(tmp_path, changes={"layouts": [LAYOUTS[0], plain], "quality__null_keys": "allow"})
    with_nulls(case, 5)
    case.run(stages=WRITTEN)
    table = iceberg_tables(case)[f"ice_{TABLE}"].iceberg
    assert table is not None
    assert (table.bucket_count, table.sorted) == (0, False)
    assert sum(file.rows for file in table.files()) == case.rows
    assert {file.bucket for file in table.files()} == {None}


def add_column(case: Case, name: str, values: pa.Array) -> None:
    for path in case.mapping.parent.glob("*/*.parquet"):
        content = read(path)
        pq.write_table(content.append_column(name, pa.concat_arrays([values] * content.num_rows)), path)


def test_boolean_key_is_refused_for_iceberg(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.snapshot(JANUARY)
    add_column(case, "flag", pa.array([True]))
    with pytest.raises(SchemaError, match="key 'flag' has type bool, by which Iceberg has no buckets"):
        case.run(layouts=LAYOUTS, datasets__people__key="flag")


def test_column_type_that_iceberg_lacks_is_refused_before_any_work(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.snapshot(JANUARY)
    add_column(case, "large", pa.array([1], pa.timestamp("ns")))
    case.mapping.write_text(case.mapping.read_text() + f"{TABLE},large\n")
    with pytest.raises(SchemaError, match=r"'large' has type timestamp\[ns\], which Iceberg tables cannot hold"):
        case.run(layouts=LAYOUTS, types__timestamps="keep")
    assert case.manifests() == []


class History:
    """A catalog whose tables have these field ids."""

    def __init__(self, ids: Mapping[str, Mapping[str, int]]) -> None:
        self.ids = ids

    def forget(self, *_: Any) -> list[str]:
        return []

    def history(self, name: str, _schema: str) -> TableHistory | None:
        return TableHistory(self.ids[name], {}, (3,)) if name in self.ids else None

    def check_change(self, table: CatalogTable) -> None:
        raise AssertionError(table.name)


def test_field_ids_of_existing_tables_are_kept(case: Case) -> None:
    manifest = manifest_of(case)
    ids = {"customer_user_id": 1, f"{TABLE}_mark": 2, "dropped": 7}
    catalog = History({f"ice_{TABLE}": ids})
    services: Any = SimpleNamespace(settings=case.settings(), catalog=lambda: catalog)
    schema = manifest.discover.schema()
    existing = existing_tables(services, manifest.split.keys, manifest.split.tables, schema)
    found = existing.field_ids
    assert (found, existing.bucket_counts) == ({f"ice.{TABLE}": ids}, {f"ice.{TABLE}": (3,)})
    split = manifest.stages["split"]
    result = {**split.result, "field_ids": found}
    changed = manifest.with_stage("split", split.model_copy(update={"result": result}))
    job = bucket_job(changed, case.store()).layouts[1]
    schemas = {table.name: pa.ipc.read_schema(pa.py_buffer(table.schema)) for table in job.tables}
    assert field_ids(schemas[TABLE]) == [("customer_user_id", 1), (f"{TABLE}_value", 8), (f"{TABLE}_mark", 2)]
    assert [number for _, number in field_ids(schemas[f"{DATASET}_2"])] == [1, 2, 3]
    layout = changed.size.layouts[1]
    definition = IcebergFiles(changed, case.store(), layout).definition(changed.split.tables[0])
    assert f'{{"id":8,"name":"{TABLE}_value"' in definition.schema


def test_field_ids_are_not_asked_without_an_iceberg_layout(case: Case) -> None:
    settings = case.settings(layouts=[])
    services: Any = SimpleNamespace(settings=settings, catalog=lambda: pytest.fail("asked the catalog"))
    assert existing_tables(services, (), (), pa.schema([])).field_ids == {}
