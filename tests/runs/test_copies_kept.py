"""Rollback and expiry of copies, and leftovers of interrupted copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from copies_support import Copying

from bucketwheel.errors import VerificationError
from bucketwheel.executors.copy_store import temporary_prefix
from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.rollback import rollback
from runs_support import DATASET, FEBRUARY, JANUARY


def test_ctas_removes_leftovers_of_killed_attempt(copying: Copying) -> None:
    outcome = copying.run(["discover", "split", "size", "bucket", "verify", "register"])
    run_id = outcome.manifest.run_id
    prefix = temporary_prefix(run_id)
    shown = copying.engine.catalog.get("ext_people_1")
    assert shown is not None
    orphan = copying.target / DATASET / "people_1" / f"ctas-{run_id}-aaaaaa"
    defined = copying.target / DATASET / "people_1" / f"ctas-{run_id}-bbbbbb"
    for place in (orphan, defined):
        place.mkdir()
        (place / "000000_0").write_bytes(b"half")
    theirs = replace(shown, name="tmp_bucketwheel_theirs", location="/theirs", parameters={}, version=None)
    copying.engine.catalog.put(theirs, None)
    copying.engine.catalog.put(replace(theirs, name=f"{prefix}bbbbbb_people_1", location=str(defined)), None)
    copying.run(["ctas"])
    assert not orphan.exists()
    assert not defined.exists()
    assert copying.leftovers() == ["tmp_bucketwheel_theirs"]


def test_rollback_publishes_copies_of_earlier_run(copying: Copying) -> None:
    first = copying.run().manifest.run_id
    before = copying.final()
    copying.snapshot(FEBRUARY)
    copying.run()
    rollback(copying.settings(), first)
    assert copying.final() == before
    assert copying.snapshot_dt() == JANUARY
    statements = len(copying.engine.statements)
    copying.run(force=True)
    assert copying.snapshot_dt() == FEBRUARY
    assert len(copying.engine.statements) == statements


def test_rollback_is_refused_when_copied_file_is_missing(copying: Copying) -> None:
    first = copying.run().manifest.run_id
    next(iter(Path(copying.final()["bucketed_people_2"]).iterdir())).unlink()
    copying.snapshot(FEBRUARY)
    copying.run()
    before = copying.final()
    with pytest.raises(VerificationError, match=f"ctas-{first}-.*contains 3 files"):
        rollback(copying.settings(), first)
    assert copying.final() == before


def test_expire_deletes_copies_with_their_run(copying: Copying) -> None:
    first = copying.run().manifest.run_id
    kept = copying.run().manifest
    assert kept.run_id == first
    sizes = sum(path.stat().st_size for path in (copying.target / DATASET).glob("*/*/*.parquet"))
    sizes += sum(path.stat().st_size for path in (copying.target / DATASET).glob("*/ctas-*/*_by_sql"))
    copying.snapshot(FEBRUARY)
    second = copying.run().manifest.run_id
    (expired,) = expire(copying.settings(), keep=1)
    assert (expired.run_id, expired.bytes) == (first, sizes)
    assert all(second in name for name in copying.directories())
    assert len(copying.directories()) == 2


def test_expire_keeps_run_with_published_copies_only(copying: Copying) -> None:
    first = copying.run().manifest.run_id
    copying.snapshot(FEBRUARY)
    copying.run(["discover", "split", "size", "bucket", "verify", "register"])
    assert expire(copying.settings(), keep=1) == []
    assert copying.store().ids(DATASET)[0] == first


def test_expire_deletes_leftovers_of_interrupted_copy(copying: Copying) -> None:
    first = copying.run().manifest.run_id
    shown = copying.engine.catalog.get("ext_people_1")
    assert shown is not None
    place = copying.target / DATASET / "people_1" / f"ctas-{first}-cccccc"
    place.mkdir()
    left = replace(shown, name=f"{temporary_prefix(first)}cccccc_people_1", location=str(place), parameters={})
    copying.engine.catalog.put(replace(left, version=None), None)
    copying.snapshot(FEBRUARY)
    copying.run()
    assert [run.run_id for run in expire(copying.settings(), keep=1)] == [first]
    assert copying.leftovers() == []
    assert not place.exists()


def test_expire_deletes_copies_in_location_chosen_by_engine(copying: Copying) -> None:
    theirs = copying.target / "athena" / "tables" / "not-ours"
    theirs.mkdir(parents=True)
    copying.engine.enforced = f"{copying.target}/athena"
    copying.executor.chooses_location = True
    copying.run()
    places = [Path(place) for place in copying.final().values()]
    assert {place.parent for place in places} == {theirs.parent}
    copying.snapshot(FEBRUARY)
    copying.run()
    assert all(place.exists() for place in places)
    expire(copying.settings(), keep=1)
    assert not any(place.exists() for place in places)
    assert len(list(theirs.parent.iterdir())) == 3
