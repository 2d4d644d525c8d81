"""Ten thousand schedules of concurrent commands: no invariant is violated."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.schedules import simulate

_SCHEDULES = 10_000
_PER_TEST = 500
_KEPT = Path(__file__).with_name("kept_seeds.txt")


def _kept() -> list[int]:
    lines = [line.partition("#")[0].strip() for line in _KEPT.read_text().splitlines()]
    return [int(line) for line in lines if line]


@pytest.mark.parametrize("first", range(0, _SCHEDULES, _PER_TEST))
def test_schedules_violate_no_invariant(first: int) -> None:
    for seed in range(first, first + _PER_TEST):
        simulate(seed)


@pytest.mark.parametrize("seed", _kept())
def test_kept_seed_violates_no_invariant(seed: int) -> None:
    simulate(seed)


def test_same_seed_makes_same_schedule() -> None:
    assert simulate(7) == simulate(7)


def test_responses_have_the_form_that_aws_describes() -> None:
    for seed in range(20):
        simulate(seed, checked=True)
