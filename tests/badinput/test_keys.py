"""Null and duplicate keys under each policy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest

from bucketwheel.sample import Sample
from project import Project, Result

Dirty = Callable[..., Sample]
Refused = Callable[..., Result]

# Every hundredth row of three files of 400 rows.
CASES = [
    ("null_keys", "12 rows have a NULL key"),
    ("duplicate_keys", "12 rows repeat a key"),
]


@pytest.mark.parametrize(("defect", "text"), CASES)
def test_policy_error_refuses_keys_with_counts(
    published: Project, dirty: Dirty, refused: Refused, defect: str, text: str
) -> None:
    published.use(dirty(defect))
    result = refused(published, 3, "--set", f"quality.{defect}=error")
    assert (
        f"error: {text}; nothing was published. Correct the snapshot, or accept them with "
        f"--set quality.{defect}=warn and --resume last\n"
    ) in result.stderr


@pytest.mark.parametrize("policy", ["warn", "allow"])
@pytest.mark.parametrize(("defect", "text"), CASES)
def test_policy_warn_publishes_with_warning_and_allow_without(
    published: Project, dirty: Dirty, defect: str, text: str, policy: str
) -> None:
    published.use(dirty(defect))
    result = published.run("--set", f"quality.{defect}={policy}", "--output", "json")
    messages = [json.loads(line).get("message") for line in result.stderr.splitlines()]
    assert (text in messages) is (policy == "warn")
    assert set(published.published().values()) == {1200}
    (run,) = json.loads(result.stdout)
    verified = run["stages"]["verify"]["result"]
    counts = {name: verified[name] for name in ("null_keys", "duplicate_keys")}
    assert counts == {"null_keys": 0, "duplicate_keys": 0, defect: 12}


def test_default_policy_refuses_null_keys_and_warns_of_duplicates(
    published: Project, dirty: Dirty, refused: Refused
) -> None:
    published.use(dirty("null_keys"))
    refused(published, 3)
    published.use(dirty("duplicate_keys"))
    assert "warning: 12 rows repeat a key" in published.run().stderr


@pytest.mark.parametrize(("defect", "_"), CASES)
def test_refused_keys_are_accepted_on_resume_without_rewriting(
    published: Project, dirty: Dirty, refused: Refused, defect: str, _: str
) -> None:
    published.use(dirty(defect))
    result = refused(published, 3, "--set", f"quality.{defect}=error")
    written = {path: path.stat().st_mtime_ns for path in published.target.rglob("*.parquet")}
    resume = shlex.split(result.stderr.splitlines()[-1].removeprefix("To resume: "))
    accepted = published.cli(*resume[1:], "--set", f"quality.{defect}=warn")
    assert accepted.exit_code == 0, accepted.stderr
    assert set(published.published().values()) == {1200}
    assert {path: path.stat().st_mtime_ns for path in published.target.rglob("*.parquet")} == written
