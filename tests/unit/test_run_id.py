"""Hints for mistyped run ids."""

from __future__ import annotations

import pytest

from bucketwheel.runs.run_id import did_you_mean_run

JANUARY = "2025-01-31-20250201T041109Z-4bf3ab"
FEBRUARY = "2025-02-28-20250301T041109Z-4bf3ac"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("2025-02-28-20250301T041109Z-4bf3zz", f"did you mean {FEBRUARY!r}? "),
        ("2025-01-31-20250301T041109Z-4bf3ac", f"did you mean {JANUARY!r}? "),
        ("2025-03-31-20250301T041109Z-4bf3ac", ""),
        ("nope", ""),
    ],
)
def test_mistyped_run_id_suggests_no_other_snapshot(text: str, hint: str) -> None:
    assert did_you_mean_run(text, [JANUARY, FEBRUARY]) == hint
