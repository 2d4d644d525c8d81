"""Runs when the published run is unknown or differs by too many rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bucketwheel import plugins
from bucketwheel.contracts import CatalogTable, Services
from bucketwheel.errors import CatalogError, MappingError, QualityError
from bucketwheel.runs.drift_records import Drift
from bucketwheel.runs.manifest import Manifest
from bucketwheel.stages import drift
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
    assert case.manifests() == []


def test_limit_is_checked_before_bucketing_and_in_verify(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    january = case.run().manifest
    case.rows = 390
    case.snapshot(FEBRUARY)
    with pytest.raises(QualityError, match=r"390 rows, 30 % more than the 300 of the published run") as refused:
        case.run(quality__max_rows_changed_percent=29.9)
    assert january.run_id in str(refused.value)
    assert [run.run_id for run in case.manifests()] == [january.run_id]
    # Another run may have published while this one wrote its files.
    monkeypatch.setattr("bucketwheel.pipeline.rejections.drift.refusals", lambda *_: [])
    with pytest.raises(QualityError, match="30 % more"):
        case.run(quality__max_rows_changed_percent=29.9)
    assert list(case.manifests()[-1].stages) == ["discover", "split", "size", "bucket"]
    assert case.shown()["bucketed_people_1"] == {JANUARY}
    assert case.run(resume="last", quality__max_rows_changed_percent=30).manifest.status == "finished"
    assert case.shown()["bucketed_people_1"] == {FEBRUARY}


def test_continued_run_is_compared_once_before_bucketing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.run()
    case.rows = 390
    case.snapshot(FEBRUARY)
    february = case.run(["discover", "split", "size"]).manifest.run_id
    compared: list[str] = []
    real = drift.compare

    def compare(manifest: Manifest, services: Services) -> Drift | None:
        compared.append(manifest.run_id)
        return real(manifest, services)

    monkeypatch.setattr(drift, "compare", compare)
    with pytest.raises(QualityError, match=rf"run {february} .* 30 % more .* and --resume last") as refused:
        case.run(["bucket", "verify"], quality__max_rows_changed_percent=29)
    assert compared == [february]
    assert f"--set quality.max_rows_changed_percent=30 --resume {february}" in notes_of(refused.value)
    assert case.hashes(february) == {}


def test_mapping_error_and_exceeded_limit_are_reported_together(case: Case) -> None:
    case.run()
    case.rows = 390
    case.snapshot(FEBRUARY)
    good = case.mapping.read_text()
    case.mapping.write_text(f"{good}people_1,nobody\n")
    with pytest.raises(MappingError, match=r"no column 'nobody'[\s\S]*and snapshot .* 30 % more") as refused:
        case.run(quality__max_rows_changed_percent=29)
    assert notes_of(refused.value).startswith("Fix the mapping, then run again: ")
    assert notes_of(refused.value).endswith("--set quality.max_rows_changed_percent=30")
    assert len(case.manifests()) == 1


def test_limits_of_keys_and_drift_are_reported_together(case: Case) -> None:
    case.run()
    case.rows = 200
    case.snapshot(FEBRUARY, keys=190)
    with pytest.raises(QualityError, match=r"10 rows repeat a key[\s\S]*only 63\.33 % of the keys") as refused:
        case.run(quality__duplicate_keys="error", quality__min_keys_kept_percent=70)
    accepted = ("--set quality.duplicate_keys=warn", "--set quality.min_keys_kept_percent=null")
    assert all(words in notes_of(refused.value) for words in accepted)


def test_publishing_job_warns_of_newer_snapshot(case: Case) -> None:
    case.run()
    case.rows = 390
    case.snapshot(FEBRUARY)
    with pytest.raises(QualityError):
        case.run(["discover", "split", "size", "bucket", "verify"], quality__max_rows_changed_percent=29)
    seen, report = reports()
    case.run(["register"], report=report)
    assert f"of snapshot {JANUARY}, although the source has snapshot {FEBRUARY}" in warnings_in(seen)
