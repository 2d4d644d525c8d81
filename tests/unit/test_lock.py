"""requirements.lock matches pyproject.toml and constraints.txt."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def pins(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text()
    locked = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", text, re.MULTILINE)
    return {str(canonicalize_name(package)): version for package, version in locked}


def group(groups: Mapping[str, list[Any]], name: str) -> Iterator[str]:
    for entry in groups[name]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from group(groups, entry["include-group"])


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = list(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        names += extra
    for name in project["dependency-groups"]:
        names += group(project["dependency-groups"], name)
    return [requirement for requirement in map(Requirement, names) if requirement.name != "bucketwheel"]


def test_lock_satisfies_every_requirement_of_the_project() -> None:
    lock = pins("requirements.lock")
    needed = requirements()
    assert len(needed) > 30
    for requirement in needed:
        assert requirement.specifier.contains(lock[canonicalize_name(requirement.name)]), requirement


def test_lock_has_versions_of_constraints() -> None:
    lock, constraints = pins("requirements.lock"), pins("constraints.txt")
    shared = lock.keys() & constraints.keys()
    assert len(shared) > 100
    assert {name: lock[name] for name in shared} == {name: constraints[name] for name in shared}
    # The constraints list one Linux environment without pip, its installer.
    assert constraints.keys() - lock.keys() <= {"pip"}


def test_lock_has_hashes_and_names_no_package_index() -> None:
    text = (ROOT / "requirements.lock").read_text()
    entries = [entry for entry in text.replace("\\\n", " ").splitlines() if entry and not entry.startswith("#")]
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert "--index-url" not in text
