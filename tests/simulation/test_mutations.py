"""The simulation finds known faults: each test takes one safeguard away and expects a violation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from bucketwheel.catalogs import definitions, publish
from bucketwheel.catalogs.updates import Updates
from bucketwheel.contracts import Services
from bucketwheel.pipeline import expire, services
from simulation.schedules import FailedScheduleError, simulate

_SEEDS = range(1000)


class NoCheck:
    """A fence that never looks at the lease."""

    @contextmanager
    def guard(self) -> Iterator[None]:
        yield


def first_failure(*names: str) -> str:
    """Return the first failed schedule of these commands in a small range, in words; fail if all succeed."""
    for seed in _SEEDS:
        try:
            simulate(seed, names=names)
        except FailedScheduleError as error:
            return str(error)
    pytest.fail(f"none of {len(_SEEDS)} schedules finds the fault")


def test_expire_without_claim_and_second_look_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def delete(services: Services, run_id: str, _before: Any) -> list[expire.Expired]:
        return [expire._delete(replace(services, fence=NoCheck()), run_id)]

    monkeypatch.setattr(expire, "_delete_claimed", delete)
    monkeypatch.setattr(publish, "claim_shown", lambda *_: None)
    failure = first_failure("expire-1", "rollback-january")
    assert "deleted target" in failure or "is missing there" in failure


def test_late_writer_that_undoes_a_publication_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def undo(updates: Updates, cause: BaseException) -> bool:
        updates._fence = NoCheck()
        return careful(updates, cause)

    careful = Updates.undo
    monkeypatch.setattr(Updates, "undo", undo)
    monkeypatch.setattr(services, "settle", lambda _: None)
    # Without its own id, a publication does not change the versions of tables that are right already.
    monkeypatch.setattr(definitions, "is_s3", lambda _: False)
    failure = first_failure("rollback-january", "rollback-february")
    assert "a later holder, had reported success" in failure


def test_expire_that_deletes_metadata_first_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    delete = expire._delete

    def careless(services: Services, run_id: str) -> expire.Expired:
        services.runs.clear(services.dataset, run_id)
        return delete(services, run_id)

    monkeypatch.setattr(expire, "_delete", careless)
    monkeypatch.setattr(expire, "unknown_runs", lambda *_: {})
    failure = first_failure("expire-1", "rollback-february")
    assert "is left over" in failure
