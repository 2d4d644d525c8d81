"""Change the tables of one publication, and undo the changes if one fails.

A catalog that can (`contracts.AtomicCatalog`) changes all tables in one update. Others change several tables at a
time, as many as they declare as `writers`, so that readers see a mix of two runs as briefly as possible. The first
table changes alone: of two concurrent publishers, one fails there, before it has changed any table. If the tables are
in two catalogs, those of one catalog change first.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import replace

from bucketwheel.catalogs.routed import by_member
from bucketwheel.contracts import AtomicCatalog, Catalog, CatalogTable, Fence, TableChange
from bucketwheel.contracts.catalog import make_change, put_all, same_definition, same_version
from bucketwheel.errors import BucketwheelError, CatalogError, ConcurrentPublishError
from bucketwheel.formatting import counted, listed
from bucketwheel.system import system

# Maximum number of tables that a note lists.
_LISTED = 6


class Updates:
    """The updates of one publication. The fence is checked before each group of tables that change together."""

    def __init__(self, catalog: Catalog, fence: Fence) -> None:
        self._catalog = catalog
        self._fence = fence
        self._done: list[TableChange] = []
        # Whether all tables show what they showed before.
        self.all_undone = True

    def many(self, changes: Sequence[TableChange]) -> bool:
        """Return whether the changes take several updates, so that readers can see a part of them."""
        return len(self._groups(changes)) > 1

    def make(self, changes: Sequence[TableChange]) -> None:
        """Make all changes.

        Raises:
            LeaseError: another command took over; no further table changes.
            ConcurrentPublishError: another writer modified a table concurrently.
            CatalogError: a catalog call failed. `undo` restores the tables that changed before.
        """
        for catalog, group in self._groups(changes):
            with self._fence.guard():
                error = self._make_together(catalog, group)
            if error is not None:
                raise error

    def undo(self, cause: BaseException) -> bool:
        """Undo the changes in reverse order; return False if the lease is lost, and leave the other tables then.

        Another writer may have confirmed or published these tables meanwhile, or deleted the files of the earlier
        run. Notes on `cause` say what was restored and what was not.
        """
        done, held, left = 0, True, self._groups(self._done)
        while left and held:
            try:
                with self._fence.guard():
                    done += self._restore(*left.pop(), cause)
            except BucketwheelError as error:
                held = False
                cause.add_note(_left_text([change for _, group in left for change in group], error))
        if done < len(self._done):
            self.all_undone = False
        if done:
            were = "was" if done == 1 else "were"
            cause.add_note(f"restored {counted(done, 'table')} that {were} updated before the failure")
        return held

    def _groups(self, changes: Sequence[TableChange]) -> list[tuple[Catalog, Sequence[TableChange]]]:
        """Return the changes that are made together, and the catalog that makes them."""
        groups: list[tuple[Catalog, Sequence[TableChange]]] = []
        for catalog, part in by_member(self._catalog, changes):
            if isinstance(catalog, AtomicCatalog):
                groups += [(catalog, part)] if part else []
                continue
            starts = [0, *range(1, len(part), max(int(getattr(catalog, "writers", 1)), 1))]
            ends = [*starts[1:], len(part)]
            groups += [(catalog, part[start:end]) for start, end in zip(starts, ends, strict=True) if part]
        return groups

    def _make_together(self, catalog: Catalog, group: Sequence[TableChange]) -> BaseException | None:
        """Change the tables of a group at the same time; keep what changed, and return the first error."""
        if isinstance(catalog, AtomicCatalog):
            try:
                tables: Sequence[CatalogTable | None] = put_all(catalog, group)
            except BaseException as error:  # noqa: BLE001 the caller raises it
                self._keep(group, self._shown_after(catalog, group, error))
                return error
            self._keep(group, tables)
            return None
        results, interrupt = _parallel(catalog, group)
        first: BaseException | None = None
        for change, result in zip(group, results, strict=True):
            if not isinstance(result, BaseException):
                self._keep([change], [result])
                continue
            self._keep([change], self._shown_after(catalog, [change], result))
            if first is None:
                first = result
            else:
                first.add_note(f"table {change.name!r}: {result}")
        return interrupt or first

    def _keep(self, group: Sequence[TableChange], tables: Sequence[CatalogTable | None]) -> None:
        """Remember the changes that took effect, with the definition that the catalog shows now."""
        for change, table in zip(group, tables, strict=True):
            if table is not None:
                self._done.append(replace(change, table=table))

    def _shown_after(
        self, catalog: Catalog, group: Sequence[TableChange], cause: BaseException
    ) -> list[CatalogTable | None]:
        """Return the tables that changed although their update failed, for example because its response was lost."""
        refused = CatalogError if isinstance(catalog, AtomicCatalog) else ConcurrentPublishError
        if isinstance(cause, refused):
            return [None] * len(group)
        return [self._shown_after_one(catalog, change, cause) for change in group]

    def _shown_after_one(self, catalog: Catalog, change: TableChange, cause: BaseException) -> CatalogTable | None:
        try:
            shown = catalog.get(change.name)
        except Exception as error:  # noqa: BLE001 any error here must not hide the original one
            cause.add_note(f"cannot tell whether table {change.name!r} was changed: {error}")
            self.all_undone = False
            return None
        wanted = change.table
        if shown is None or wanted is None or same_version(shown, change.replacing):
            return None
        return shown if same_definition(shown, wanted) else None

    def _restore(self, catalog: Catalog, group: Sequence[TableChange], cause: BaseException) -> int:
        """Restore the tables of a group, the last one first; return their number, and note failures on `cause`."""
        back = [TableChange(change.replacing, change.table) for change in group[::-1]]
        if isinstance(catalog, AtomicCatalog):
            try:
                put_all(catalog, back)
            except Exception as error:  # noqa: BLE001 the first error says why publishing failed
                cause.add_note(f"{counted(len(back), 'table')} could not be restored: {error}")
                return 0
            return len(back)
        results, interrupt = _parallel(catalog, back)
        failures = {
            change.name: result
            for change, result in zip(back, results, strict=True)
            if isinstance(result, BaseException)
        }
        for name, failure in failures.items():
            if not isinstance(failure, Exception):
                raise failure
            cause.add_note(f"table {name!r} could not be restored: {failure}")
        if interrupt is not None:
            raise interrupt
        return len(back) - len(failures)


def _parallel(
    catalog: Catalog, group: Sequence[TableChange]
) -> tuple[list[CatalogTable | BaseException | None], BaseException | None]:
    """Make the changes of a group in parallel.

    Return the table or the error of each, and the interrupt that arrived meanwhile, such as Ctrl-C.
    """
    if len(group) == 1:
        try:
            return [make_change(catalog, group[0])], None
        except BaseException as error:  # noqa: BLE001 the caller raises it
            return [error], None
    pool = system().pool(len(group))
    futures = [pool.submit(make_change, catalog, change) for change in group]
    interrupt: BaseException | None = None
    try:
        wait(futures)
    except BaseException as error:  # noqa: BLE001 the caller raises it, after it has noted what changed
        interrupt = error
    pool.shutdown()
    return [_result(future) for future in futures], interrupt


def _result(future: Future[CatalogTable | None]) -> CatalogTable | BaseException | None:
    error = future.exception()
    return future.result() if error is None else error


def _left_text(left: Sequence[TableChange], why: BucketwheelError) -> str:
    names = listed([change.name for change in left], _LISTED)
    now = left[0].table
    dataset, run_id = (now.dataset or "", now.run_id) if now else ("", "")
    return (
        f"{counted(len(left), 'table')} may still show run {run_id}, because this command may no longer restore them "
        f"({why}): {names}. Wait for the other command, look at `bucketwheel tables {dataset}`, and if the tables "
        f"show several runs, repair them with `bucketwheel run {dataset}` or `bucketwheel rollback RUN_ID`"
    )
