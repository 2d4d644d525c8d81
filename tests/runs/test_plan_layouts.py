"""Advice of `plan` about layouts: what it compares with earlier runs and other datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bucketwheel.errors import StorageError
from bucketwheel.pipeline.plan import Plan, plan
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
