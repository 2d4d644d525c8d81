"""A permanent reader never notices that tables are published, rolled back and expired."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta

import pyarrow as pa

from .key_tables import KEY
from .lake import Lake, LakeProject, write_snapshot

NAME = "read_all_the_time"
ROUNDS = 20
# More than one: a query that is under way still reads the files that its table had when it began.
KEEP = 4
# The staged table is nothing else to a reader than the final one.
STAGES = ["discover", "split", "size", "bucket", "verify", "ctas"]


def rows_of(number: int) -> int:
    return 60 + number % 7


def publish(project: LakeProject, number: int) -> str:
    """Publish the snapshot of one round and return the id of its run."""
    rows = {KEY: range(rows_of(number)), "round": [number] * rows_of(number)}
    table = pa.table({name: pa.array(values, pa.int64()) for name, values in rows.items()})
    write_snapshot(project.root / "in", table, str(date(2025, 1, 1) + timedelta(number)))
    project.publish(NAME)
    return project.run_ids()[-1]


class Reader:
    """Queries in a thread; counts the rounds it sees and records every result that is not one complete snapshot."""

    def __init__(self, ask: Callable[[], list[list[int]]]) -> None:
        self.seen: Counter[int] = Counter()
        self.wrong: list[object] = []
        self._ask = ask
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._ask()
            except Exception as error:  # noqa: BLE001 whatever it is, the reader should not have got it
                self.wrong.append(error)
                continue
            if len(answer) == 1 and answer[0][1] == rows_of(answer[0][0]):
                self.seen[answer[0][0]] += 1
            else:
                self.wrong.append(answer)


def test_reader_always_sees_one_complete_snapshot(lake: Lake) -> None:
    source = {"source": str(lake.root / NAME / "in"), "key": KEY}
    project = lake.project(NAME, {NAME: source}, buckets={"count": 2}, stages=STAGES, expire={"min_age_hours": 0})
    earlier = publish(project, 0)
    text = f"SELECT round, count({KEY}) FROM {project.table(NAME)} GROUP BY round"
    with Reader(lambda: project.ask(text).rows) as reader:
        for number in range(1, ROUNDS + 1):
            latest = publish(project, number)
            for command in (
                ["rollback", earlier],
                ["unmark", latest],
                ["expire", NAME, "--yes", "--keep", str(KEEP)],
            ):
                result = project.cli(*command)
                assert result.exit_code == 0, result.stderr
            earlier = latest
    assert reader.wrong == []
    assert reader.seen.total() >= ROUNDS
    assert len(reader.seen) > ROUNDS / 2
    assert len(project.run_ids()) == KEEP
    assert len({key.split("/")[-2] for key in project.data(NAME)}) == KEEP
