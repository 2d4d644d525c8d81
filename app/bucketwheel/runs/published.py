"""Record in `metadata/tables.json` of the run and snapshot of each table, for other jobs."""

from __future__ import annotations

from collections.abc import Mapping
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
    """The final tables of a dataset by name in the mapping.

    `snapshot_dt` is the oldest snapshot among the final tables, as in `snapshot_dt.txt`.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    dataset: str
    snapshot_dt: str
    tables: Mapping[str, PublishedTableRecord]
