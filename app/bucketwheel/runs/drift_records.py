"""What records of a manifest are made of, and those that say how a snapshot differs from the published one."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen document part."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NullShare(Record):
    """How often a column is NULL.

    Attributes:
        name: as in the source
        before: share of the rows of the published snapshot, 0 to 1
        now: share of the rows of this one
    """

    name: str
    before: float
    now: float


class TypeChange(Record):
    """A column that has another type now.

    Attributes:
        name: as in the source
        before: Arrow type in the published snapshot
        now: Arrow type in this one
    """

    name: str
    before: str
    now: str


class KeyOverlap(Record):
    """Distinct keys of two snapshots; a key with a NULL is none.

    Attributes:
        both: keys in both
        only_now: keys that the published snapshot does not have
        only_before: keys that only the published snapshot has
        share: share of the published keys that this snapshot has too, 0 to 1; null where none was published
    """

    both: int
    only_now: int
    only_before: int
    share: float | None


class Drift(Record):
    """This snapshot against the one that was published when it was verified.

    Attributes:
        run_id: the published run
        snapshot_dt: its snapshot
        rows_before: rows of the published snapshot
        rows: rows of this one
        rows_changed_percent: by how much they differ, in percent of the published rows
        new_columns: columns of the source that the published snapshot does not have
        vanished_columns: columns that only the published snapshot has
        changed_types: columns of both that have another type now
        null_shares: columns of both whose NULLs the footers of both tell, in the order of this snapshot
        null_shares_unknown: how many other columns are in both
        keys: what the keys have in common; null where `quality.drift` is `counts`, or they were not compared
        keys_not_compared: why not
    """

    run_id: str
    snapshot_dt: str
    rows_before: int
    rows: int
    rows_changed_percent: float
    new_columns: tuple[str, ...] = ()
    vanished_columns: tuple[str, ...] = ()
    changed_types: tuple[TypeChange, ...] = ()
    null_shares: tuple[NullShare, ...] = ()
    null_shares_unknown: int = 0
    keys: KeyOverlap | None = None
    keys_not_compared: str | None = None


class KeyCounts(NamedTuple):
    """Distinct keys of one bucket: in both runs, only in this one, only in the published one."""

    both: int
    only_now: int
    only_before: int
