"""What Iceberg catalogs do beyond the rules of all catalogs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from iceberg_support import connected, field_ids, run_of, settings_in
from pyiceberg.catalog import Catalog as Client
from pyiceberg.exceptions import CommitStateUnknownException
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from bucketwheel.catalogs.iceberg import IcebergCatalog
from bucketwheel.catalogs.iceberg_schema import changed_columns
from bucketwheel.contracts import CatalogTable, HistoryCatalog
from bucketwheel.contracts.catalog import same_definition
from bucketwheel.errors import CatalogError, ConcurrentPublishError
from bucketwheel.storage import Storage

OCTOBER: Any = {"id": ("string", ["a", "b", None]), "age": ("int", [1, 2, 3])}
LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def catalog(tmp_path: Path) -> IcebergCatalog:
    return IcebergCatalog(settings_in(tmp_path))


def read(target: Path, name: str = "t", **scan: Any) -> list[dict[str, Any]]:
    with connected(target) as client:
        rows: list[dict[str, Any]] = client.load_table(("db", name)).scan(**scan).to_arrow().to_pylist()
        return rows


def loaded(client: Client, name: str = "t") -> Table:
    return client.load_table(("db", name))


def two_months(catalog: IcebergCatalog, directory: Path) -> tuple[CatalogTable, CatalogTable]:
    first = catalog.put(run_of(directory, "t", "run1", OCTOBER), None)
    november: Any = {"id": ("string", ["c"]), "age": ("int", [7])}
    return first, catalog.put(run_of(directory, "t", "run2", november, month="2026-11-30"), first)


def test_new_table_has_the_rows_and_records_of_the_files(catalog: IcebergCatalog, tmp_path: Path) -> None:
    catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    assert read(tmp_path) == [{"id": "a", "age": 1}, {"id": "b", "age": 2}, {"id": None, "age": 3}]
    with connected(tmp_path) as client:
        table = loaded(client)
        (manifest,) = table.current_snapshot().manifests(table.io)  # type: ignore[union-attr]
        (entry,) = manifest.fetch_manifest_entry(table.io)
        assert table.metadata.format_version == 2
        assert [(each.source_id, each.transform) for each in table.spec().fields] == [(1, BucketTransform(2))]
        assert str(table.sort_order()) == "[\n  1 ASC NULLS FIRST\n]"
        assert {name: ref.snapshot_ref_type for name, ref in table.refs().items()} == {
            "main": "branch", "2026-10-31": "tag",
        }  # fmt: skip
        summary = table.current_snapshot().summary  # type: ignore[union-attr]
    file = entry.data_file
    assert (entry.status, file.partition[0], file.sort_order_id, file.record_count) == (
        ManifestEntryStatus.ADDED,
        0,
        1,
        3,
    )
    assert (file.null_value_counts[1], file.lower_bounds[1], file.upper_bounds[1]) == (1, b"a", b"b")
    assert summary is not None
    expected = {"bucketwheel.run_id": "run1", "total-records": "3", "added-data-files": "1", "operation": "append"}
    assert {name: str(getattr(summary[name], "value", summary[name])) for name in expected} == expected
    # The bucket of the key prunes the file, and its bounds prune rows.
    assert read(tmp_path, row_filter="id = 'zzz'") == []


def test_next_month_is_one_commit_that_replaces_all_files(catalog: IcebergCatalog, tmp_path: Path) -> None:
    first, second = two_months(catalog, tmp_path)
    assert read(tmp_path) == [{"id": "c", "age": 7}]
    with connected(tmp_path) as client:
        table = loaded(client)
        old, new = table.snapshots()
        assert (old.parent_snapshot_id, new.parent_snapshot_id) == (None, old.snapshot_id)
        assert new.summary is not None
        counts = {name: new.summary[name] for name in ("added-records", "deleted-records", "total-records")}
        assert counts == {"added-records": "1", "deleted-records": "3", "total-records": "1"}
        assert table.refs()["2026-10-31"].snapshot_id == old.snapshot_id
        assert len(table.metadata.metadata_log) == 1
    assert read(tmp_path, snapshot_id=old.snapshot_id) == [
        {"id": "a", "age": 1}, {"id": "b", "age": 2}, {"id": None, "age": 3},
    ]  # fmt: skip
    assert first.location != second.location


def test_rollback_returns_to_the_snapshot_of_the_run(catalog: IcebergCatalog, tmp_path: Path) -> None:
    first, second = two_months(catalog, tmp_path)
    # Each publication has another id.
    again = replace(first, parameters={**first.parameters, "bucketwheel.publication": "2"}, native={})
    back = catalog.put(again, second)
    assert same_definition(back, again)
    assert len(read(tmp_path)) == 3
    with connected(tmp_path) as client:
        assert len(loaded(client).snapshots()) == 2
        assert loaded(client).properties["comment"] == "of run1"
    forward = catalog.put(replace(second, native={}), back)
    assert same_definition(forward, second)
    assert "bucketwheel.publication" not in forward.parameters


def test_removed_snapshot_is_published_again_from_the_files(catalog: IcebergCatalog, tmp_path: Path) -> None:
    first, _ = two_months(catalog, tmp_path)
    catalog.forget(["run1"], LATER)
    second = catalog.get("t")
    with pytest.raises(CatalogError, match="no longer has a snapshot of run run1; publish it again"):
        catalog.put(first, second)
    catalog.put(run_of(tmp_path / "x", "t", "run1", OCTOBER), second)
    assert len(read(tmp_path)) == 3


def test_changed_bucket_count_changes_the_spec_in_the_same_commit(catalog: IcebergCatalog, tmp_path: Path) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    second = catalog.put(run_of(tmp_path, "t", "run2", OCTOBER, buckets=4), first)
    assert (first.bucket_count, second.bucket_count) == (2, 4)
    history = catalog.history("t", schema_of(id=StringType()))
    assert history is not None
    assert history.bucket_counts == (2, 4)
    # These partitions are of another column than the first one, the key.
    history = catalog.history("t", schema_of(age=LongType(), id=StringType()))
    assert history is not None
    assert history.bucket_counts == (-1, -1)
    # A key of another type becomes another column.
    history = catalog.history("t", schema_of(id=LongType()))
    assert history
    assert history.bucket_counts == (-1, -1)
    with connected(tmp_path) as client:
        names = {spec_id: spec.fields[0].name for spec_id, spec in loaded(client).specs().items()}
        assert names == {0: "id_bucket_2", 1: "id_bucket_4"}
        assert len(loaded(client).metadata.metadata_log) == 1
    assert catalog.put(replace(first, native={}), second).bucket_count == 2
    assert len(read(tmp_path)) == 3


def test_columns_are_added_removed_and_moved_by_name(catalog: IcebergCatalog, tmp_path: Path) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    assert field_ids(catalog, "T") == {"id": 1, "age": 2}
    columns: Any = {"id": ("string", ["a"]), "city": ("string", ["x"]), "age": ("bigint", [5])}
    second = catalog.put(run_of(tmp_path, "t", "run2", columns, ids={"id": 1, "age": 2, "city": 3}), first)
    assert second.columns == (("id", "string"), ("city", "string"), ("age", "bigint"))
    third = catalog.put(run_of(tmp_path, "t", "run3", {"id": ("string", ["b"])}), second)
    assert third.columns == (("id", "string"),)
    assert field_ids(catalog, "t") == {"id": 1, "age": 2, "city": 3}
    assert read(tmp_path) == [{"id": "b"}]
    assert catalog.put(replace(first, native={}), third).columns == first.columns
    assert field_ids(catalog, "other") is None


@pytest.mark.parametrize(
    ("columns", "ids", "message"),
    [
        (
            {"id": ("string", ["a"]), "age": ("string", ["x"])},
            None,
            "t: column 'age' has type string, and had int in",
        ),
        ({"id": ("string", ["a"]), "city": ("string", ["x"])}, None, "field id 2 for column 'city', .* has 'age'"),
        ({"id": ("string", ["a"]), "age": ("int", [1])}, {"id": 1, "age": 3}, "field id 3 for column 'age', .* id 2"),
    ],
)
def test_incompatible_columns_are_refused_and_leave_no_file(
    catalog: IcebergCatalog, tmp_path: Path, columns: Any, ids: Any, message: str
) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    before = sorted((tmp_path / "t/metadata").iterdir())
    with pytest.raises(CatalogError, match=message):
        catalog.put(run_of(tmp_path, "t", "run2", columns, ids=ids), first)
    assert catalog.get("t") == first
    assert sorted((tmp_path / "t/metadata").iterdir()) == before


def schema_of(**columns: Any) -> str:
    """Return an Iceberg schema, in JSON, of columns with these types."""
    fields = [NestedField(n, name, kind, required=False) for n, (name, kind) in enumerate(columns.items(), 1)]
    return Schema(*fields).model_dump_json()


def changed_by(catalog: IcebergCatalog, name: str, schema: str) -> Mapping[str, tuple[str, str, str]]:
    """Return the columns of a schema that cannot be those of a table."""
    history = catalog.history(name, schema)
    assert history is not None
    return history.changed_columns


def test_column_of_another_type_becomes_another_field(catalog: IcebergCatalog, tmp_path: Path) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    assert changed_by(catalog, "T", schema_of(id=StringType(), age=LongType(), city=StringType())) == {}
    changed = changed_by(catalog, "t", schema_of(id=StringType(), age=StringType()))
    assert changed == {"age": ("age", "int", "string")}
    columns: Any = {"id": ("string", ["a"]), "age": ("string", ["old"])}
    table = run_of(tmp_path, "t", "run2", columns, ids={"id": 1, "age": 3}, month="2026-11-30")
    catalog.check_change(table)
    second = catalog.put(table, first)
    assert (read(tmp_path), field_ids(catalog, "t")) == ([{"id": "a", "age": "old"}], {"id": 1, "age": 3})
    assert changed_by(catalog, "t", schema_of(id=StringType(), age=StringType())) == {}
    with connected(tmp_path) as client:
        october = loaded(client).refs()["2026-10-31"].snapshot_id
    assert [row["age"] for row in read(tmp_path, snapshot_id=october)] == [1, 2, 3]
    # After a rollback, the column of the shown table counts, not that of the newest schema.
    back = catalog.put(replace(first, native={}), second)
    assert (len(read(tmp_path)), field_ids(catalog, "t")) == (3, {"id": 1, "age": 2})
    assert back.columns == first.columns


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        (LongType(), IntegerType(), ("n", "long", "int")),
        (DoubleType(), FloatType(), ("n", "double", "float")),
        (DecimalType(9, 2), DecimalType(7, 2), ("n", "decimal(9, 2)", "decimal(7, 2)")),
        (DecimalType(9, 2), DecimalType(12, 3), ("n", "decimal(9, 2)", "decimal(12, 3)")),
        (TimestampType(), TimestamptzType(), ("n", "timestamp", "timestamptz")),
        (ListType(9, LongType(), False), ListType(9, IntegerType(), False), ("n.element", "long", "int")),
        (StringType(), ListType(9, StringType(), False), ("n", "string", "list")),
        (IntegerType(), LongType(), None),
        (FloatType(), DoubleType(), None),
        (DecimalType(7, 2), DecimalType(9, 2), None),
    ],
)
def test_types_follow_each_other_as_iceberg_says(
    before: IcebergType, now: IcebergType, text: tuple[str, str, str] | None
) -> None:
    old, new = (Schema(NestedField(1, "n", kind, required=False)) for kind in (before, now))
    assert changed_columns([new, old], new) == ({"n": text} if text else {})


def test_two_tables_in_one_directory_keep_each_others_metadata(catalog: IcebergCatalog, tmp_path: Path) -> None:
    """A layout with a new prefix makes its tables in the directories of the old ones."""
    first = run_of(tmp_path, "t", "run1", OCTOBER)
    old = catalog.put(first, None)
    catalog.put(replace(first, name="new_t"), None)
    catalog.put(run_of(tmp_path, "t", "run2", OCTOBER), old)
    lost = tmp_path / "t/metadata/lost-m0.avro"
    lost.touch()
    assert catalog.forget(["run1"], LATER)
    assert not lost.exists()
    assert (len(read(tmp_path)), len(read(tmp_path, "new_t"))) == (3, 3)


def test_forget_removes_snapshots_tags_and_unneeded_files(catalog: IcebergCatalog, tmp_path: Path) -> None:
    assert isinstance(catalog, HistoryCatalog)
    two_months(catalog, tmp_path)
    (tmp_path / "t/metadata/0-orphan-m0.avro").touch()
    (tmp_path / "t/metadata/notes.txt").touch()
    assert catalog.forget([], LATER - timedelta(days=2)) == []
    deleted = catalog.forget(["run1", "run2"], LATER)
    # A manifest, a manifest list and the orphan; run2 is live.
    assert len(deleted) == 3
    with connected(tmp_path) as client:
        assert set(loaded(client).refs()) == {"main", "2026-11-30"}
        assert len(loaded(client).snapshots()) == 1
    assert read(tmp_path) == [{"id": "c", "age": 7}]
    assert (tmp_path / "t/metadata/notes.txt").exists()
    assert (tmp_path / "t/run1").is_dir()


@pytest.mark.parametrize("scheme", ["", "file:"])
def test_current_metadata_stays_however_the_catalog_names_it(
    catalog: IcebergCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """REST catalogs may hide its name, or write the scheme in their own way."""
    two_months(catalog, tmp_path)
    lost = tmp_path / "t/metadata/lost-m0.avro"
    lost.touch()
    table = catalog._catalog.load_table(("db", "t"))
    table.metadata_location = scheme and f"{scheme}{table.metadata_location}"
    monkeypatch.setattr(catalog._catalog, "load_table", lambda _: table)
    assert catalog.forget([], LATER) == [str(lost)]
    monkeypatch.undo()
    assert read(tmp_path) == [{"id": "c", "age": 7}]


def test_kill_at_any_file_leaves_the_old_table_or_the_new_one(
    catalog: IcebergCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    replacing = Storage.replace
    for call in range(1, 9):
        calls = 0

        def write(self: Storage, *arguments: Any, last: int = call) -> str:
            nonlocal calls
            calls += 1
            if calls == last:
                raise SystemExit
            return replacing(self, *arguments)

        monkeypatch.setattr(Storage, "replace", write)
        monkeypatch.setattr(Storage, "delete", lambda *_: None)
        try:
            catalog.put(run_of(tmp_path, "t", f"run{call}x", OCTOBER), first)
        except SystemExit:
            assert catalog.get("t") == first
            continue
        finally:
            monkeypatch.undo()
        break
    # Two manifests, the manifest list, and the metadata.
    assert call == 5
    assert len(read(tmp_path)) == 3
    left = [path for path in tmp_path.rglob("metadata/*") if path.is_file()]
    catalog.forget([], LATER)
    kept = [path for path in tmp_path.rglob("metadata/*") if path.is_file()]
    assert len(kept) < len(left)
    assert len(read(tmp_path)) == 3


@pytest.mark.parametrize("made", [True, False])
def test_lost_response_is_resolved_by_the_table(
    catalog: IcebergCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    client, table = catalog._catalog, run_of(tmp_path, "t", "run2", OCTOBER)
    commit = client.commit_table

    def lose(*arguments: Any) -> None:
        if made:
            commit(*arguments)
        raise CommitStateUnknownException("gone")

    monkeypatch.setattr(client, "commit_table", lose)
    if made:
        assert same_definition(catalog.put(table, first), table)
        return
    with pytest.raises(CatalogError, match=r"the catalog failed \(gone\); run again when it works"):
        catalog.put(table, first)
    assert catalog.get("t") == first


def test_change_by_another_program_meanwhile_is_a_conflict(
    catalog: IcebergCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    client = catalog._catalog
    commit = client.commit_table

    def interfere(*arguments: Any) -> Any:
        monkeypatch.undo()
        with connected(tmp_path) as other, loaded(other).transaction() as change:
            change.set_properties(owner="somebody")
        return commit(*arguments)

    monkeypatch.setattr(client, "commit_table", interfere)
    before = set((tmp_path / "t/metadata").glob("*.avro"))
    with pytest.raises(ConcurrentPublishError, match="another process published it"):
        catalog.put(run_of(tmp_path, "t", "run2", OCTOBER), first)
    assert set((tmp_path / "t/metadata").glob("*.avro")) == before
    now = catalog.get("t")
    assert now is not None
    # The property is somebody's, and stays.
    catalog.put(run_of(tmp_path / "x", "t", "run3", OCTOBER), now)
    with connected(tmp_path) as other:
        assert loaded(other).properties["owner"] == "somebody"


def test_table_that_another_program_wrote_to_is_not_ours(catalog: IcebergCatalog, tmp_path: Path) -> None:
    catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    with connected(tmp_path) as client:
        loaded(client).delete("age > 0")
    table = catalog.get("t")
    assert table is not None
    assert table.run_id is None


def test_branch_with_the_name_of_the_tag_is_refused(catalog: IcebergCatalog, tmp_path: Path) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    with connected(tmp_path) as client:
        table = loaded(client)
        table.manage_snapshots().create_branch(table.metadata.current_snapshot_id or 0, "2026-11-30").commit()
    now = catalog.get("t")
    november = run_of(tmp_path, "t", "run2", OCTOBER, month="2026-11-30")
    with pytest.raises(CatalogError, match="a branch of the Iceberg table is called '2026-11-30'"):
        catalog.check_change(november)
    with pytest.raises(CatalogError, match="a branch of the Iceberg table is called '2026-11-30'"):
        catalog.put(november, now)
    assert first.run_id == "run1"


def test_other_format_version_is_refused(catalog: IcebergCatalog, tmp_path: Path) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    path = Path(first.version or "")
    path.write_text(path.read_text().replace('"format-version":2', '"format-version":3,"next-row-id":0'))
    table = run_of(tmp_path, "t", "run2", OCTOBER)
    with pytest.raises(CatalogError, match="has format version 3; Bucketwheel writes version 2"):
        catalog.check_change(table)
    with pytest.raises(CatalogError, match="has format version 3; Bucketwheel writes version 2"):
        catalog.put(table, catalog.get("t"))


@pytest.mark.parametrize("damage", ["delete", "truncate"])
def test_table_without_readable_metadata_is_made_again(catalog: IcebergCatalog, tmp_path: Path, damage: str) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    path = Path(first.version or "")
    path.unlink() if damage == "delete" else path.write_text('{"format-')
    (table,) = catalog.tables()
    assert (table.name, table.run_id) == ("t", None)
    catalog.put(run_of(tmp_path, "t", "run2", OCTOBER), table)
    assert len(read(tmp_path)) == 3


def test_location_outside_the_target_is_refused(catalog: IcebergCatalog, tmp_path: Path) -> None:
    outside = IcebergCatalog(settings_in(tmp_path / "target"))
    with pytest.raises(CatalogError, match="is outside the target"):
        outside.put(run_of(tmp_path, "t", "run1", OCTOBER), None)


def test_missing_namespace_is_an_error_unless_it_may_be_created(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    given = settings.catalog.model_copy(update={"create_database": False})
    catalog = IcebergCatalog(settings.model_copy(update={"catalog": given}))
    with pytest.raises(CatalogError, match="namespace 'db' does not exist in the sql catalog; create it, correct"):
        catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    with connected(tmp_path) as client:
        client.create_namespace("db")
    catalog.put(run_of(tmp_path, "t", "run2", OCTOBER), None)


def test_reading_does_not_create_the_database(tmp_path: Path) -> None:
    catalog = IcebergCatalog(settings_in(tmp_path / "target"))
    catalog.check()
    assert (catalog.tables(), catalog.get("t"), field_ids(catalog, "t")) == ([], None, None)
    assert list(tmp_path.iterdir()) == []


def test_table_without_rows_has_no_files(catalog: IcebergCatalog, tmp_path: Path) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", {"id": ("string", [])}), None)
    assert read(tmp_path) == []
    catalog.put(run_of(tmp_path, "t", "run2", {"id": ("string", ["a"])}), first)
    assert read(tmp_path) == [{"id": "a"}]
