"""Completion of names in the shell."""

from __future__ import annotations

import pytest
from click.shell_completion import ShellComplete

from bucketwheel.cli import cli
from bucketwheel.cli.completing import VARIABLE
from project import NARROW, WIDE, Project


def completed(project: Project, *words: str) -> list[str]:
    """Return what completes the last word."""
    *before, last = words
    command, *rest = before
    shell = ShellComplete(cli, {}, "bucketwheel", VARIABLE)
    return [item.value for item in shell.get_completions([command, "--conf", str(project.conf), *rest], last)]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("run", ""), [WIDE, NARROW]),
        (("plan", "addr"), [NARROW]),
        (("run", "--stages", "discover,s"), ["discover,split", "discover,size"]),
        (("run", "--set", "buckets.c"), ["buckets.count="]),
        (("run", "--env", ""), ["local"]),
        (("run", "--engine", "s"), ["spark"]),
        (("show", "las"), ["last"]),
        (("roll",), ["rollback"]),
    ],
)
def test_completion_offers_known_names(project: Project, words: tuple[str, ...], names: list[str]) -> None:
    if len(words) == 1:
        assert [
            item.value for item in ShellComplete(cli, {}, "bucketwheel", VARIABLE).get_completions([], words[0])
        ] == names
    else:
        assert sorted(completed(project, *words)) == sorted(names)


def test_completion_offers_run_ids(current: Project) -> None:
    for command in ("show", "report"):
        assert completed(current, command, "2025") == current.run_ids()
    assert completed(current, "run", WIDE, "--resume", "2025") == current.run_ids()


def test_completion_without_usable_configuration_is_empty(project: Project) -> None:
    (project.conf / "base.yaml").write_text("buckets: {cuont: 3}")
    assert completed(project, "run", "") == []
    assert completed(project, "run", "--stages", "d") == []
