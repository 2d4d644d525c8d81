"""Iceberg's own REST catalog, which accepts commits: the rules of catalogs, months, conflicts and lost responses."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import requests
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from requests.adapters import HTTPAdapter

from bucketwheel.catalogs.iceberg import IcebergCatalog
from bucketwheel.contracts.catalog import same_definition
from bucketwheel.errors import CatalogError, ConcurrentPublishError
from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.rollback import rollback
from bucketwheel.testing.catalog import AddForeign, CatalogContract
from contracts.iceberg_support import FillingCatalog, run_of, settings_in
from runs_support import DATASET, FEBRUARY, JANUARY, Case

pytestmark = pytest.mark.slow

OCTOBER: Any = {"id": ("string", ["a", "b", None]), "age": ("int", [1, 2, 3])}
NOVEMBER: Any = {"id": ("string", ["c"]), "city": ("string", ["x"]), "age": ("bigint", [7])}
LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def namespace() -> str:
    return f"db_{uuid.uuid4().hex}"


@pytest.fixture
def catalog(rest: str, namespace: str, tmp_path: Path) -> FillingCatalog:
    """A catalog without tables."""
    return FillingCatalog(settings_in(tmp_path, catalog="rest", uri=rest, namespace=namespace))


@pytest.fixture
def client(rest: str) -> RestCatalog:
    """The catalog as another program uses it."""
    return RestCatalog("other", uri=rest)


class TestRestCatalog(CatalogContract):
    @pytest.fixture(params=["empty", "filled"])
    def add_foreign(self, request: pytest.FixtureRequest, client: RestCatalog, namespace: str) -> AddForeign:
        def add(name: str) -> None:
            client.create_namespace_if_not_exists(namespace)
            table = client.create_table((namespace, name), schema=pa.schema([("answer", pa.int64())]))
            if request.param == "filled":
                table.append(pa.table({"answer": [42]}))

        return add


def read(client: RestCatalog, namespace: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.load_table((namespace, "t")).scan().to_arrow().to_pylist()
    return rows


def test_columns_and_buckets_change_and_return(
    catalog: IcebergCatalog, client: RestCatalog, namespace: str, tmp_path: Path
) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    changed = run_of(
        tmp_path, "t", "run2", NOVEMBER, buckets=4, ids={"id": 1, "age": 2, "city": 3}, month="2026-11-30"
    )
    second = catalog.put(changed, first)
    assert (second.columns, second.bucket_count) == (changed.columns, 4)
    assert read(client, namespace) == [{"id": "c", "city": "x", "age": 7}]
    again = replace(first, parameters={**first.parameters, "bucketwheel.publication": "2"}, native={})
    back = catalog.put(again, second)
    assert same_definition(back, again)
    assert [row["age"] for row in read(client, namespace)] == [1, 2, 3]
    table = client.load_table((namespace, "t"))
    assert (len(table.snapshots()), table.spec().fields[0].name) == (2, "id_bucket_2")
    catalog.forget(["run2"], LATER)
    table.refresh()
    assert (len(table.snapshots()), set(table.refs())) == (1, {"main", "2026-10-31"})
    assert len(read(client, namespace)) == 3


def test_commit_of_another_program_meanwhile_is_a_conflict(
    catalog: IcebergCatalog, client: RestCatalog, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    commit = catalog._catalog.commit_table

    def interfere(*arguments: Any) -> Any:
        monkeypatch.undo()
        client.load_table((namespace, "t")).delete("age > 0")
        return commit(*arguments)

    monkeypatch.setattr(catalog._catalog, "commit_table", interfere)
    with pytest.raises(ConcurrentPublishError, match="another process published it"):
        catalog.put(run_of(tmp_path, "t", "run2", OCTOBER), first)
    assert read(client, namespace) == []
    # The files of the commit that was refused are gone.
    named = {manifest.manifest_path for manifest in _manifests(client.load_table((namespace, "t")))}
    left = {str(path) for path in (tmp_path / "t/metadata").glob("*-m*.avro")}
    assert left <= {path.removeprefix("file://") for path in named}


def _manifests(table: Table) -> list[Any]:
    return [manifest for snapshot in table.snapshots() for manifest in snapshot.manifests(table.io)]


def test_property_of_another_program_meanwhile_stays(
    catalog: IcebergCatalog, client: RestCatalog, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    commit = catalog._catalog.commit_table

    def interfere(*arguments: Any) -> Any:
        monkeypatch.undo()
        with client.load_table((namespace, "t")).transaction() as change:
            change.set_properties(owner="somebody")
        return commit(*arguments)

    monkeypatch.setattr(catalog._catalog, "commit_table", interfere)
    catalog.put(run_of(tmp_path, "t", "run2", OCTOBER), first)
    assert client.load_table((namespace, "t")).properties["owner"] == "somebody"


@pytest.mark.parametrize("made", [True, False])
def test_lost_response_is_resolved_by_the_table(catalog: IcebergCatalog, tmp_path: Path, made: bool) -> None:
    class Losing(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
            if request.method != "POST":
                return super().send(request, *arguments, **options)
            if made:
                super().send(request, *arguments, **options)
            raise requests.ConnectionError("gone")

    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    client: Any = catalog._catalog
    client._session.mount("http://", Losing())
    table = run_of(tmp_path, "t", "run2", OCTOBER)
    if made:
        assert same_definition(catalog.put(table, first), table)
        return
    with pytest.raises(CatalogError, match=r"the catalog cannot be reached \(gone\); check iceberg.uri"):
        catalog.put(table, first)
    assert catalog.get("t") == first


def test_table_whose_metadata_file_is_missing_is_made_again(
    catalog: IcebergCatalog, client: RestCatalog, namespace: str, tmp_path: Path
) -> None:
    first = catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    Path(first.version or "").unlink()
    (table,) = catalog.tables()
    assert (table.name, table.run_id) == ("t", None)
    catalog.put(run_of(tmp_path, "t", "run2", OCTOBER), table)
    assert len(read(client, namespace)) == 3


def test_namespace_with_dots_is_a_namespace_in_another(
    rest: str, client: RestCatalog, namespace: str, tmp_path: Path
) -> None:
    catalog = IcebergCatalog(settings_in(tmp_path, catalog="rest", uri=rest, namespace=f"{namespace}.people"))
    catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    assert [table.name for table in catalog.tables()] == ["t"]
    assert client.list_tables((namespace, "people")) == [(namespace, "people", "t")]


def test_missing_namespace_is_an_error_unless_it_may_be_created(
    rest: str, client: RestCatalog, namespace: str, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path, catalog="rest", uri=rest, namespace=namespace)
    given = settings.catalog.model_copy(update={"create_database": False})
    catalog = IcebergCatalog(settings.model_copy(update={"catalog": given}))
    with pytest.raises(CatalogError, match=f"namespace '{namespace}' does not exist in the rest catalog; create it"):
        catalog.put(run_of(tmp_path, "t", "run1", OCTOBER), None)
    client.create_namespace(namespace)
    catalog.put(run_of(tmp_path, "t", "run2", OCTOBER), None)


def test_months_rollback_and_expiry(rest: str, client: RestCatalog, namespace: str, tmp_path: Path) -> None:
    case = Case(
        tmp_path,
        rows=60,
        changes={
            "buckets__hash": "iceberg",
            "catalog__kind": "iceberg",
            "iceberg__catalog": "rest",
            "iceberg__uri": rest,
            "iceberg__namespace": namespace,
        },
    )

    def loaded(number: int = 1) -> Table:
        return client.load_table((namespace, f"bucketed_{DATASET}_{number}"))

    def months() -> list[set[str]]:
        shown = []
        for number, name in enumerate(case.names(), 1):
            rows = loaded(number).scan().to_arrow()
            assert rows.num_rows == case.rows
            shown.append(set(rows.column(f"{name}_mark").to_pylist()))
        return shown

    case.snapshot(JANUARY)
    case.run()
    assert months() == [{JANUARY}, {JANUARY}]
    case.snapshot(FEBRUARY)
    case.run(buckets__count=2)
    assert months() == [{FEBRUARY}, {FEBRUARY}]
    january = case.manifests()[0].run_id
    rollback(case.settings(), january)
    assert months() == [{JANUARY}, {JANUARY}]
    assert (len(loaded().snapshots()), set(loaded().refs())) == (2, {"main", JANUARY, FEBRUARY})
    case.run(snapshot_dt=FEBRUARY, force=True, buckets__count=8)
    assert len(expire(case.settings(), 1)) == 2
    assert months() == [{FEBRUARY}, {FEBRUARY}]
    assert (len(loaded().snapshots()), set(loaded().refs())) == (1, {"main", FEBRUARY})
