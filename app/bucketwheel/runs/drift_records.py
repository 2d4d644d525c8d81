"""Differences between a run and the published one, as `verify` records them in the manifest."""

from __future__ import annotations

from typing import NamedTuple

from bucketwheel.formatting import html_table
from bucketwheel.runs.record import Record

# Smaller changes in the share of NULLs are noise.
_NOTABLE_SHARE = 0.001


class NullShare(Record):
    """Share of NULLs in a column.

    Attributes:
        name: name in the source
        before: share of the rows of the published snapshot, 0 to 1
        now: share of the rows of this one
    """

    name: str
    before: float
    now: float


class TypeChange(Record):
    """A column with a changed type.

    Attributes:
        name: name in the source
        before: Arrow type in the published snapshot
        now: Arrow type in this one
    """

    name: str
    before: str
    now: str


class SchemaChange(Record):
    """A column of a published table that changed.

    Attributes:
        table: the table, without the prefix of the catalog; null for a key column, which all tables have
        column: as published
        before: Hive type in the published table; null if the column is new
        now: Hive type in this run; null if the column was removed
    """

    table: str | None
    column: str
    before: str | None
    now: str | None

    @property
    def breaking(self) -> bool:
        """Whether the change breaks queries on the published table: a removed column, a changed type or a key."""
        return self.before is not None or self.table is None

    @property
    def text(self) -> str:
        """The change in words, such as `people_1.age changed from bigint to string`."""
        name = f"key column {self.column}" if self.table is None else f"{self.table}.{self.column}"
        if self.before is None:
            return f"{name} is new"
        return f"{name} was removed" if self.now is None else f"{name} changed from {self.before} to {self.now}"


class KeyOverlap(Record):
    """Distinct keys of two snapshots; keys with a NULL do not count.

    Attributes:
        both: keys in both
        only_now: keys that the published snapshot does not have
        only_before: keys that only the published snapshot has
        share: share of the published keys that this snapshot has too, 0 to 1; null if none was published
    """

    both: int
    only_now: int
    only_before: int
    share: float | None


class Drift(Record):
    """Differences from the snapshot that was published when this one was verified.

    Attributes:
        run_id: the published run
        snapshot_dt: its snapshot
        rows_before: rows of the published snapshot
        rows: rows of this one
        rows_changed_percent: difference in percent of the published rows
        new_columns: columns of the source that the published snapshot does not have
        vanished_columns: columns that only the published snapshot has
        changed_types: columns of both with a changed type
        schema_changes: changed columns of the tables that both runs have
        removed_tables: published tables of the dataset that the mapping no longer names
        null_shares: columns of both whose footers count NULLs, in the order of this snapshot
        null_shares_unknown: number of the other columns of both
        keys: overlap of the keys; null if `quality.drift` is `counts` or the keys were not compared
        keys_not_compared: reason why the keys were not compared
    """

    run_id: str
    snapshot_dt: str
    rows_before: int
    rows: int
    rows_changed_percent: float
    new_columns: tuple[str, ...] = ()
    vanished_columns: tuple[str, ...] = ()
    changed_types: tuple[TypeChange, ...] = ()
    schema_changes: tuple[SchemaChange, ...] = ()
    removed_tables: tuple[str, ...] = ()
    null_shares: tuple[NullShare, ...] = ()
    null_shares_unknown: int = 0
    keys: KeyOverlap | None = None
    keys_not_compared: str | None = None

    def _repr_html_(self) -> str:
        """Return the differences for a notebook."""
        rows = [("rows", f"{self.rows_before:,}", f"{self.rows:,}", f"{self.rows_changed_percent:.1f} %")]
        rows += [("new column", "", name, "") for name in self.new_columns]
        rows += [("removed column", name, "", "") for name in self.vanished_columns]
        rows += [(f"type of {change.name}", change.before, change.now, "") for change in self.changed_types]
        rows += [
            (f"NULLs in {share.name}", f"{share.before:.1%}", f"{share.now:.1%}", "")
            for share in self.null_shares
            if abs(share.now - share.before) >= _NOTABLE_SHARE
        ]
        if self.keys is not None:
            rows.append(("keys", f"{self.keys.only_before:,} removed", f"{self.keys.only_now:,} new", ""))
        title = f"Compared with run {self.run_id}, snapshot {self.snapshot_dt}"
        return html_table(("difference", "published", "this snapshot", "change"), rows, title)


class KeyCounts(NamedTuple):
    """Distinct keys of one bucket: in both runs, only in this one, only in the published one."""

    both: int
    only_now: int
    only_before: int
