"""Publishing all tables of a run or none, whatever happens to catalog and lease meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from bucketwheel.catalogs.definitions import DATASET
from bucketwheel.catalogs.publish import is_current, publish_all
from bucketwheel.contracts import CatalogTable
from bucketwheel.contracts.catalog import same_definition
from bucketwheel.errors import CatalogError, ConcurrentPublishError, ForeignTableError, LeaseError
from memory_catalog import AddingCatalog, AtomicMemory, MemoryCatalog, refusing

COUNT = 5


class Fence:
    """A fence that is lost at its `lost_at`-th check."""

    def __init__(self, lost_at: int | None = None) -> None:
        self.asked = 0
        self._lost_at = lost_at

    @contextmanager
    def guard(self) -> Iterator[None]:
        self.asked += 1
        if self._lost_at is not None and self.asked >= self._lost_at:
            raise LeaseError("this run lost the lease")
        yield


def tables(run: str, count: int = COUNT, dataset: str = "people") -> list[CatalogTable]:
    return [
        CatalogTable(
            name=f"t{number}",
            location=f"/data/t{number}/{run}",
            columns=(("id", "string"),),
            bucket_columns=("id",),
            bucket_count=8,
            sorted=True,
            parameters={"bucketwheel.run_id": run, DATASET: dataset},
        )
        for number in range(1, count + 1)
    ]


def locations(catalog: MemoryCatalog) -> dict[str, str]:
    return {table.name: table.location for table in catalog.tables()}


def of_run(run: str, count: int = COUNT) -> dict[str, str]:
    return {table.name: table.location for table in tables(run, count)}


@pytest.fixture
def catalog() -> MemoryCatalog:
    """A catalog with tables of run 1, without the third table; it counts puts."""
    memory = MemoryCatalog()
    publish_all(memory, Fence(), [table for table in tables("run1") if table.name != "t3"], adopt=False)
    memory.puts = 0
    memory.changes.clear()
    return memory


def notes_of(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", []))


def test_publish_updates_each_table_once_and_returns_previous(
    catalog: MemoryCatalog,
) -> None:
    result = publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert locations(catalog) == of_run("run2")
    assert catalog.changes == [f"put t{number}" for number in range(1, COUNT + 1)]
    before = {table.name: table.previous_location for table in result.tables}
    assert before == {**of_run("run1"), "t3": None}
    assert is_current(catalog, result)


def test_publish_skips_current_tables(catalog: MemoryCatalog) -> None:
    publish_all(catalog, Fence(), tables("run2"), adopt=False)
    versions = [table.version for table in catalog.tables()]
    catalog.changes.clear()
    publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert catalog.changes == []
    assert [table.version for table in catalog.tables()] == versions


def test_previous_location_never_names_the_run_itself(catalog: MemoryCatalog) -> None:
    publish_all(catalog, Fence(), tables("run2", 2), adopt=False)
    result = publish_all(catalog, Fence(), tables("run2"), adopt=False)
    previous = {table.name: table.previous_location for table in result.tables}
    assert previous == {"t1": None, "t2": None, "t3": None, "t4": "/data/t4/run1", "t5": "/data/t5/run1"}


@pytest.mark.parametrize("change", [{"bucket_count": 4}, {"sorted": False}, {"columns": ()}, {"bucket_columns": ()}])
def test_changed_definition_of_same_files_is_published(catalog: MemoryCatalog, change: dict[str, object]) -> None:
    publish_all(catalog, Fence(), tables("run2"), adopt=False)
    changed = [replace(table, **change) for table in tables("run2")]  # type: ignore[arg-type]
    publish_all(catalog, Fence(), changed, adopt=False)
    assert changed
    assert all(same_definition(one, other) for one, other in zip(catalog.tables(), changed, strict=True))


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_failed_update_restores_earlier_tables(catalog: MemoryCatalog, number: int) -> None:
    catalog.before_put = refusing(number)
    with pytest.raises(CatalogError, match=f"t{number}: access denied") as caught:
        publish_all(catalog, Fence(), tables("run2"), adopt=False)
    expected = of_run("run1")
    del expected["t3"]
    assert locations(catalog) == expected
    count = number - 1
    text = f"restored {count} {'table that was' if count == 1 else 'tables that were'} updated before the failure"
    assert notes_of(caught.value) == ([text] if count else [])


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_failed_update_that_took_effect_is_restored(catalog: MemoryCatalog, number: int) -> None:
    def lose_the_answer(current: int, _: CatalogTable) -> None:
        if current == number:
            raise ConnectionError("connection reset by peer")

    catalog.after_put = lose_the_answer
    with pytest.raises(ConnectionError):
        publish_all(catalog, Fence(), tables("run2"), adopt=False)
    expected = of_run("run1")
    del expected["t3"]
    assert locations(catalog) == expected


def test_interrupt_restores_all_tables(catalog: MemoryCatalog) -> None:
    def interrupt(current: int, _: CatalogTable) -> None:
        if current == COUNT:
            raise KeyboardInterrupt

    catalog.after_put = interrupt
    with pytest.raises(KeyboardInterrupt):
        publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert "t3" not in locations(catalog)
    assert set(locations(catalog).values()) < set(of_run("run1").values())


@pytest.mark.parametrize("kind", [CatalogError, OSError])
def test_notes_name_table_that_could_not_be_restored(catalog: MemoryCatalog, kind: type[Exception]) -> None:
    def refuse(current: int, table: CatalogTable) -> None:
        if current == COUNT:
            raise CatalogError("no more")
        if current > COUNT and table.name == "t2":
            raise kind("throttled")

    catalog.before_put = refuse
    with pytest.raises(CatalogError, match="no more") as caught:
        publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert notes_of(caught.value) == [
        "table 't2' could not be restored: throttled",
        "restored 3 tables that were updated before the failure",
    ]
    expected = {**of_run("run1"), "t2": "/data/t2/run2"}
    del expected["t3"]
    assert locations(catalog) == expected


def test_publish_keeps_tables_changed_by_another_writer(catalog: MemoryCatalog) -> None:
    theirs = replace(tables("run3")[0])

    def change(current: int, table: CatalogTable) -> None:
        if table.name == "t4" and current == 4:
            catalog.put(theirs, catalog.get("t1"))
            raise CatalogError("no more")

    catalog.before_put = change
    with pytest.raises(CatalogError, match="no more") as caught:
        publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert locations(catalog)["t1"] == theirs.location
    assert locations(catalog)["t2"] == "/data/t2/run1"
    assert "table 't1' could not be restored" in notes_of(caught.value)[0]


@pytest.mark.parametrize("name", ["t5", "T5"])
def test_foreign_table_is_refused_before_any_update(catalog: MemoryCatalog, name: str) -> None:
    catalog.remove(catalog.tables()[-1])
    catalog.add_foreign(name)
    before = list(catalog.tables())
    with pytest.raises(ForeignTableError, match=f"{name}.*not created by Bucketwheel.*adopt=true") as caught:
        publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert caught.value.exit_code == 2
    assert list(catalog.tables()) == before
    assert catalog.puts == 0


def test_refusal_names_all_foreign_tables(catalog: MemoryCatalog) -> None:
    for name in ("t6", "t7"):
        catalog.add_foreign(name)
    with pytest.raises(ForeignTableError, match=r"t6.*t7"):
        publish_all(catalog, Fence(), tables("run2", 7), adopt=False)


def test_table_of_another_dataset_is_refused(catalog: MemoryCatalog) -> None:
    with pytest.raises(ForeignTableError, match="belongs to dataset 'people'"):
        publish_all(catalog, Fence(), tables("run2", dataset="others"), adopt=False)
    assert catalog.puts == 0


def test_adopted_table_is_restored_when_publishing_fails(catalog: MemoryCatalog) -> None:
    catalog.remove(catalog.tables()[0])
    catalog.add_foreign("t1")
    foreign = catalog.get("t1")
    catalog.before_put = refusing(3)
    with pytest.raises(CatalogError):
        publish_all(catalog, Fence(), tables("run2"), adopt=True)
    assert catalog.get("t1") == foreign
    catalog.before_put = refusing(0)
    publish_all(catalog, Fence(), tables("run2"), adopt=True)
    assert locations(catalog) == of_run("run2")


@pytest.mark.parametrize("lost_at", range(1, COUNT + 3))
def test_lost_lease_stops_publishing_and_undoes_nothing(catalog: MemoryCatalog, lost_at: int) -> None:
    called: list[str] = []
    with pytest.raises(LeaseError) as caught:
        publish_all(catalog, Fence(lost_at), tables("run2"), adopt=False, then=lambda: called.append("then"))
    count = max(lost_at - 2, 0)
    expected = {**of_run("run1"), **{table.name: table.location for table in tables("run2")[:count]}}
    if count < 3:
        del expected["t3"]
    assert locations(catalog) == expected
    assert called == []
    assert len(notes_of(caught.value)) == bool(count)
    if count:
        (note,) = notes_of(caught.value)
        assert note.startswith(f"{count} table{'s' * (count > 1)} may still show run run2, because this command ")
        assert f": {', '.join(f't{number}' for number in range(1, count + 1))}. Wait for the other" in note
        assert "`bucketwheel run people` or `bucketwheel rollback RUN_ID`" in note


def test_late_writer_does_not_undo_confirmed_publication(catalog: MemoryCatalog) -> None:
    late = Fence()

    def follow(number: int, _: CatalogTable) -> None:
        if number == 3:
            # A follower finds two tables up to date, leaves them as they are and publishes the others.
            late._lost_at = 0
            catalog.after_put = lambda _number, _table: None
            publish_all(catalog, Fence(), tables("run2"), adopt=False)
            raise CatalogError("the response was lost")

    catalog.after_put = follow
    with pytest.raises(CatalogError, match="response was lost"):
        publish_all(catalog, late, tables("run2"), adopt=False)
    assert locations(catalog) == of_run("run2")


def test_callback_runs_after_all_tables_are_published(catalog: MemoryCatalog) -> None:
    seen: list[dict[str, str]] = []
    publish_all(catalog, Fence(), tables("run2"), adopt=False, then=lambda: seen.append(locations(catalog)))
    assert seen == [of_run("run2")]


def test_failed_callback_restores_all_tables(catalog: MemoryCatalog) -> None:
    def fail() -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        publish_all(catalog, Fence(), tables("run2"), adopt=False, then=fail)
    expected = of_run("run1")
    del expected["t3"]
    assert locations(catalog) == expected


def test_table_changed_during_publishing_is_detected(catalog: MemoryCatalog) -> None:
    def move(current: int, _: CatalogTable) -> None:
        if current == COUNT:
            first = catalog.get("t1")
            assert first is not None
            catalog.after_put = lambda _number, _table: None
            catalog.put(tables("run1")[0], first)

    catalog.after_put = move
    with pytest.raises(ConcurrentPublishError, match="another writer changed table 't1'"):
        publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert set(locations(catalog).values()) == set(of_run("run1").values()) - {"/data/t3/run1"}


def test_broken_catalog_does_not_hide_first_error(catalog: MemoryCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise OSError("network unreachable")

    monkeypatch.setattr(catalog, "get", broken)
    catalog.before_put = refusing(2)
    with pytest.raises(CatalogError, match="access denied") as caught:
        publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert "cannot tell whether table 't2' was changed: network unreachable" in notes_of(caught.value)


def test_rerun_publishes_nothing_when_the_catalog_adds_parameters() -> None:
    catalog = AddingCatalog()
    result = publish_all(catalog, Fence(), tables("run1"), adopt=False)
    assert all(table.location.endswith("/") and "owner" in table.parameters for table in catalog.tables())
    assert is_current(catalog, result)
    catalog.changes.clear()
    publish_all(catalog, Fence(), tables("run1"), adopt=False)
    assert catalog.changes == []


def test_failed_publish_restores_tables_of_a_catalog_that_adds_parameters() -> None:
    catalog = AddingCatalog()
    publish_all(catalog, Fence(), tables("run1"), adopt=False)
    before = [(table.location, table.parameters) for table in catalog.tables()]
    catalog.puts, catalog.before_put = 0, refusing(COUNT)
    with pytest.raises(CatalogError, match="access denied"):
        publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert [(table.location, table.parameters) for table in catalog.tables()] == before


def test_changed_parameter_is_published() -> None:
    catalog = AddingCatalog()
    publish_all(catalog, Fence(), tables("run1"), adopt=False)
    catalog.changes.clear()
    changed = [replace(table, parameters={**table.parameters, "numRows": "7"}) for table in tables("run1")]
    publish_all(catalog, Fence(), changed, adopt=False)
    assert len(catalog.changes) == COUNT


class Wide(MemoryCatalog):
    """A catalog whose tables change two at a time."""

    writers = 2


def published(kind: type[MemoryCatalog]) -> MemoryCatalog:
    catalog = kind()
    publish_all(catalog, Fence(), tables("run1"), adopt=False)
    catalog.puts = 0
    catalog.changes.clear()
    return catalog


def test_tables_change_as_many_at_a_time_as_the_catalog_declares() -> None:
    catalog, meeting = published(Wide), threading.Barrier(2)

    def meet(number: int, _: CatalogTable) -> None:
        if number > 1:
            meeting.wait(30)

    catalog.before_put = meet
    fence = Fence()
    publish_all(catalog, fence, tables("run2"), adopt=False)
    assert locations(catalog) == of_run("run2")
    # Once at first, before each of three groups, and before the callback.
    assert fence.asked == 5


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_failed_update_of_a_group_restores_every_table(number: int) -> None:
    catalog = published(Wide)
    catalog.before_put = refusing(number)
    with pytest.raises(CatalogError, match="access denied"):
        publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert locations(catalog) == of_run("run1")


def test_all_failures_of_a_group_are_reported() -> None:
    catalog = published(Wide)

    def refuse(_: int, table: CatalogTable) -> None:
        if table.name in ("t2", "t3") and table.run_id == "run2":
            raise CatalogError(f"{table.name}: access denied")

    catalog.before_put = refuse
    with pytest.raises(CatalogError, match="t2: access denied") as caught:
        publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert "table 't3': t3: access denied" in notes_of(caught.value)
    assert locations(catalog) == of_run("run1")


@pytest.mark.parametrize("lost_at", [2, 3, 4, 5])
def test_lost_lease_keeps_whole_groups(lost_at: int) -> None:
    catalog = published(Wide)
    with pytest.raises(LeaseError) as caught:
        publish_all(catalog, Fence(lost_at), tables("run2"), adopt=False)
    count = [0, 1, 3, 5][lost_at - 2]
    assert sorted(catalog.changes) == [f"put t{number}" for number in range(1, count + 1)]
    assert len(notes_of(caught.value)) == bool(count)


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_atomic_catalog_changes_all_tables_or_none(number: int) -> None:
    catalog, fence = published(AtomicMemory), Fence()
    catalog.before_put = refusing(number)
    with pytest.raises(CatalogError, match="access denied") as caught:
        publish_all(catalog, fence, tables("run2"), adopt=False)
    assert notes_of(caught.value) == []
    assert locations(catalog) == of_run("run1")
    assert fence.asked == 2
    catalog.before_put = refusing(0)
    publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert locations(catalog) == of_run("run2")


@pytest.mark.parametrize("kind", [Wide, AtomicMemory])
def test_interrupt_after_the_last_update_restores_all_tables(kind: type[MemoryCatalog]) -> None:
    catalog = published(kind)

    def interrupt(current: int, _: CatalogTable) -> None:
        if current == COUNT:
            raise KeyboardInterrupt

    catalog.after_put = interrupt
    with pytest.raises(KeyboardInterrupt) as caught:
        publish_all(catalog, Fence(), tables("run2"), adopt=False)
    assert locations(catalog) == of_run("run1")
    assert notes_of(caught.value) == [f"restored {COUNT} tables that were updated before the failure"]


@pytest.mark.parametrize("kind", [Wide, AtomicMemory])
def test_failed_callback_restores_all_tables_together(kind: type[MemoryCatalog]) -> None:
    catalog, fence = published(kind), Fence()

    def fail() -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        publish_all(catalog, fence, tables("run2"), adopt=False, then=fail)
    assert locations(catalog) == of_run("run1")
    assert fence.asked == (8 if kind is Wide else 4)


def test_failed_restoration_of_an_atomic_catalog_is_noted() -> None:
    catalog = published(AtomicMemory)

    def fail() -> None:
        catalog.before_put = refusing(catalog.puts + 2)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left") as caught:
        publish_all(catalog, Fence(), tables("run2"), adopt=False, then=fail)
    assert notes_of(caught.value) == ["5 tables could not be restored: t4: access denied"]
    assert locations(catalog) == of_run("run2")
