"""Record in `metadata/tables.json` of the run and snapshot of each table, for other jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION: Final = 1


class _Part(BaseModel):
    # Readers ignore fields that a later version adds.
    model_config = ConfigDict(frozen=True, extra="ignore")


class PublishedTableRecord(_Part):
    """A final table: its name in the catalog, its run and snapshot, and when it was published (UTC, ISO format)."""

    name: str
    run_id: str
    snapshot_dt: str
    location: str
    retired: bool
    published: str


class PublishedRecord(_Part):
    """The final tables of a dataset by name in the mapping: `tables` has those of the first layout.

    `snapshot_dt` is the oldest snapshot among the final tables of all layouts, as in `snapshot_dt.txt`.
    `other_layouts` has the tables of each other layout by its name.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    dataset: str
    snapshot_dt: str
    tables: Mapping[str, PublishedTableRecord]
    other_layouts: Mapping[str, Mapping[str, PublishedTableRecord]] = {}

    def entries(self) -> Iterator[tuple[str, str, PublishedTableRecord]]:
        """Yield the tables of all layouts, each with its layout (empty for the first) and its name in the mapping."""
        for layout, tables in {"": self.tables, **self.other_layouts}.items():
            yield from ((layout, name, entry) for name, entry in tables.items())

    def document(self) -> bytes:
        """Return the content of the file; a dataset with one layout has no `other_layouts`."""
        without = None if self.other_layouts else {"other_layouts"}
        return self.model_dump_json(indent=1, exclude=without).encode() + b"\n"
