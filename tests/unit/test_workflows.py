"""The hosted workflow, the Makefile and the package metadata name the same targets and versions."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
VERSIONS = ["3.11", "3.12", "3.13"]


def jobs() -> dict[str, dict[str, Any]]:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    return dict(workflow["jobs"])


def targets(commands: str) -> Iterator[str]:
    """Yield the make targets that shell commands call, or that follow `timed` in .ci/run."""
    plain = re.sub(r"\$\{\{.*?\}\}", "", commands)
    for line in re.findall(r"(?:^|\s)(?:make|timed) +([a-z][^\n;&|>]*)", plain):
        yield from (word for word in line.split() if "=" not in word)


def test_workflow_calls_only_targets_of_the_makefile() -> None:
    defined = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    runs = [step["run"] for job in jobs().values() for step in job["steps"] if "run" in step]
    assert all(run.startswith("make ") for run in runs)
    called = {target for run in runs for target in targets(run)}
    assert called >= {"lint", "types", "unit-python", "unit-floor", "spark", "containers", "interop"}
    assert called <= defined


def test_ci_script_calls_only_targets_of_the_makefile() -> None:
    defined = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    script = (ROOT / ".ci" / "run").read_text()
    called = set(targets("\n".join(line for line in script.splitlines() if re.search(r"\btimed [a-z]", line))))
    assert called >= {"check", "demo", "e2e", "test"}
    assert called <= defined


def test_workflow_and_metadata_cover_the_same_versions_of_python() -> None:
    assert jobs()["unit"]["strategy"]["matrix"]["python"] == VERSIONS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    classifiers = [name.rpartition(" ")[2] for name in project["classifiers"] if ":: Python :: 3." in name]
    assert classifiers == VERSIONS
    makefile = (ROOT / "Makefile").read_text()
    assert f"PYTHONS ?= {' '.join(f'python{version}' for version in VERSIONS)}\n" in makefile


@pytest.mark.parametrize(("require_all", "exit_code"), [("0", 0), ("1", 2)])
def test_unit_all_skips_a_missing_python_unless_all_are_required(require_all: str, exit_code: int) -> None:
    command = ["make", "unit-all", "PYTHONS=python3.99", f"REQUIRE_ALL={require_all}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == exit_code, done.stderr
    said = done.stdout if require_all == "0" else done.stderr
    assert re.search(r"^unit-all: .*python3\.99", said, re.MULTILINE), said


def test_floor_leaves_out_only_tests_that_exist() -> None:
    tests = re.search(r"^FLOOR_TESTS := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert tests
    lists = re.findall(r"\$\(foreach name,([\w ]+),--ignore=(\S+)\$\(name\)\.py\)", tests[1])
    left_out = [f"{place}{name}.py" for names, place in lists for name in names.split()]
    left_out += re.findall(r"--ignore=(\S+\.py)(?: |$)", tests[1], re.MULTILINE)
    assert len(left_out) > 30
    assert [name for name in left_out if "$" not in name and not (ROOT / name).is_file()] == []
    patterns = re.findall(r"--ignore-glob='(\S+)'", tests[1])
    assert len(patterns) > 3
    assert [pattern for pattern in patterns if not any(ROOT.glob(pattern))] == []


def test_workflow_jobs_have_a_time_limit_and_read_only_permissions() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert [name for name, job in workflow["jobs"].items() if "timeout-minutes" not in job] == []
