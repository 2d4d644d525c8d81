"""What publishing needs is checked before a run writes data, also if another job will publish."""

from __future__ import annotations

import duckdb
import pytest
from cloud_support import Cloud
from copies_support import Copying

from bucketwheel import plugins
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.errors import (
    CatalogError,
    ExecutorDeniedError,
    ForeignTableError,
    MissingDependencyError,
    SelectionError,
)
from bucketwheel.storage import Storage
from runs_support import DATABASE, DATASET, Case, notes_of, reports, warnings_in

FIRST_JOB = ("discover", "split", "size", "bucket", "verify")


def create_table(case: Case, name: str) -> None:
    case.catalog.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(case.catalog)) as connection:
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{DATABASE}"')
        connection.execute(f'CREATE VIEW "{DATABASE}"."{name}" AS SELECT 1 AS x')


@pytest.mark.parametrize("later", [None, ("register", "ctas"), ("ctas",)])
@pytest.mark.parametrize("stages", [FIRST_JOB, ()], ids=["first job", "all stages"])
def test_foreign_table_is_refused_before_data(
    case: Case, stages: tuple[str, ...], later: tuple[str, ...] | None
) -> None:
    create_table(case, "bucketed_people_2")
    with pytest.raises(
        ForeignTableError, match=r"'bucketed_people_2' exists .* not created by Bucketwheel"
    ) as refused:
        case.run(stages, later=later)
    assert case.hashes() == {}
    assert ("another job will run" in notes_of(refused.value)) is bool(stages)
    assert case.run(stages, later=later, catalog__adopt=True).changed


def test_table_of_unpublished_stage_is_ignored(case: Case) -> None:
    create_table(case, "bucketed_people_2")
    assert case.run(FIRST_JOB, later=()).changed
    assert case.run(["register"], later=()).changed


def test_register_job_checks_tables_of_later_ctas(case: Case) -> None:
    case.run(FIRST_JOB, later=None)
    create_table(case, "bucketed_people_2")
    with pytest.raises(ForeignTableError, match="'bucketed_people_2'"):
        case.run(["register"], later=("ctas",))
    assert case.view_names() == ["bucketed_people_2"]


@pytest.mark.parametrize("later", [None, ("ctas",)])
def test_first_job_fails_if_database_of_last_job_is_missing(cloud: Cloud, later: tuple[str, ...] | None) -> None:
    with pytest.raises(CatalogError, match=r"database .* does not exist"):
        cloud.run(FIRST_JOB, later=later, catalog__create_database=False)
    assert Storage.of(cloud.settings()).list(f"s3://{cloud.bucket}/target/{DATASET}", recursive=True) == []
    assert cloud.run(FIRST_JOB, later=(), catalog__create_database=False).changed


@pytest.mark.parametrize("stages", [("discover", "split"), FIRST_JOB])
def test_named_later_stages_check_the_catalog_in_every_job(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, stages: tuple[str, ...]
) -> None:
    def denied(_: GlueCatalog) -> None:
        raise CatalogError("database tests: GetTables was denied")

    monkeypatch.setattr(GlueCatalog, "check", denied)
    with pytest.raises(CatalogError, match="GetTables was denied") as refused:
        cloud.run(stages, later=("ctas",))
    assert "--later-stages none turns the check off" in notes_of(refused.value)


def test_later_engine_is_checked_before_data(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied() -> None:
        raise ExecutorDeniedError("the workgroup is denied")

    monkeypatch.setattr(copying.executor, "check", denied)
    with pytest.raises(ExecutorDeniedError, match="the workgroup is denied"):
        copying.run(FIRST_JOB, later=None)
    assert copying.hashes() == {}


@pytest.mark.parametrize("later", [None, ("register",)])
def test_missing_package_of_later_stage_is_error_only_if_named(
    case: Case, monkeypatch: pytest.MonkeyPatch, later: tuple[str, ...] | None
) -> None:
    def missing(*_: object) -> None:
        raise MissingDependencyError("'duckdb' needs the package 'duckdb'")

    monkeypatch.setattr(plugins, "catalog", missing)
    events, report = reports()
    if later:
        with pytest.raises(MissingDependencyError):
            case.run(FIRST_JOB, later=later, report=report)
    else:
        assert case.run(FIRST_JOB, later=later, report=report).changed
        assert "register, ctas: what these stages need was not checked: 'duckdb' needs" in warnings_in(events)


def test_unknown_later_stage_is_refused(case: Case) -> None:
    with pytest.raises(SelectionError, match=r"no stage 'publish'") as refused:
        case.run(FIRST_JOB, later=("publish",))
    assert notes_of(refused.value).startswith("Fix --later-stages, then run again")
    assert case.manifests() == []
