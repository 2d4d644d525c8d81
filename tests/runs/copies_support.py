"""Runs whose executor, SQL engine and catalog all live in this process."""

from __future__ import annotations

from typing import Any

import pytest

from bucketwheel.errors import BucketwheelError
from bucketwheel.runs.manifest import PublishResult
from fake_executor import FakeExecutor
from fake_sql import TinySql
from runs_support import DATASET, JANUARY, Case


class Copying(Case):
    """A case whose final tables are copies by an in-process SQL engine."""

    engine: TinySql
    executor: FakeExecutor

    def final(self) -> dict[str, str]:
        """Return the location of every final table."""
        tables = self.engine.catalog.tables()
        return {table.name: table.location for table in tables if table.name.startswith("bucketed_")}

    def leftovers(self) -> list[str]:
        return [table.name for table in self.engine.catalog.tables() if table.name.startswith("tmp_")]

    def directories(self, table: str = "people_1") -> list[str]:
        return sorted(path.name for path in (self.target / DATASET / table).iterdir())

    def copied(self) -> list[str]:
        return [text for text in self.engine.statements if text.startswith("CREATE TABLE")]

    def result(self, run_id: str) -> PublishResult:
        return self.store().load(DATASET, run_id).ctas


def failed(case: Copying, kind: type[BucketwheelError], **changes: Any) -> BucketwheelError:
    with pytest.raises(kind) as caught:
        case.run(**changes)
    return caught.value


def grown(case: Copying, tables: int) -> Copying:
    case.mapping.unlink()
    (case.mapping.parent / f"snapshot_dt={JANUARY}").rename(case.root / "aside")
    case.tables = tables
    case.__post_init__()
    case.snapshot(JANUARY)
    return case
