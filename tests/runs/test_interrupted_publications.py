"""A publication that was killed in the middle is named, and the next command finishes or undoes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cloud_support import Cloud

from aws_faults import faulty
from bucketwheel import plugins
from bucketwheel.aws import clients as aws_module
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.catalogs.journal import Journal
from bucketwheel.contracts import CatalogTable, Progress
from bucketwheel.doctor import inputs
from bucketwheel.errors import CatalogError, StorageError
from bucketwheel.pipeline import rollback as rollback_module
from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.live import tables
from bucketwheel.pipeline.rollback import rollback
from bucketwheel.pipeline.run_states import run_state, run_states
from bucketwheel.runs.claims import claim_deleting, read_claim
from bucketwheel.runs.withdrawals import withdrawals
from bucketwheel.system import system
from memory_catalog import MemoryCatalog
from runs_support import DATASET, FEBRUARY, JANUARY, Case

TABLES = 3


class Killed(BaseException):
    """The process is gone: no later call succeeds."""


class MortalCatalog(MemoryCatalog):
    """A catalog that a killed command can no longer change."""

    dead = False

    def check_alive(self) -> None:
        if self.dead:
            raise Killed

    def remove(self, table: CatalogTable) -> None:
        self.check_alive()
        super().remove(table)


class Publications(Case):
    """A case whose catalog changes one table at a time and can be killed."""

    memory = MortalCatalog()

    def kill_at(self, put: int) -> None:
        """Kill the command at this put, counted from now on."""

        def kill(number: int, _: CatalogTable) -> None:
            self.memory.dead = number >= put
            self.memory.check_alive()

        self.memory.puts, self.memory.before_put = 0, kill

    def revive(self) -> None:
        self.memory.dead = False
        self.memory.before_put = lambda _number, _table: None

    def final(self) -> dict[str, str | None]:
        """Return the run of each final table."""
        shown = self.memory.tables()
        return {table.name: table.run_id for table in shown if table.name.startswith("bucketed_")}

    def records(self) -> list[Path]:
        return sorted((Path(self.store().metadata_directory(DATASET)) / "publications").glob("*"))

    def newest(self) -> str:
        return self.store().all_run_ids(DATASET)[-1]

    def data(self, run_id: str) -> Path:
        return Path(self.store().data_directory(DATASET, f"{DATASET}_2", run_id))


def alive(catalog: MortalCatalog, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that a killed command cannot call."""

    def call(*arguments: Any) -> Any:
        catalog.check_alive()
        return function(*arguments)

    return call


@pytest.fixture
def publications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publications:
    """A case that published January, and has a snapshot of February."""
    made = Publications(tmp_path, tables=TABLES, rows=60, changes={"catalog__kind": "memory"})
    made.memory = MortalCatalog()
    for kind, name in ((Journal, "end"), (rollback_module, "remove_withdrawal")):
        monkeypatch.setattr(kind, name, alive(made.memory, getattr(kind, name)))
    monkeypatch.setitem(plugins._BUILT_IN["catalogs"], "memory", "memory_catalog:MemoryCatalog")
    monkeypatch.setattr(plugins, "catalog", lambda _: made.memory)
    made.snapshot(JANUARY)
    made.run()
    made.snapshot(FEBRUARY)
    return made


@pytest.fixture
def killed(publications: Publications) -> tuple[Publications, str, str]:
    """The case after a run of February was killed when it had changed 2 of 3 final tables."""
    publications.kill_at(TABLES + 3)
    with pytest.raises(Killed):
        publications.run()
    publications.revive()
    january, february = publications.store().all_run_ids(DATASET)
    return publications, january, february


def only(*run_ids: str) -> dict[str, str]:
    names = [f"bucketed_{DATASET}_{number}" for number in range(1, TABLES + 1)]
    return dict(zip(names, run_ids * TABLES, strict=False))


@pytest.mark.parametrize("put", range(1, TABLES + 1))
@pytest.mark.parametrize("command", ["run", "resume", "rollback", "expire"])
def test_next_command_finishes_a_killed_publication(publications: Publications, put: int, command: str) -> None:
    january = publications.newest()
    publications.kill_at(TABLES + put)
    with pytest.raises(Killed):
        publications.run()
    february = publications.newest()
    publications.revive()
    assert publications.final() == {**only(january), **dict(list(only(february).items())[: put - 1])}
    (live,) = tables(publications.settings(), DATASET)
    text = (
        f"publication of run {february} was interrupted: {put - 1} of {TABLES} tables changed; finish it with: "
        f"bucketwheel run {DATASET} --resume {february}"
    )
    assert f"{DATASET}: {text}" in live.problems
    assert text in run_state(publications.settings(), february).live_text
    warned: list[str] = []
    run_states(publications.settings(), DATASET, warned.append)
    assert f"{DATASET}: {text}" in warned
    if command == "expire":
        reports: list[Progress] = []
        expire(publications.settings(), keep=9, report=reports.append)
        text = f"was interrupted: {put - 1} of {TABLES} tables had changed; the others have changed now"
        assert text in str(reports)
    elif command == "rollback":
        rollback(publications.settings(), january)
    else:
        publications.run(resume=february if command == "resume" else None)
    assert publications.final() == only(january if command == "rollback" else february)
    assert publications.snapshot_dt() == (JANUARY if command == "rollback" else FEBRUARY)
    assert publications.records() == []
    (live,) = tables(publications.settings(), DATASET)
    assert live.problems == ()


def test_next_command_undoes_a_publication_of_an_incomplete_run(killed: tuple[Publications, str, str]) -> None:
    case, january, february = killed
    next(case.data(february).glob("*.parquet")).unlink()
    reports: list[Progress] = []
    expire(case.settings(), keep=9, report=reports.append)
    assert case.final() == only(january)
    assert case.records() == []
    assert case.snapshot_dt() == JANUARY
    (message,) = [step.message for step in reports if "was interrupted" in step.message]
    assert "2 of 3 tables had changed; they show what they showed before, because files in" in message


def test_publication_of_a_run_that_expire_deletes_is_undone(killed: tuple[Publications, str, str]) -> None:
    case, january, february = killed
    runs = case.store()
    claim_deleting(runs, DATASET, february, read_claim(runs, DATASET, february), system().clock.now())
    rollback(case.settings(), january)
    assert case.final() == only(january)
    assert case.records() == []


def test_tables_created_by_an_undone_publication_are_removed(publications: Publications) -> None:
    case = publications
    for table in case.memory.tables():
        case.memory.remove(table)
    case.kill_at(TABLES + 3)
    with pytest.raises(Killed):
        case.run()
    case.revive()
    next(case.data(case.newest()).glob("*.parquet")).unlink()
    assert len(case.final()) == 2
    expire(case.settings(), keep=9)
    assert case.final() == {}


def test_table_changed_by_another_writer_is_left_alone(killed: tuple[Publications, str, str]) -> None:
    case, _, february = killed
    name = f"bucketed_{DATASET}_2"
    table = case.memory.get(name)
    assert table is not None
    theirs = case.memory.put(replace(table, location="/elsewhere"), table)
    reports: list[Progress] = []
    expire(case.settings(), keep=9, report=reports.append)
    assert case.memory.get(name) == theirs
    assert f"another writer has changed {name} since" in str(reports)
    assert case.final() == only(february)
    assert case.records() == []


def test_interrupted_rollback_is_finished_with_its_marks(publications: Publications) -> None:
    case, january = publications, publications.newest()
    case.run()
    february = case.newest()
    case.kill_at(2)
    with pytest.raises(Killed):
        rollback(case.settings(), january)
    case.revive()
    (live,) = tables(case.settings(), DATASET)
    assert f"1 of 6 tables changed; finish it with: bucketwheel rollback {january}" in str(live.problems)
    expire(case.settings(), keep=9)
    assert case.final() == only(january)
    assert [mark.run_id for mark in withdrawals(case.store(), DATASET)] == [february]


def test_undone_rollback_leaves_no_mark(publications: Publications) -> None:
    case, january = publications, publications.newest()
    case.run()
    february = case.newest()
    case.kill_at(TABLES + 2)
    with pytest.raises(Killed):
        rollback(case.settings(), january)
    case.revive()
    next(case.data(january).glob("*.parquet")).unlink()
    expire(case.settings(), keep=9)
    assert case.final() == only(february)
    assert withdrawals(case.store(), DATASET) == []


def test_publication_that_can_be_neither_finished_nor_undone_blocks_no_command(
    killed: tuple[Publications, str, str],
) -> None:
    case, january, february = killed
    runs = case.store()
    for run_id in (january, february):
        claim_deleting(runs, DATASET, run_id, read_claim(runs, DATASET, run_id), system().clock.now())
    reports: list[Progress] = []
    expire(case.settings(), keep=9, report=reports.append)
    assert "it cannot be finished" in str(reports)
    assert "bucketwheel rollback RUN_ID" in str(reports)
    assert case.final() == {**only(february), f"bucketed_{DATASET}_3": january}
    assert case.records() == []


def test_refused_repair_is_repeated_by_the_next_command(killed: tuple[Publications, str, str]) -> None:
    case, _, february = killed

    def refuse(_: int, table: CatalogTable) -> None:
        raise CatalogError(f"{table.name}: access denied")

    case.memory.before_put = refuse
    with pytest.raises(CatalogError, match="access denied") as caught:
        expire(case.settings(), keep=9)
    assert f"a publication of run {february}, which began at" in str(caught.value.__notes__)
    assert len(case.records()) == 1
    case.revive()
    expire(case.settings(), keep=9)
    assert case.final() == only(february)


def test_damaged_record_is_named(killed: tuple[Publications, str, str]) -> None:
    case, _, _ = killed
    (record,) = case.records()
    record.write_text("{")
    for command in (lambda: tables(case.settings(), DATASET), lambda: expire(case.settings(), keep=9)):
        with pytest.raises(
            StorageError, match=rf"{record.name}: is not the record of a publication.*delete the file"
        ):
            command()
    warned: list[str] = []
    assert len(run_states(case.settings(), DATASET, warned.append)) == 2
    assert record.name in str(warned)


def test_record_of_another_database_is_left_alone(killed: tuple[Publications, str, str]) -> None:
    case, january, february = killed
    settings = case.settings(catalog__database="another")
    expire(settings, keep=9)
    assert len(case.records()) == 1
    assert case.final() == {**only(february), f"bucketed_{DATASET}_3": january}


def test_doctor_names_an_interrupted_publication(killed: tuple[Publications, str, str]) -> None:
    case, _, february = killed
    (check,) = inputs.checks(case.settings(), "local", remote_only=False)
    result = check.look()
    assert result.state == "warning"
    assert result.found.startswith(f"publication of run {february} was interrupted: 2 of 3 tables changed; snapshot")
    assert result.todo == f"finish it with: bucketwheel run {DATASET} --resume {february}"
    case.run()
    assert check.look().state == "ok"


def test_publication_under_way_is_no_problem(publications: Publications) -> None:
    texts: list[tuple[str, ...]] = []

    def look(number: int, _: CatalogTable) -> None:
        if number == TABLES + 2:
            (live,) = tables(publications.settings(), DATASET)
            texts.extend([live.problems, live.warnings])

    publications.memory.puts, publications.memory.before_put = 0, look
    publications.run()
    problems, warnings = texts
    assert problems == ()
    assert f"is under way: 1 of {TABLES} tables changed" in str(warnings)


def test_undone_publication_leaves_no_record(publications: Publications) -> None:
    def refuse(number: int, table: CatalogTable) -> None:
        if number == TABLES + 2:
            assert len(publications.records()) == 1
            raise CatalogError(f"{table.name}: access denied")

    january = publications.newest()
    publications.memory.puts, publications.memory.before_put = 0, refuse
    with pytest.raises(CatalogError, match="access denied"):
        publications.run()
    assert publications.records() == []
    assert publications.final() == only(january)


def test_half_undone_publication_keeps_its_record(publications: Publications) -> None:
    def refuse(number: int, table: CatalogTable) -> None:
        if number >= TABLES + 2:
            raise CatalogError(f"{table.name}: access denied")

    publications.memory.puts, publications.memory.before_put = 0, refuse
    with pytest.raises(CatalogError, match="access denied"):
        publications.run()
    assert len(publications.records()) == 1
    publications.revive()
    publications.run()
    assert publications.final() == only(publications.newest())
    assert publications.records() == []


def test_catalog_that_changes_all_tables_at_once_needs_no_record(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = Path.replace
    seen: list[bool] = []

    def replace_file(self: Path, target: Path) -> Path:
        if target == case.catalog:
            seen.append((Path(case.store().metadata_directory(DATASET)) / "publications").exists())
        return replaced(self, target)

    monkeypatch.setattr(Path, "replace", replace_file)
    case.run()
    assert seen == [False, False]


@pytest.mark.parametrize("command", ["run", "rollback", "expire"])
def test_next_command_finishes_a_killed_publication_in_glue(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    january = cloud.run().manifest.run_id
    cloud.snapshot(FEBRUARY)
    monkeypatch.setattr(GlueCatalog, "writers", 1)

    def kill(_: object) -> None:
        raise Killed

    with faulty(aws_module.client("glue", cloud.settings().aws)) as faults:
        # Two staged tables change, then the first final one.
        faults.plan("UpdateTable", None, None, None)
        faults.always("UpdateTable", kill)
        with pytest.raises(Killed):
            cloud.run()
    february = cloud.store().all_run_ids(DATASET)[-1]
    assert {name: location.rpartition("/")[2] for name, location in cloud.tables_shown().items()} == {
        "bucketed_people_1": february,
        "bucketed_people_2": january,
        "ext_people_1": february,
        "ext_people_2": february,
    }
    (live,) = tables(cloud.settings(), DATASET)
    assert f"1 of 2 tables changed; finish it with: bucketwheel run {DATASET} --resume {february}" in str(
        live.problems
    )
    if command == "run":
        cloud.run()
    elif command == "rollback":
        rollback(cloud.settings(), january)
    else:
        expire(cloud.settings(), keep=9)
    expected = january if command == "rollback" else february
    assert {location.rpartition("/")[2] for location in cloud.tables_shown().values()} == {expected}
    (live,) = tables(cloud.settings(), DATASET)
    assert live.problems == ()


def test_undoing_in_glue_gives_every_table_a_new_version(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    january = cloud.run().manifest.run_id
    cloud.snapshot(FEBRUARY)
    monkeypatch.setattr(GlueCatalog, "writers", 1)

    def kill(_: object) -> None:
        raise Killed

    with faulty(aws_module.client("glue", cloud.settings().aws)) as faults:
        faults.plan("UpdateTable", None, None, None)
        faults.always("UpdateTable", kill)
        with pytest.raises(Killed):
            cloud.run()
    february = cloud.store().all_run_ids(DATASET)[-1]
    storage = cloud.store().storage
    storage.delete(storage.list(cloud.store().data_directory(DATASET, "people_1", february))[0].location)
    catalog = GlueCatalog(cloud.settings())
    before = {table.name: table for table in catalog.tables()}
    expire(cloud.settings(), keep=9)
    shown = {table.name: table for table in catalog.tables()}
    for name in ("bucketed_people_1", "bucketed_people_2"):
        assert shown[name].run_id == january
        # A command that was only suspended changes nothing any more.
        with pytest.raises(CatalogError, match=name):
            catalog.put(before[name], before[name])
