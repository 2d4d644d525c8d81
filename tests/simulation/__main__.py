"""Simulate schedules: `python -m simulation --seeds 20000`, or `--seed 123` to see one in words."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from simulation.schedules import FailedScheduleError, quiet_log, simulate

_PER_TASK = 100


def _failures(seeds: range) -> list[tuple[int, str]]:
    quiet_log()
    failed = []
    for seed in seeds:
        try:
            simulate(seed)
        except FailedScheduleError as error:
            failed.append((seed, str(error)))
    return failed


def main() -> int:
    """Simulate the schedules and return the exit code."""
    parser = argparse.ArgumentParser(prog="simulation")
    parser.add_argument("--seeds", type=int, default=10_000, help="number of schedules")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seed", type=int, help="only this schedule")
    given = parser.parse_args()
    first, count = (given.first, given.seeds) if given.seed is None else (given.seed, 1)
    parts = [range(low, min(low + _PER_TASK, first + count)) for low in range(first, first + count, _PER_TASK)]
    begun = time.monotonic()
    with ProcessPoolExecutor(None if count > 1 else 1) as pool:
        failed = [failure for part in pool.map(_failures, parts) for failure in part]
    if failed:
        print(failed[0][1])
        print(f"failed seeds: {', '.join(str(seed) for seed, _ in failed)}")
    print(f"{count} schedules, {len(failed)} failed, {time.monotonic() - begun:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
