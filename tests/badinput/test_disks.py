"""Full disks and denied permissions, on real file systems."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from bucketwheel.sample import Sample
from project import NARROW, WIDE, Project, Result, environment

Cannot = Callable[[str], NoReturn]
Refused = Callable[..., Result]

# Mount a small file system that only this process sees, in a new mount namespace.
SMALL_DISK = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'

# Publish a month, fill the disk in the next run, compare the catalog, free the space and resume.
STORY = """
import json, os, shlex, subprocess, sys
from pathlib import Path
from project import WIDE, Project
from bucketwheel.sample import SampleSpec, write_sample

root, small, options = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
spec = dict(tables=3, columns=4, files=2, row_group_rows=2_000)
project = Project(root / "project", write_sample(root / "earlier", SampleSpec(rows=500, seed=8, **spec)))
project.run()
before = project.content()
ballast = Path(small, "ballast")
with ballast.open("wb") as file:
    file.write(b"x" * options.pop("ballast"))
project.use(write_sample(root / "now", SampleSpec(rows=20_000, **spec)))
project.set(quality={"max_rows_changed_percent": None}, **options)
full = project.cli("run", WIDE)
same = project.content() == before
ballast.unlink()
resume = shlex.split(full.stderr.splitlines()[-1].partition(": ")[2])
again = project.cli(*resume[1:], "--set", "memory=1GB")
print(json.dumps([full.exit_code, full.stderr, same, again.exit_code, again.stderr, project.published()]))
"""


def unshare(cannot: Cannot) -> list[str]:
    """Return a command prefix that starts a new mount namespace."""
    if shutil.which("unshare") is None:
        cannot("there is no unshare (util-linux)")
    command = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    probe = [*command, "sh", "-c", SMALL_DISK, "sh", "1m", "/mnt", "true"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    if done.returncode:
        cannot(f"no file system can be mounted in a namespace here: {done.stderr.strip()}")
    return command


def on_small_disk(cannot: Cannot, size: str, small: Path, root: Path, **options: Any) -> list[Any]:
    small.mkdir(parents=True)
    command = [*unshare(cannot), "sh", "-c", SMALL_DISK, "sh", size, str(small)]
    story = [sys.executable, "-c", STORY, str(root), str(small), json.dumps(options)]
    done = subprocess.run(
        [*command, *story], capture_output=True, text=True, env=environment(), timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    result: list[Any] = json.loads(done.stdout)
    return result


FULL = (
    "no space left on the device; free some, or point target or storage.spill_directory elsewhere\n"
    f"Fix the storage problem, then run again: bucketwheel run {WIDE} --conf "
)


def test_full_target_disk_fails_run_that_resumes_with_space(tmp_path: Path, cannot: Cannot) -> None:
    target = tmp_path / "project" / "out"
    code, stderr, same, again, text, published = on_small_disk(cannot, "4m", target, tmp_path, ballast=3_000_000)
    assert code == 1, stderr
    assert f"error: {target}/" in stderr
    assert FULL in stderr
    assert "Traceback" not in stderr
    assert same
    assert again == 0, text
    assert set(published.values()) == {20_000}


def test_full_spill_disk_fails_run_that_resumes_without_spilling(tmp_path: Path, cannot: Cannot) -> None:
    spill = tmp_path / "spill"
    code, stderr, same, again, text, published = on_small_disk(
        cannot, "1m", spill, tmp_path, ballast=900_000, memory="100KB", storage={"spill_directory": str(spill)}
    )
    assert code == 1, stderr
    assert f"error: {spill}: cannot spill to: {FULL}" in stderr
    assert "Traceback" not in stderr
    assert same
    assert again == 0, text
    assert set(published.values()) == {20_000}


def obedient() -> list[str]:
    """Return a command prefix that makes file permissions apply to root too."""
    if os.geteuid() != 0:
        return []
    # PR_CAPBSET_DROP of CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
    drop = "import ctypes, os, sys; c = ctypes.CDLL(None); [c.prctl(24, n, 0, 0, 0) for n in (1, 2)]; "
    return [sys.executable, "-c", f"{drop}os.execv(sys.argv[1], sys.argv[1:])"]


@contextmanager
def closed(path: Path, mode: int) -> Iterator[None]:
    """Remove permissions inside a block and restore them, so that cleanup works."""
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        yield
    finally:
        path.chmod(before)


@pytest.fixture
def bound(published: Project, cannot: Cannot, tmp_path: Path) -> Callable[..., Result]:
    """Run a command bound by permissions; check that it fails and the published month stays."""
    probe = tmp_path / "probe"
    probe.mkdir()
    with closed(probe, 0o555):
        write = [*obedient(), sys.executable, "-c", f"open({str(probe / 'x')!r}, 'w')"]
        if subprocess.run(write, capture_output=True, check=False).returncode == 0:
            cannot("permissions do not bind this user")

    def run(path: Path, mode: int, exit_code: int, *arguments: str) -> Result:
        before = published.content()
        with closed(path, mode):
            result = published.process("run", *arguments, prefix=obedient())
        assert (result.exit_code, result.stdout) == (exit_code, ""), result.stderr
        assert "Traceback" not in result.stderr
        assert published.content() == before
        return result

    return run


DENIED = "permission denied; give this user access or choose another path"


def test_unwritable_target_is_named(published: Project, bound: Callable[..., Result]) -> None:
    result = bound(published.target, 0o555, 1, NARROW, "--conf", str(published.conf))
    assert f"error: {published.target}/{NARROW}/" in result.stderr
    assert DENIED in result.stderr
    assert not (published.target / NARROW).exists()


def test_unwritable_table_is_named_and_run_resumes(published: Project, bound: Callable[..., Result]) -> None:
    table = published.target / WIDE / "ibe_02"
    result = bound(table, 0o555, 1, WIDE)
    assert f"error: {table}/" in result.stderr
    assert DENIED in result.stderr
    published.run("--resume", "last")
    assert set(published.published().values()) == {1200}


def test_unreadable_source_file_is_named(
    published: Project, bound: Callable[..., Result], dirty: Callable[..., Sample]
) -> None:
    sample = dirty(None)
    published.use(sample)
    path = sample.snapshot / "part-00001.parquet"
    result = bound(path, 0o000, 1, WIDE)
    assert f"error: {path}: cannot read: {DENIED}\n" in result.stderr
    assert "Write them again" not in result.stderr


def test_unlistable_source_directory_is_named(
    published: Project, bound: Callable[..., Result], dirty: Callable[..., Sample]
) -> None:
    sample = dirty(None)
    published.use(sample)
    result = bound(sample.snapshot, 0o000, 1, WIDE)
    assert result.stderr.splitlines()[0] == f"error: {sample.snapshot}/_SUCCESS: cannot check: {DENIED}"


def test_unreadable_configuration_is_named(published: Project, bound: Callable[..., Result]) -> None:
    path = published.conf / "base.yaml"
    assert bound(path, 0o000, 2, WIDE).stderr == f"error: {path}: cannot be read: Permission denied\n"


def test_unwritable_catalog_fails_before_any_table_changes(published: Project, bound: Callable[..., Result]) -> None:
    result = bound(published.root, 0o555, 1, WIDE)
    assert f"error: {published.catalog}: cannot " in result.stderr
    assert DENIED in result.stderr
    published.run("--resume", "last")
    assert set(published.published().values()) == {1200}
