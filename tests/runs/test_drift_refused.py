"""What becomes of a run where the published one is not known, or differs by too many rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bucketwheel import plugins
from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import CatalogError, QualityError
from memory_catalog import MemoryCatalog
from runs_support import FEBRUARY, JANUARY, Case, notes_of, reports, warnings_in


class Unreachable(MemoryCatalog):
    """A catalog that shows nothing to those who only look, and takes tables."""

    closed = True

    def tables(self) -> Sequence[CatalogTable]:
        if self.closed:
            raise CatalogError("the catalog is away")
        return super().tables()


def test_without_a_catalog_files_are_verified_all_the_same(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "catalog", lambda _: Unreachable())
    seen, report = reports()
    stages = ["discover", "split", "size", "bucket", "verify"]
    done = case.run(stages, report=report)
    assert (done.manifest.verify.drift, done.manifest.status) == (None, "finished")
    assert "not compared with what is published: the catalog is away" in warnings_in(seen)


def test_with_a_limit_what_cannot_be_judged_is_not_published(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "catalog", lambda _: Unreachable())
    stages = ["discover", "split", "size", "bucket", "verify"]
    with pytest.raises(CatalogError) as refused:
        case.run(stages, quality__max_rows_changed_percent=20)
    assert "--set quality.max_rows_changed_percent=null" in notes_of(refused.value)
    assert list(case.manifests()[-1].stages) == ["discover"]


def test_a_limit_refuses_before_anything_is_written_and_again_after(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    january = case.run().manifest
    case.rows = 390
    case.snapshot(FEBRUARY)
    with pytest.raises(QualityError, match=r"390 rows, 30 % more than the 300 of the published run") as refused:
        case.run(quality__max_rows_changed_percent=29.9)
    assert january.run_id in str(refused.value)
    february = case.manifests()[-1]
    assert (february.status, list(february.stages)) == ("failed", ["discover"])
    assert case.data(february.run_id) == {}
    # What is published may have changed while the files were written.
    monkeypatch.setattr("bucketwheel.pipeline.run.drift.refuse_changed_rows", lambda *_: None)
    with pytest.raises(QualityError, match="30 % more"):
        case.run(resume="last", quality__max_rows_changed_percent=29.9)
    assert list(case.manifests()[-1].stages) == ["discover", "split", "size", "bucket"]
    assert case.shown()["bucketed_people_1"] == {JANUARY}
    assert case.run(resume="last", quality__max_rows_changed_percent=30).manifest.status == "finished"
    assert case.shown()["bucketed_people_1"] == {FEBRUARY}
