"""How a snapshot differs from the one that was published when it was verified: part of the manifest."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    """A frozen document part."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NullShare(_Part):
    """The share of rows, 0 to 1, in which a column is NULL: in the published snapshot, and in this one."""

    name: str
    before: float
    now: float


class TypeChange(_Part):
    """A column whose Arrow type is not what it was."""

    name: str
    before: str
    now: str


class KeyOverlap(_Part):
    """How many distinct keys without NULL are in both snapshots, only in this one, only in the published one.

    `share` is that of the published keys which this snapshot has too, 0 to 1; None where none was published.
    """

    both: int
    only_now: int
    only_before: int
    share: float | None


class Drift(_Part):
    """This snapshot against the one published by `run_id`.

    `null_shares` lists the columns of both whose NULLs are known in both, in the order of this snapshot;
    `null_shares_unknown` counts the other columns of both. `keys` is None where `keys_not_compared` says why.
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
