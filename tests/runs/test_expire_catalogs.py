"""`expire` and runs that several catalogs show: other files, databases and accounts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cloud_support import Cloud

from aws_server import plain_client
from bucketwheel.catalogs.duckdb import DuckdbCatalog
from bucketwheel.errors import CatalogError, SelectionError
from bucketwheel.pipeline.expire import expirable, expire
from bucketwheel.pipeline.rollback import rollback
from bucketwheel.settings import STAGES
from runs_support import DATASET, FEBRUARY, JANUARY, Case, reports, warnings_in


def two_catalogs(case: Case, **other: Any) -> tuple[str, str]:
    """Publish January in another catalog too, then February in the own one; return both runs."""
    case.run(STAGES[:6])
    january = case.run(STAGES[:6], **other).manifest.run_id
    case.snapshot(FEBRUARY)
    return january, case.run(STAGES[:6]).manifest.run_id


def records(case: Case, run_id: str) -> list[Path]:
    return sorted((case.manifest_file(run_id).parent / "catalogs").iterdir())


@pytest.mark.parametrize("other", ["path", "database"])
def test_expire_keeps_run_that_another_catalog_shows(case: Case, other: str) -> None:
    change = {f"catalog__{other}": str(case.root / "other") if other == "path" else "other"}
    january, february = two_catalogs(case, **change)
    seen, report = reports()
    assert expire(case.settings(), keep=1, report=report) == []
    (kept,) = [step.message for step in seen if step.state == "skipped"]
    assert kept.startswith(f"kept: {january} is published in catalog duckdb, database ")
    assert "other" in kept
    table = DuckdbCatalog(case.settings(**change)).get("ext_people_1")
    assert table is not None
    assert len(list(Path(table.location).iterdir())) == 4
    # Once the other catalog shows February, nothing shows January.
    rollback(case.settings(**change), february)
    assert [run.run_id for run in expire(case.settings(), keep=1)] == [january]


def test_expire_refuses_if_other_catalog_is_missing(case: Case) -> None:
    path = case.root / "other.duckdb"
    january, _ = two_catalogs(case, catalog__path=str(path))
    path.rename(case.root / "moved.duckdb")
    for command in (expire, expirable):
        with pytest.raises(
            CatalogError, match=rf"not deleted: run {january}, also .*{path} does not exist"
        ) as caught:
            command(case.settings(), keep=1)
    assert case.hashes(january)
    option, catalog_id = str(caught.value).rsplit(" ", 2)[1:]
    assert option == "--forget-catalog"
    with pytest.raises(SelectionError, match=rf"--forget-catalog none: .* known: .*{catalog_id} \(catalog duckdb"):
        expire(case.settings(), keep=1, forget_catalogs=["none"])
    planned = expirable(case.settings(), keep=1, forget_catalogs=[catalog_id])
    assert len(records(case, january)) == 2
    assert expire(case.settings(), keep=1, only=[], forget_catalogs=[catalog_id]) == []
    assert len(records(case, january)) == 1
    assert expire(case.settings(), keep=1) == planned


def test_expire_refuses_if_other_catalog_is_not_a_catalog(case: Case) -> None:
    path = case.root / "other.duckdb"
    january, _ = two_catalogs(case, catalog__path=str(path))
    path.write_text("damaged " * 1000)
    with pytest.raises(CatalogError, match=r"cannot be read: .*other\.duckdb.*add --forget-catalog"):
        expire(case.settings(), keep=1)
    assert case.hashes(january)


def test_interrupted_expire_ends_without_other_catalog(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    path = case.root / "other.duckdb"
    january, february = two_catalogs(case, catalog__path=str(path))
    rollback(case.settings(catalog__path=str(path)), february)
    with monkeypatch.context() as patch:
        patch.setattr("bucketwheel.storage.Storage.hide_directory", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            expire(case.settings(), keep=1)
    path.unlink()
    assert [run.run_id for run in expire(case.settings(), keep=1)] == [january]


def test_catalog_beside_moved_target_is_found(tmp_path: Path) -> None:
    case = Case(tmp_path / "one")
    case.snapshot(JANUARY)
    january, _ = two_catalogs(case, catalog__database="other")
    moved = case.root.rename(tmp_path / "two")
    settings = case.settings(target=str(moved / "out"), catalog__path=str(moved / "catalog.duckdb"))
    assert expire(settings, keep=1) == []
    assert case.manifest_file(january).name == "manifest.json"


def test_rollback_names_other_catalog_of_withdrawn_run(case: Case) -> None:
    january, february = two_catalogs(case)
    case.run(STAGES[:6], catalog__database="other")
    steps, report = reports()
    rollback(case.settings(), january, report)
    assert f"run {february} was also published in catalog duckdb, database other, path" in warnings_in(steps)
    assert f"run {february} was also published in catalog duckdb, database tests" not in warnings_in(steps)


def test_damaged_record_of_catalog_is_named(case: Case) -> None:
    january, _ = two_catalogs(case)
    records(case, january)[0].write_text("{")
    with pytest.raises(Exception, match=r"catalogs/\w+\.json: is not the record of a catalog, it may be damaged"):
        expire(case.settings(), keep=1)
    assert case.hashes(january)


def test_run_of_earlier_version_counts_as_published_in_own_catalog(case: Case) -> None:
    january, _ = two_catalogs(case, catalog__database="other")
    for record in records(case, january):
        record.unlink()
    assert [run.run_id for run in expire(case.settings(), keep=1)] == [january]


def test_expire_reads_other_databases_of_glue_and_refuses_other_accounts(cloud: Cloud) -> None:
    january, _ = two_catalogs(cloud, catalog__database="other")
    assert expire(cloud.settings(), keep=1) == []
    store = cloud.store()
    paths = [entry.location for entry in store.storage.list(f"{store.directory(DATASET, january)}/catalogs")]
    documents = {path: json.loads(store.storage.read(path)) for path in paths}
    addresses = [document["address"] for document in documents.values()]
    assert addresses == [{"account": "123456789012", "region": "us-east-1"}] * 2
    other = next(path for path, document in documents.items() if document["database"] == "other")
    elsewhere = {**documents[other], "address": {"account": "210987654321", "region": "us-east-1"}}
    store.storage.write(other, json.dumps(elsewhere).encode())
    with pytest.raises(
        CatalogError, match=r"account 210987654321.*cannot be read: .* account 123456789012"
    ) as caught:
        expire(cloud.settings(), keep=1)
    assert january in str(caught.value)
    catalog_id = str(caught.value).rpartition(" ")[2]
    (expired,) = expire(cloud.settings(), keep=1, forget_catalogs=[catalog_id])
    assert (expired.run_id, JANUARY in expired.run_id) == (january, True)


def test_expire_takes_deleted_database_of_own_account_for_empty(cloud: Cloud) -> None:
    january, _ = two_catalogs(cloud, catalog__database="lab")
    plain_client("glue", str(cloud.changes["aws__endpoint_url"])).delete_database(Name="lab")
    assert [run.run_id for run in expire(cloud.settings(), keep=1)] == [january]
