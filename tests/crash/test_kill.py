"""Kill real processes at random moments: the next one must produce the result of an undisturbed run.

Meanwhile a reader process reads every table without pause. It must never see an error, a missing or partial
table, or two snapshots in one table.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from crash_server import CASE

import bucketwheel
from bucketwheel.runs.manifest import Manifest
from run_output import FaultScene, unexpected_paths
from runs_support import DATASET, FEBRUARY, JANUARY, Case

pytestmark = pytest.mark.crash

# A longer search for bad moments: CRASH_KILLS=500 CRASH_SEED=1.
KILLS = int(os.environ.get("CRASH_KILLS", "20"))
SEED = int(os.environ.get("CRASH_SEED", "20250228"))
COLD_KILLS = 3
HERE = Path(__file__).parent


def environment() -> dict[str, str]:
    paths = [Path(bucketwheel.__file__).parents[1], HERE.parent, HERE]
    # A forking process must have no threads of its own.
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **threads, "PYTHONWARNINGS": "error", "PYTHONPATH": os.pathsep.join(map(str, paths))}


class Server:
    """The warm process; see `crash_server.py`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._process = subprocess.Popen(
            [sys.executable, HERE / "crash_server.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def order(self, kill_after: float | None = None, **more: Any) -> tuple[int, float]:
        """Execute a command; return its exit code and duration."""
        order: dict[str, Any] = {"action": "run", "resume": None, "snapshot_dt": FEBRUARY, "root": str(self._root)}
        order |= {"changes": {}, **more}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**order, "kill_after": kill_after}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["code"], answer["seconds"]

    def killed(self, after: float, **more: Any) -> bool:
        """Execute a command and kill it after some seconds; return whether it was killed before it succeeded."""
        code, _ = self.order(kill_after=after, **more)
        assert code in (0, -signal.SIGKILL), f"{more} ended with {code} before it was killed; see stderr"
        return code != 0

    def done(self, **more: Any) -> float:
        """Execute a command undisturbed; return its duration."""
        code, seconds = self.order(**more)
        assert code == 0, f"{more} ended with {code}; see stderr"
        return seconds


class Scene(FaultScene):
    """A project with January published; tests publish February over it repeatedly and kill the runs."""

    def __init__(self, root: Path, server: Server) -> None:
        self.case = Case(root, **CASE)
        self.server = server
        self.case.snapshot(JANUARY)
        server.done(snapshot_dt=JANUARY)
        (self.january,) = self.case.store().ids(DATASET)
        self.case.snapshot(FEBRUARY)
        self.walls = []
        for _ in range(3):
            self.walls.append(server.done())
            manifest = self.manifest()
            self.expected = self.hashes()
            self.back()
        publishing = sum(manifest.stages[name].seconds for name in ("register", "ctas"))
        self.wall = sorted(self.walls)[1]
        self.published_from = max(self.wall - publishing, self.wall / 4)

    def begun(self) -> str | None:
        """The manifest of the February run, if there is one."""
        return next((run_id for run_id in self.case.store().ids(DATASET) if run_id != self.january), None)

    def state(self) -> str:
        """The progress of the February run."""
        run_id = self.begun()
        return list(self.case.store().load(DATASET, run_id).stages)[-1] if run_id else "nothing"

    def back(self) -> None:
        """Publish January again and delete the metadata of February; its files stay, because readers may use them."""
        self.server.done(action="rollback", run_id=self.january)
        assert self.shown() == {JANUARY}
        shutil.rmtree(Path(self.case.store().metadata_directory(DATASET)) / "withdrawn", ignore_errors=True)
        for run_id in self.case.store().all_run_ids(DATASET):
            if run_id != self.january:
                shutil.rmtree(self.case.manifest_file(run_id).parent)

    def shown(self) -> set[str]:
        return set().union(*self.case.shown().values())

    def manifest(self) -> Manifest:
        """See `FaultScene`."""
        run_id = self.begun()
        assert run_id is not None
        return self.case.store().load(DATASET, run_id)

    def hashes(self) -> dict[str, str]:
        """See `FaultScene`."""
        return self.case.hashes(self.manifest().run_id)

    def expected_hashes(self) -> dict[str, str]:
        """See `FaultScene`."""
        return self.expected

    def unexpected(self) -> list[str]:
        """See `FaultScene`."""
        return unexpected_paths(self.case.target, DATASET)

    def check_tables(self) -> None:
        """Check that all readers see February."""
        assert self.shown() == {FEBRUARY}
        assert self.case.snapshot_dt() == FEBRUARY
        metadata = self.case.target / "_bucketwheel" / DATASET
        assert {path.name for path in metadata.iterdir()} - {"lease.new"} == {"runs", "lease.lock"}


@contextmanager
def reading(case: Case) -> Iterator[subprocess.Popen[str]]:
    names = ",".join(f"{prefix}_{name}" for prefix in ("ext", "bucketed") for name in case.names())
    with subprocess.Popen(
        [sys.executable, HERE / "crash_reader.py", case.catalog, str(case.rows), names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        yield reader
        output, _ = reader.communicate("enough\n")
        assert reader.returncode == 0, "the reader saw something wrong; see stderr"
        summary = json.loads(output)
        assert summary["seen"] == [JANUARY, FEBRUARY]
        assert summary["rounds"] >= 10


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("crash")
    with Server(root) as server:
        yield Scene(root, server)


def moments(scene: Scene, chance: random.Random) -> Iterator[float]:
    """Yield evenly spread moments: half of them before the first table is published, half after."""
    while True:
        for number in range(15):
            share = (number + chance.random()) / 15
            yield share * scene.published_from
            yield scene.published_from + share * (scene.wall - scene.published_from)


def test_run_killed_at_any_moment_can_be_resumed(scene: Scene) -> None:
    chance = random.Random(SEED)
    states: Counter[str] = Counter()
    with reading(scene.case) as reader:
        # Where the machine is fast at times, a moment comes when all is done; half of them have to hit.
        for moment in islice(moments(scene, chance), 2 * KILLS):
            if scene.server.killed(moment):
                states[scene.state()] += 1
                if chance.random() < 0.25:
                    hit = scene.server.killed(chance.uniform(0, scene.wall / 2), resume=resume(scene))
                    states[scene.state()] += hit
                scene.server.done(resume=resume(scene))
            scene.check()
            if chance.random() < 0.25:
                scene.server.killed(chance.uniform(0, scene.wall / 2), action="rollback", run_id=scene.january)
            scene.back()
            assert reader.poll() is None, "the reader saw something wrong; see stderr"
            if states.total() >= KILLS:
                break
    assert states.total() >= KILLS
    # A busy machine shifts the moments; test_call_faults.py kills at every kind of call.
    assert len(+states) >= 2, states


def resume(scene: Scene) -> str | None:
    return "last" if scene.begun() else None


def test_run_killed_while_spilling_leaves_no_spill_files(scene: Scene) -> None:
    spill = scene.case.root / "spill"
    changes = {"memory": "1KB", "storage__spill_directory": str(spill)}
    wall = scene.server.done(changes=changes)
    manifest = scene.manifest()
    assert manifest.bucket.spilled_bytes > 100_000
    # Only the stage bucket spills.
    duration = manifest.stages["bucket"].seconds
    names = list(manifest.stages)
    start = wall - sum(manifest.stages[name].seconds for name in names[names.index("bucket") :])
    scene.back()
    spill.rmdir()
    chance, within = random.Random(SEED), 0
    for number in chance.sample(range(20), 20) * 2:
        moment = start + duration * (number + chance.random()) / 20
        if not scene.server.killed(moment, changes=changes):
            # The machine was busier when the run was timed.
            start, duration = start * 0.9, duration * 0.9
        else:
            # The run creates the directory when the scan begins and records buckets after the scan.
            within += spill.exists() and scene.state() == "size"
        assert not spill.exists() or list(spill.iterdir()) == []
        scene.server.done(resume=resume(scene), changes=changes)
        scene.check()
        scene.back()
        spill.rmdir()
        if within == 2:
            break
    assert within == 2


def test_killed_command_is_resumed_by_next_command(scene: Scene) -> None:
    chance = random.Random(SEED)
    conf = scene.case.root / "conf"
    conf.mkdir()
    (conf / "base.yaml").write_text(yaml.safe_dump(scene.case.settings().model_dump(mode="json")))
    (conf / "local.yaml").touch()
    command = [sys.executable, "-m", "bucketwheel", "run", DATASET, "--conf", str(conf)]

    def start(*more: str) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen([*command, *more], stdout=quiet, stderr=quiet, env=environment())

    begun = time.monotonic()
    assert start().wait(120) == 0
    wall = time.monotonic() - begun
    scene.check()
    scene.back()
    hits = 0
    with reading(scene.case):
        while hits < COLD_KILLS:
            # The first half of the time goes into loading Python's modules.
            moment = wall * chance.uniform(0.4 + hits * 0.5 / COLD_KILLS, 0.5 + hits * 0.5 / COLD_KILLS)
            process = start()
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.kill()
                hits += process.wait() == -signal.SIGKILL
            more = ["--resume", "last"] if scene.begun() else []
            assert start(*more).wait(120) == 0
            scene.check()
            scene.back()


def test_rerun_after_kills_changes_nothing(scene: Scene) -> None:
    scene.server.done()
    before = scene.case.tree()
    scene.server.done()
    assert scene.case.tree() == before
    scene.back()
