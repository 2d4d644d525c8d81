"""Copies that a SQL engine made, later on: shown again, deleted, and what is left of broken-off ones."""

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


def test_what_a_killed_try_left_is_removed_by_the_next_one(copying: Copying) -> None:
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


def test_going_back_shows_the_copies_of_the_earlier_run(copying: Copying) -> None:
    first = copying.run().manifest.run_id
    before = copying.final()
    copying.snapshot(FEBRUARY)
    copying.run()
    rollback(copying.settings(), first)
    assert copying.final() == before
    assert copying.note.read_text() == JANUARY
    statements = len(copying.engine.statements)
    copying.run()
    assert copying.note.read_text() == FEBRUARY
    assert len(copying.engine.statements) == statements


def test_going_back_is_refused_where_files_of_a_copy_are_gone(copying: Copying) -> None:
    first = copying.run().manifest.run_id
    next(iter(Path(copying.final()["bucketed_people_2"]).iterdir())).unlink()
    copying.snapshot(FEBRUARY)
    copying.run()
    before = copying.final()
    with pytest.raises(VerificationError, match=f"ctas-{first}-.*holds 3 files"):
        rollback(copying.settings(), first)
    assert copying.final() == before


def test_copies_expire_with_their_run(copying: Copying) -> None:
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


def test_a_run_whose_copies_are_shown_is_kept_though_nothing_else_of_it_is(copying: Copying) -> None:
    first = copying.run().manifest.run_id
    copying.snapshot(FEBRUARY)
    copying.run(["discover", "split", "size", "bucket", "verify", "register"])
    assert expire(copying.settings(), keep=1) == []
    assert copying.store().ids(DATASET)[0] == first


def test_what_a_broken_off_copy_left_does_not_keep_a_run_and_expires_with_it(copying: Copying) -> None:
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


def test_copies_where_the_engine_chose_the_place_expire_too(copying: Copying) -> None:
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
