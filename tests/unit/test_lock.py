"""The locks match pyproject.toml, and every package has hashes, which pip checks."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import environment
import pytest
from environment import BUILD, entries, requirements
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ("constraints.txt", "constraints-floor.txt", "constraints-lint.txt", "constraints-tools.txt")


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


def all_requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = list(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        names += extra
    for name in project["dependency-groups"]:
        names += group(project["dependency-groups"], name)
    return [requirement for requirement in map(Requirement, names) if requirement.name != "bucketwheel"]


def test_lock_satisfies_every_requirement_of_the_project() -> None:
    lock = pins("constraints.txt")
    needed = all_requirements()
    assert len(needed) > 30
    for requirement in needed:
        assert requirement.specifier.contains(lock[canonicalize_name(requirement.name)]), requirement


def test_floor_has_versions_of_glue() -> None:
    glue, floor = pins("constraints-floor.in"), pins("constraints-floor.txt")
    assert len(glue) > 4
    assert {name: floor[name] for name in glue} == glue


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_has_hashes_and_names_no_package_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    lines = [entry for entry in text.replace("\\\n", " ").splitlines() if entry and not entry.startswith("#")]
    assert len(lines) > 30
    assert [entry for entry in lines if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert "--index-url" not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_has_what_builds_an_environment(lock: str) -> None:
    found = entries((ROOT / lock).read_text(), BUILD)
    assert [entry.partition("==")[0] for entry in found] == list(BUILD)
    assert all("--hash=sha256:" in entry for entry in found)


def test_entries_without_hashes_name_package_and_fix() -> None:
    with pytest.raises(SystemExit, match=r"^the lock has no version with hashes of pip; .* make locks$"):
        entries("pip==26.3\nwheel==1 \\\n    --hash=sha256:00\n", ("pip", "wheel"))


def test_requirements_are_of_project_and_its_extras() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert {"click>=8.1", "rich>=13.7", "duckdb>=1.1"} <= set(requirements(text, ("cli", "duckdb")))
    assert "rich>=13.7" not in requirements(text, ())


def test_makefile_installs_only_with_hashes() -> None:
    installs = [line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line]
    assert [line for line in installs if "--require-hashes" not in line] == []


def wheel(directory: Path) -> str:
    """Write a package to a directory; return the hash of its wheel."""
    file = directory / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_install_of_changed_package_fails(tmp_path: Path, cannot: Callable[[str], NoReturn]) -> None:
    if Version(version("pip")) < Version("26"):
        cannot(f"pip {version('pip')} takes no hashes from constraints: make venv")
    lock, right = tmp_path / "lock.txt", wheel(tmp_path)

    def install(digest: str) -> subprocess.CompletedProcess[str]:
        lock.write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
        options = ("--isolated", "--no-index", "--find-links", str(tmp_path), "--target", str(tmp_path / "to"))
        command = [sys.executable, "-m", "pip", "install", *options, "--require-hashes", "--constraint", str(lock)]
        return subprocess.run([*command, "tiny"], capture_output=True, text=True, check=False)

    wrong = install("0" * 64)
    assert (wrong.returncode, "DO NOT MATCH THE HASHES" in wrong.stderr) == (1, True), wrong.stderr
    assert not (tmp_path / "to").exists()
    assert install(right).returncode == 0
    assert (tmp_path / "to/tiny.py").exists()


@pytest.mark.parametrize(("failures", "code"), [(1, 0), (environment.ATTEMPTS, 2)])
def test_broken_download_is_repeated_without_cache(
    failures: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, pip = tmp_path / "calls", tmp_path / "pip"
    pip.write_text(f'#!/bin/sh\necho "$*" >>{calls}\n[ "$(wc -l <{calls})" -gt {failures} ] || exit 2\n')
    pip.chmod(0o755)
    monkeypatch.setattr(environment, "PAUSE_SECONDS", 0)
    if code:
        with pytest.raises(SystemExit, match=str(code)):
            environment.install([str(pip)], "tiny")
    else:
        environment.install([str(pip)], "tiny")
    repeated = ["install --no-cache-dir tiny"] * (environment.ATTEMPTS - 1 if code else 1)
    assert calls.read_text().splitlines() == ["install tiny", *repeated]


def test_packages_are_compiled_without_their_tests(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "tests" / "lib" / "python3" / "site-packages" / "tiny"
    (package / "tests").mkdir(parents=True)
    for name in ("__init__", "testing", "tests/__init__", "tests/test_tiny"):
        (package / f"{name}.py").write_text("name = 'tiny'\n")
    (package / "of_python_2.py").write_text("print 'tiny'\n")
    (package / "warned.py").write_text("name = '\\d'\n")
    environment.compile_packages(sys.executable, tmp_path / "tests")
    compiled = {path.relative_to(package).as_posix().partition(".")[0] for path in package.rglob("*.pyc")}
    assert compiled == {"__pycache__/__init__", "__pycache__/testing", "__pycache__/warned"}
    assert capfd.readouterr() == ("", "")
