"""Advice of `plan` about layouts: what it compares with earlier runs and other datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bucketwheel import plugins
from bucketwheel.doctor import inputs
from bucketwheel.errors import CatalogError, ForeignTableError, StorageError
from bucketwheel.pipeline.plan import Plan, plan
from bucketwheel.pipeline.rollback import rollback
from bucketwheel.pipeline.run import run
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.runs.store import RunStore
from runs_support import DATASET, FEBRUARY, JANUARY, Case

OTHER = "orders"


def planned(case: Case, **changes: Any) -> Plan:
    return plan(case.settings(**changes), RunRequest(DATASET))


@pytest.fixture
def two(case: Case, tmp_path: Path) -> Case:
    """A case whose configuration has a second dataset, with the same key and 8 buckets."""
    orders = Case(tmp_path, dataset=OTHER, buckets=8)
    orders.snapshot(JANUARY)
    orders.run()
    case.changes[f"datasets__{OTHER}"] = orders.settings().datasets[OTHER].model_dump()
    return case


def test_plan_says_that_bucket_count_changed_since_last_month(case: Case) -> None:
    assert planned(case).advice.warnings == ()
    january = case.run().manifest
    case.snapshot(FEBRUARY)
    assert planned(case).advice.warnings == ()
    (warning,) = planned(case, buckets__count=8).advice.warnings
    assert warning.startswith(f"tables bucketed_* change from 4 buckets (run {january.run_id}) to 8 buckets; joins")
    # It is advice: the run works.
    assert case.run(buckets__count=8).manifest.status == "finished"


def test_plan_compares_bucket_count_with_live_run_after_rollback(case: Case) -> None:
    january = case.run().manifest
    case.snapshot(FEBRUARY)
    case.run(buckets__count=8)
    rollback(case.settings(), january.run_id)
    assert planned(case).advice.warnings == ()


def test_plan_compares_bucket_counts_with_other_datasets(two: Case) -> None:
    (warning,) = planned(two).advice.warnings
    assert warning.startswith(f"tables bucketed_* have 4 buckets here and 8 in dataset {OTHER} (run {JANUARY}-")
    assert planned(two, buckets__count=8).advice.warnings == ()


def test_plan_without_access_to_another_dataset_says_so(two: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = RunStore.ids

    def refuse(store: RunStore, dataset: str) -> list[str]:
        if dataset == OTHER:
            raise StorageError("access denied")
        return ids(store, dataset)

    monkeypatch.setattr(RunStore, "ids", refuse)
    assert "layouts not compared with dataset orders: access denied" in planned(two).warnings


def test_plan_warns_of_reader_that_does_not_use_the_layout(case: Case) -> None:
    result = planned(case, buckets__hash="spark", layouts=[{"name": "only"}], readers=["trino", "glue"])
    assert [(part.reader, part.uses) for part in result.advice.readers] == [("trino", "order"), ("glue", "buckets")]
    assert 'trino does not use Spark\'s buckets (the column "$bucket" does not exist there)' in "\n".join(
        result.warnings
    )
    assert "<td>trino</td><td>bucketed_*</td><td>order</td>" in result._repr_html_()


def test_table_of_another_dataset_is_named_before_and_after_it_is_published(case: Case, tmp_path: Path) -> None:
    other = Case(tmp_path, dataset=OTHER)
    other.mapping.write_text(case.mapping.read_text())
    given = other.settings().datasets[OTHER].model_dump()
    case.changes |= {f"datasets__{OTHER}": {**given, "source": str(case.mapping.parent)}, "buckets__count": 1}
    text = f"dataset {OTHER!r} has 2 tables of the same name: people_1, people_2; after one dataset is published"
    result = planned(case)
    assert (result.obstacles, [text in each for each in result.warnings]) == ((), [True])
    (check, _) = inputs.checks(case.settings(), "local", remote_only=False)
    assert (check.look().state, check.look().todo) == ("warning", "Rename the tables in one of the mappings")
    case.run()
    second = plan(case.settings(), RunRequest(OTHER))
    assert "'bucketed_people_1' exists in the catalog and belongs to dataset 'people'" in second.obstacles[0]
    assert second.warnings == ()
    (_, check) = inputs.checks(case.settings(), "local", remote_only=False)
    assert (check.look().state, "catalog.adopt=true" in check.look().todo) == ("failed", True)
    with pytest.raises(ForeignTableError, match="belongs to dataset 'people'"):
        run(case.settings(), RunRequest(OTHER))
    case.mapping.parent.parent.joinpath(OTHER, "mapping.csv").write_text(
        case.mapping.read_text().replace("people_1,", "orders_1,").replace("people_2,", "orders_2,")
    )
    assert plan(case.settings(), RunRequest(OTHER)).obstacles == ()
    assert run(case.settings(), RunRequest(OTHER)).manifest.status == "finished"


def test_plan_without_a_catalog_says_that_tables_were_not_compared(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise CatalogError("access denied")

    monkeypatch.setattr(plugins, "catalog", refuse)
    off = {"quality__drift": "off", "buckets__count": 1}
    assert planned(case, **off).warnings == ("tables not compared with the catalog: access denied",)
    assert planned(case, **off, stages=["discover", "split", "size"]).warnings == ()
