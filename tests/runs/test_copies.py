"""Final tables copied by a SQL engine: verified, published at once, or not at all."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from copies_support import Copying, failed, grown

from bucketwheel.contracts import CatalogTable, Progress, Statement, TableCopy
from bucketwheel.errors import ExecutorBusyError, ExecutorDeniedError, ExecutorError, TooManyWritersError
from fake_executor import FakeExecutor
from fake_sql import Plan
from runs_support import DATASET, FEBRUARY, JANUARY, notes_of


def test_run_publishes_copies_and_drops_temporary_tables(copying: Copying) -> None:
    outcome = copying.run()
    run_id = outcome.manifest.run_id
    result = copying.result(run_id)
    assert result.method == "fake"
    assert copying.leftovers() == []
    assert {table.name: table.location for table in result.tables} == copying.final()
    for copy, name in zip(result.copies, copying.names(), strict=True):
        assert copy.location.startswith(f"{copying.target}/{DATASET}/{name}/ctas-{run_id}-")
        assert (copy.table, copy.rows, copy.files, copy.sorted) == (name, 300, 4, True)
        assert (copy.bytes_scanned, copy.query_id[:5]) == (2, "fake-")
        table = copying.engine.catalog.get(f"bucketed_{name}")
        assert table is not None
        assert table.location == copy.location
        assert (table.parameters["numFiles"], table.parameters["totalSize"]) == ("4", str(copy.bytes))
        assert (table.bucket_count, table.sorted, table.run_id) == (4, True, run_id)
    assert copying.snapshot_dt() == JANUARY


def test_rerun_copies_nothing(copying: Copying) -> None:
    copying.run()
    statements = len(copying.engine.statements)
    assert not copying.run().changed
    assert len(copying.engine.statements) == statements


def test_changed_method_replaces_only_final_tables(copying: Copying) -> None:
    promoted = copying.run(ctas__method="promote")
    assert copying.copied() == []
    copied = copying.run()
    assert copied.manifest.run_id == promoted.manifest.run_id
    assert copied.changed
    assert {"/ctas-" in location for location in copying.final().values()} == {True}
    copying.run(ctas__method="promote")
    assert {"/ctas-" in location for location in copying.final().values()} == {False}
    copying.run()
    assert {"/ctas-" in location for location in copying.final().values()} == {True}
    assert len(copying.copied()) == 2


def test_resume_after_failed_copy_repeats_only_that_copy(copying: Copying) -> None:
    copying.engine.plan('_people_2"\nWITH', Plan("HIVE_TOO_MANY_OPEN_PARTITIONS", "Exceeded limit"))
    error = failed(copying, TooManyWritersError, ctas__concurrency=1)
    assert error.exit_code == 2
    assert "--resume" in notes_of(error)
    assert copying.final() == {}
    assert copying.leftovers() == []
    assert len(copying.directories("people_2")) == 1
    first = copying.copied()
    copying.run(resume="last")
    assert len(copying.copied()) == len(first) + 1
    assert sorted(copying.final()) == ["bucketed_people_1", "bucketed_people_2"]


def test_failed_copy_keeps_published_tables(copying: Copying) -> None:
    copying.run()
    before = copying.final()
    copying.snapshot(FEBRUARY)
    copying.engine.plan("tmp_bucketwheel", Plan("GENERIC_INTERNAL_ERROR", "broken"))
    failed(copying, ExecutorError)
    assert copying.final() == before
    assert copying.snapshot_dt() == JANUARY
    copying.run(resume="last")
    assert set(copying.final().values()).isdisjoint(before.values())


def test_busy_engine_is_retried_in_new_directory(copying: Copying) -> None:
    copying.engine.plan("CREATE TABLE", Plan("QUERY_QUEUE_FULL", "full"), times=2)
    copying.run(ctas__concurrency=1)
    assert len(copying.copied()) == 4
    assert len(set(copying.copied())) == 4
    assert [len(copying.directories(name)) for name in copying.names()] == [2, 2]


def test_busy_engine_is_called_at_most_attempts_times(copying: Copying) -> None:
    copying.engine.plan("CREATE TABLE", Plan("QUERY_QUEUE_FULL", "full"), times=20)
    failed(copying, ExecutorBusyError, ctas__concurrency=1, ctas__attempts=2)
    assert len(copying.copied()) == 2


def test_copy_with_lost_rows_is_refused(copying: Copying) -> None:
    copying.engine.lose_rows = True
    error = failed(copying, ExecutorError)
    assert "it has rows and key checksums" in str(error)
    assert copying.final() == {}
    assert copying.leftovers() == []
    assert len(copying.directories()) == 1
    manifest = copying.manifests()[-1]
    assert "verify" in manifest.stages
    copying.engine.lose_rows = False
    copying.run(resume="last")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"bucket_count": 2}, "created buckets 2, requested 4"),
        ({"columns": (("customer_user_id", "string"),)}, "created columns"),
        ({"bucket_columns": ()}, "created bucket columns"),
        ({"parameters": {"bucketing_version": "2"}}, "created bucketing_version 2, requested 1"),
        ({"location": "/elsewhere"}, "created location /elsewhere"),
    ],
)
def test_copy_with_other_definition_is_refused(
    copying: Copying, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], text: str
) -> None:
    real = copying.engine.catalog.get

    def get(name: str) -> CatalogTable | None:
        created = real(name)
        return replace(created, **change) if created and name.startswith("tmp_") else created

    monkeypatch.setattr(copying.engine.catalog, "get", get)
    assert text in str(failed(copying, ExecutorError))
    assert copying.final() == {}


def test_copy_fails_when_engine_uses_another_catalog(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> None:
    real = copying.engine.catalog.get
    monkeypatch.setattr(copying.engine.catalog, "get", lambda name: None if name.startswith("tmp_") else real(name))
    monkeypatch.setattr(FakeExecutor, "copy", lambda *_: Statement("q", (), 0, 0))
    assert "both must use the same catalog" in str(failed(copying, ExecutorError))


def test_copies_respect_concurrency_limit(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> None:
    copying = grown(copying, 6)
    running, most, lock = 0, 0, threading.Lock()
    real = FakeExecutor.copy

    def counted(self: FakeExecutor, copy: TableCopy, stop: threading.Event) -> Statement:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.05)
        try:
            return real(self, copy, stop)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(FakeExecutor, "copy", counted)
    copying.run(ctas__concurrency=2)
    assert most == 2
    assert len(copying.final()) == 6


def test_copy_error_is_of_failed_copy_not_of_cancelled_ones(copying: Copying) -> None:
    copying = grown(copying, 4)
    copying.engine.plans = [(f'_people_{number}"\nWITH', Plan(hang=True)) for number in (1, 2, 4)]
    copying.engine.plans.append(('_people_3"\nWITH', Plan("PERMISSION_DENIED", "Access Denied: no s3:PutObject")))
    error = failed(copying, ExecutorDeniedError)
    assert "copy of ext_people_3" in str(error)
    assert copying.leftovers() == []


def test_interrupt_cancels_running_copies(copying: Copying) -> None:
    copying.engine.plan('_people_2"\nWITH', Plan(hang=True))

    def interrupt(step: Progress) -> None:
        if (step.stage, step.state) == ("ctas", "advanced"):
            deadline = time.monotonic() + 30
            # Wait until the other copy hangs.
            while copying.engine.plans and time.monotonic() < deadline:
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copying.run(report=interrupt)
    assert copying.final() == {}
    assert copying.leftovers() == []
    assert len(copying.directories("people_2")) == 1
    copying.run(resume="last")
    assert len(copying.copied()) == 3
