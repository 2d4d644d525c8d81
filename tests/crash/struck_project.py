"""A project whose commands run in forks of one warm process, where a test strikes at exact calls of the C library."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from call_faults import CHANGES, Calls, Mode, Record, build, empty_record, read_record

import bucketwheel
from run_output import unexpected_paths
from runs_support import DATASET, FEBRUARY, JANUARY, Case

# A longer search: CRASH_ROUNDS=10 strikes at ten times as many calls.
FACTOR = float(os.environ.get("CRASH_ROUNDS", "1"))
HERE = Path(__file__).parent
EVERY = CHANGES | Calls.CLOSE | Calls.READ


@dataclass(frozen=True)
class Fault:
    """What happens at which call; 0 is no call."""

    at: int
    mode: Mode
    calls: Calls
    error: int = errno.EIO


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    words: Sequence[str]
    code: int
    stdout: str
    stderr: str
    record: Record

    def __str__(self) -> str:
        return f"{' '.join(self.words)}: struck {self.record}; exit code {self.code}; stderr:\n{self.stderr}"

    def check_words(self) -> None:
        """Check that the command ended in words, and that a failure names a file and says what to do."""
        assert "Traceback" not in self.stderr, str(self)
        assert "Exception ignored" not in self.stderr, str(self)
        assert self.code in (0, 1, 2, 3, 4), str(self)
        if self.code:
            assert "error: " in self.stderr, str(self)
            named = self.stderr.partition("error: ")[2]
            assert any(name in named for name in ("/", "base.yaml", "local.yaml", "conf")), str(self)


class Project:
    """A project whose commands run in forks of one warm process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.case = Case(root / "project", tables=2, rows=300, buckets=4)
        self.case.snapshot(JANUARY)
        conf = self.case.root / "conf"
        conf.mkdir()
        settings = self.case.settings(threads=1).model_dump(mode="json")
        (conf / "base.yaml").write_text(yaml.safe_dump(settings))
        (conf / "local.yaml").touch()
        paths = [Path(bucketwheel.__file__).parents[1], HERE.parent, HERE]
        threads = {
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        }
        self._server = subprocess.Popen(
            [sys.executable, HERE / "fault_server.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                **threads,
                "PYTHONPATH": os.pathsep.join(map(str, paths)),
                "LD_PRELOAD": str(build(root)),
            },
        )
        self.undisturbed("run", DATASET)
        self.case.snapshot(FEBRUARY)
        self.keep("january")
        self.undisturbed("run", DATASET)
        self.expected = self.hashes()
        self.keep("february")

    def close(self) -> None:
        self._server.communicate()

    def command(self, *words: str, fault: Fault = Fault(0, Mode.COUNT, EVERY)) -> Ended:
        record, outputs = self.root / "record", {name: self.root / name for name in ("stdout", "stderr")}
        empty_record(record)
        order: dict[str, Any] = {
            "words": words,
            "directory": str(self.case.root),
            "below": str(self.case.root),
            "record": str(record),
            "fault": [fault.at, fault.mode, fault.error, fault.calls],
            **{name: str(path) for name, path in outputs.items()},
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        texts = {name: path.read_text() for name, path in outputs.items()}
        return Ended(words, code, texts["stdout"], texts["stderr"], read_record(record))

    def undisturbed(self, *words: str) -> Ended:
        ended = self.command(*words)
        assert ended.code == 0, str(ended)
        assert "Traceback" not in ended.stderr, str(ended)
        return ended

    def keep(self, name: str) -> None:
        shutil.copytree(self.case.root, self.root / name, symlinks=True)

    def restore(self, name: str) -> None:
        """Put the project back as it was; catalogs hold absolute paths, so always in the same place."""
        shutil.rmtree(self.case.root)
        shutil.copytree(self.root / name, self.case.root, symlinks=True)

    def strikes(
        self, state: str, words: Sequence[str], rounds: int, mode: Mode, calls: Calls, error: int = errno.EIO
    ) -> Iterator[Ended]:
        """Strike at calls spread over all calls of a command, each time from the same state; yield each end."""
        self.restore(state)
        total = self.undisturbed_count(words, calls)
        wanted = min(total, max(2, round(rounds * FACTOR)))
        places = sorted({1 + number * (total - 1) // (wanted - 1) for number in range(wanted)})
        for place in places:
            yield self._struck(state, words, Fault(place, mode, calls, error))

    def _struck(self, state: str, words: Sequence[str], fault: Fault) -> Ended:
        """Strike at this call; where a command makes a few calls fewer than the one that was counted, at its last."""
        for at in range(fault.at, max(0, fault.at - 10), -1):
            self.restore(state)
            ended = self.command(*words, fault=replace(fault, at=at))
            if ended.record.struck:
                return ended
        raise AssertionError(f"not struck: {ended}")

    def undisturbed_count(self, words: Sequence[str], calls: Calls) -> int:
        ended = self.command(*words, fault=Fault(0, Mode.COUNT, calls))
        assert ended.code == 0, str(ended)
        return ended.record.count

    def begun(self) -> list[str]:
        """Return the ids of the runs of February."""
        return [run_id for run_id in self.case.run_ids() if run_id.startswith(FEBRUARY)]

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the files that the published tables consist of."""
        return self.case.hashes(self.begun()[-1])

    def readers_see(self, *dates: str) -> None:
        """Check that every table is there, complete, and of one of these snapshots."""
        shown = self.case.shown_rows()
        assert set(shown) == {f"{prefix}_{name}" for prefix in ("ext", "bucketed") for name in self.case.names()}
        for name, (marks, rows) in shown.items():
            assert rows == self.case.rows, f"{name} has {rows} rows"
            assert len(marks) == 1, f"{name} mixes {marks}"
            assert marks <= set(dates), f"{name} shows {marks}, not {dates}"
        for prefix in ("ext", "bucketed"):
            together = set().union(*(marks for name, (marks, _) in shown.items() if name.startswith(prefix)))
            assert len(together) == 1, f"the tables {prefix}_* show {together}"

    def check_february(self, dead_lease: bool = False) -> None:
        """Check that the project is as after an undisturbed run of February, whatever happened before.

        The lease of a killed command stays if the commands after it had nothing to do.
        """
        self.readers_see(FEBRUARY)
        assert self.case.snapshot_dt() == FEBRUARY
        assert self.hashes() == self.expected
        self.undisturbed("expire", DATASET, "--keep", "2", "--yes")
        left = unexpected_paths(self.case.target, DATASET)
        assert left in ([], [f"_bucketwheel/{DATASET}/lease.json"] if dead_lease else []), left
        left = [path.name for path in self.case.root.iterdir() if ".catalog.duckdb." in path.name]
        assert left in ([], [".catalog.duckdb.lock"]), left
