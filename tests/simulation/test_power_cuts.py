"""Power cuts at each flush of a command on local disk: tables keep their files, and the next command recovers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bucketwheel.catalogs.duckdb import DuckdbCatalog
from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.rollback import rollback
from bucketwheel.storage import durable, local
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case
from simulation.disk import Disk


class Scene:
    """A case whose state is restored before each power cut."""

    def __init__(self, root: Path) -> None:
        self.case = Case(root / "disk", rows=40, buckets=2)
        self.ids = []
        for month in (JANUARY, FEBRUARY):
            self.case.snapshot(month)
            self.ids.append(self.case.run().manifest.run_id)
        self.case.snapshot(MARCH)
        self._saved = root / "saved"
        self._root = root
        shutil.copytree(self.case.root, self._saved)
        self._rounds = 0

    def disk(self, cut: int, seed: int = 0) -> Disk:
        """Restore the state and return its disk."""
        shutil.rmtree(self.case.root)
        shutil.copytree(self._saved, self.case.root)
        self._rounds += 1
        return Disk(self.case.root, self._root / f"store{self._rounds}", seed, cut)

    def files(self) -> dict[str, dict[str, bytes]]:
        """Return the files of each table of the catalog, by name."""
        return {
            table.name: {path.name: path.read_bytes() for path in sorted(Path(table.location).iterdir())}
            for table in DuckdbCatalog(self.case.settings()).tables()
        }

    def check_files(self) -> None:
        """Check that each table of the catalog has all files of its run, whole."""
        for table in DuckdbCatalog(self.case.settings()).tables():
            expected = {f"{file.name}" for file in Path(table.location).iterdir()}
            assert len(expected) == int(table.parameters["numFiles"]), table.name
        assert {frozenset(marks) for marks in self.case.shown().values()} <= {
            frozenset({month}) for month in (JANUARY, FEBRUARY, MARCH)
        }

    def check_recovery(self) -> None:
        """Check that a run repairs everything, and that `expire` leaves nothing of unknown runs."""
        (self.case.target / "_bucketwheel" / DATASET / "lease.json").unlink(missing_ok=True)
        self.case.run(force=True)
        assert set().union(*self.case.shown().values()) == {MARCH}
        expire(self.case.settings(), keep=1)
        known = set(self.case.run_ids())
        data = {path.name for table in self.case.names() for path in (self.case.target / DATASET / table).iterdir()}
        assert data <= known
        runs = self.case.target / "_bucketwheel" / DATASET / "runs"
        assert {path.name for path in runs.iterdir()} <= known


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("power"))


def commands(scene: Scene) -> dict[str, Callable[[], Any]]:
    settings = scene.case.settings()
    return {
        "run": partial(scene.case.run),
        "rollback": partial(rollback, settings, scene.ids[0]),
        "expire": partial(expire, settings, keep=1),
    }


@pytest.mark.parametrize(("name", "every"), [("run", 4), ("rollback", 2), ("expire", 2)])
def test_power_cut_at_a_flush_loses_nothing_published(scene: Scene, name: str, every: int) -> None:
    command = commands(scene)[name]
    for cuts in count(1):
        disk = scene.disk(cuts * every - 1)
        with disk.plugged():
            command()
        if not disk.was_cut:
            break
        scene.check_files()
        if cuts % 2:
            scene.check_recovery()
    assert cuts > 3


def test_power_cut_without_flush_of_the_file_system_is_found(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "flush_below", lambda _: None)
    monkeypatch.setattr(durable, "flush_below", lambda _: None)
    disk = scene.disk(0)
    with disk.plugged():
        scene.case.run()
    # The last flushes come after the tables were published. A slow run renews its lease, which takes more flushes.
    for flushes in range(disk.flushes, 0, -1):
        disk = scene.disk(flushes)
        with disk.plugged():
            scene.case.run()
        if disk.was_cut:
            break
    assert disk.was_cut
    with pytest.raises((AssertionError, duckdb.Error, FileNotFoundError)):
        scene.check_files()
