"""Runs when the published run is unknown or differs by too many rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bucketwheel import plugins
from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import CatalogError, QualityError
from memory_catalog import MemoryCatalog
from runs_support import FEBRUARY, JANUARY, Case, notes_of, reports, warnings_in


class Unreachable(MemoryCatalog):
    """A catalog that fails to list its tables but accepts new ones."""

    closed = True

    def tables(self) -> Sequence[CatalogTable]:
        if self.closed:
            raise CatalogError("the catalog is away")
        return super().tables()


def test_unreachable_catalog_gives_warning_without_limit(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "catalog", lambda _: Unreachable())
    seen, report = reports()
    stages = ["discover", "split", "size", "bucket", "verify"]
    outcome = case.run(stages, report=report, later=())
    assert (outcome.manifest.verify.drift, outcome.manifest.status) == (None, "finished")
    assert "not compared with the published run: the catalog is away" in warnings_in(seen)


def test_unreachable_catalog_fails_run_with_limit(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "catalog", lambda _: Unreachable())
    stages = ["discover", "split", "size", "bucket", "verify"]
    with pytest.raises(CatalogError) as refused:
        case.run(stages, quality__max_rows_changed_percent=20)
    assert "--set quality.max_rows_changed_percent=null" in notes_of(refused.value)
    assert list(case.manifests()[-1].stages) == ["discover"]


def test_limit_is_checked_before_bucketing_and_in_verify(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    january = case.run().manifest
    case.rows = 390
    case.snapshot(FEBRUARY)
    with pytest.raises(QualityError, match=r"390 rows, 30 % more than the 300 of the published run") as refused:
        case.run(quality__max_rows_changed_percent=29.9)
    assert january.run_id in str(refused.value)
    february = case.manifests()[-1]
    assert (february.status, list(february.stages)) == ("failed", ["discover"])
    assert case.hashes(february.run_id) == {}
    # Another run may have published while this one wrote its files.
    monkeypatch.setattr("bucketwheel.pipeline.run.drift.refuse_changes", lambda *_: None)
    with pytest.raises(QualityError, match="30 % more"):
        case.run(resume="last", quality__max_rows_changed_percent=29.9)
    assert list(case.manifests()[-1].stages) == ["discover", "split", "size", "bucket"]
    assert case.shown()["bucketed_people_1"] == {JANUARY}
    assert case.run(resume="last", quality__max_rows_changed_percent=30).manifest.status == "finished"
    assert case.shown()["bucketed_people_1"] == {FEBRUARY}
