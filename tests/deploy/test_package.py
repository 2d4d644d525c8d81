"""The package: contents, reproducible bytes, and refused input."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from bucketwheel import __version__, api
from bucketwheel.errors import BucketwheelError, ConfigError, UsageError
from bucketwheel.packaging.archive import build_archive
from bucketwheel.packaging.target import Target
from deploy_support import ROOT, checkout, configuration


def members(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as opened:
        return {member.name: member for member in opened}


def test_package_contains_wheel_script_config_and_archive(packed: api.Package) -> None:
    assert [file.name for file in packed.files] == [
        f"bucketwheel-{__version__}-py3-none-any.whl",
        "conf/prod.yaml",
        "environment.tar.gz",
        "job.py",
    ]
    for file in packed.files:
        content = (packed.directory / file.name).read_bytes()
        assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    contents = json.loads((packed.directory / "package.json").read_text())
    assert (contents["digest"], contents["env"], contents["version"]) == (packed.digest, "prod", __version__)


def test_package_of_same_input_is_identical(
    packed: api.Package, tmp_path: Path, source: Path, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File times, order in the archive, umask, time zone and remains of earlier builds make no difference."""
    other = checkout(tmp_path / "other")
    (other / "build/lib/bucketwheel").mkdir(parents=True)
    (other / "build/lib/bucketwheel/stale.py").write_text("")
    unpacked = tmp_path / "unpacked"
    with tarfile.open(given) as opened:
        opened.extractall(unpacked, filter="fully_trusted")
    again = tmp_path / "again.tar.gz"
    with tarfile.open(again, "w:gz", compresslevel=1) as written:
        for path in sorted(unpacked.rglob("*"), reverse=True):
            if not path.is_symlink():
                os.utime(path, (time.time(), 1_700_000_000))
            written.add(path, str(path.relative_to(unpacked)), recursive=False)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    old = os.umask(0o077)
    try:
        second = api.package(configuration(), tmp_path / "second", other, again)
    finally:
        os.umask(old)
    assert second.files == packed.files
    assert second.digest == packed.digest


def test_package_differs_when_setting_changes(packed: api.Package, tmp_path: Path, source: Path, given: Path) -> None:
    other = api.package(configuration(buckets__count=32), tmp_path / "other", source, given)
    changed = {file.name for file, before in zip(other.files, packed.files, strict=True) if file != before}
    assert changed == {"conf/prod.yaml"}
    assert other.digest != packed.digest
    # Where the package lies is none of its own settings: it could never name itself.
    moved = api.package(configuration(deploy__package="s3://else-where/x"), tmp_path / "moved", source, given)
    assert moved.digest == packed.digest


def test_package_contains_every_setting(tmp_path: Path, packed: api.Package) -> None:
    values = yaml.safe_load((packed.directory / "conf/prod.yaml").read_text())
    loaded = api.load("prod", packed.directory / "conf", environ={}).settings
    expected_settings = configuration().settings
    assert loaded.model_dump(exclude={"deploy"}) == expected_settings.model_dump(exclude={"deploy"})
    assert "deploy" not in values


def test_wheel_is_importable_and_has_metadata(packed: api.Package) -> None:
    (wheel,) = packed.directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        metadata = opened.read(f"bucketwheel-{__version__}.dist-info/METADATA").decode()
    assert "bucketwheel/report/report.html.j2" in names
    assert "Requires-Dist: pyarrow>=17.0.0" in metadata
    assert not [name for name in names if "__pycache__" in name or "stale" in name]
    code = "import bucketwheel.cli, bucketwheel; print(bucketwheel.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(wheel)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(wheel))


def test_archive_has_no_times_owners_and_stale_bytecode(packed: api.Package) -> None:
    names = members(packed.directory / "environment.tar.gz")
    assert {(member.mtime, member.uid, member.uname) for member in names.values()} == {(315_532_800, 0, "")}
    assert list(names) == sorted(names)
    site = "lib/python3.11/site-packages"
    assert f"{site}/kept.pyc" in names
    assert f"{site}/left.pyc" not in names
    assert names["bin/python"].linkname == "/usr/bin/python3.11"
    assert f"{site}/bucketwheel/__init__.py" in names


def edited(given: Path, to: Path, drop: str = "", add: str = "") -> Path:
    with tarfile.open(given) as opened, tarfile.open(to, "w:gz") as written:
        for member in opened:
            if drop and drop in member.name:
                continue
            content = opened.extractfile(member) if member.isfile() else None
            written.addfile(member, content)
        if add:
            member = tarfile.TarInfo(add)
            member.size = 1
            written.addfile(member, io.BytesIO(b"x"))
    return to


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda given, to: to, "cannot read: it does not exist"),
        (lambda given, to: to.write_bytes(b"no archive") and to, "is not a .tar.gz"),
        (lambda given, to: to.write_bytes(given.read_bytes()[:-100_000]) and to, "is not a .tar.gz"),
        (lambda given, to: edited(given, to, drop="bin/python"), "has no bin/python; it is not a Python 3.11"),
        (lambda given, to: edited(given, to, drop="cli/__init__.py"), "cli/__init__.py differs from that of"),
    ],
)
def test_unusable_archive_is_refused(make: Any, message: str, tmp_path: Path, source: Path, given: Path) -> None:
    with pytest.raises(BucketwheelError) as refused:
        api.package(configuration(), tmp_path / "package", source, make(given, tmp_path / "given.tar.gz"))
    assert message in str(refused.value)


def test_archive_with_other_code_is_refused(tmp_path: Path, source: Path, given: Path) -> None:
    newer = checkout(tmp_path / "newer")
    (newer / "app/bucketwheel/pipeline/run.py").write_text("# changed\n")
    with pytest.raises(
        UsageError, match=r"bucketwheel/pipeline/run.py differs from that of .*; build the archive again"
    ):
        api.package(configuration(), tmp_path / "package", newer, given)


def test_failed_build_keeps_earlier_package(packed: api.Package, tmp_path: Path, source: Path, given: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in packed.directory.rglob("*")}
    with pytest.raises(UsageError):
        api.package(configuration(), packed.directory, source, edited(given, tmp_path / "bad.tar.gz", drop="bin/"))
    assert {path: path.stat().st_mtime_ns for path in packed.directory.rglob("*")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar.gz", "package"]
    again = api.package(configuration(), packed.directory, source, without_archive=True)
    assert not (again.directory / "environment.tar.gz").exists()


def test_archive_over_limit_is_refused(tmp_path: Path, source: Path, given: Path) -> None:
    config = configuration(deploy__archive_limit="10kB")
    with pytest.raises(UsageError, match=r"has [\d,]+ bytes, the limit is 10,000 \(deploy.archive_limit\)"):
        api.package(config, tmp_path / "package", source, given)


def test_package_with_unsuitable_directory_is_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match=r"app/job.py does not exist; run this in a checkout of Bucketwheel"):
        api.package(configuration(), tmp_path / "package", tmp_path)
    with pytest.raises(UsageError, match=r"docker/build.sh does not exist; pass an archive with --archive FILE"):
        api.package(configuration(), tmp_path / "package", source)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    with pytest.raises(UsageError, match="is not empty and holds no package; choose a new or empty directory"):
        api.package(configuration(), tmp_path / "full", source, without_archive=True)
    assert (tmp_path / "full" / "thesis.doc").exists()


def test_archive_is_built_in_container_by_default(tmp_path: Path, given: Path) -> None:
    own = checkout(tmp_path / "own")
    (own / "docker").mkdir()
    (own / "docker/build.sh").write_text(
        f'[ "$1" = archive ] && mkdir -p build && cp {given} build/bucketwheel-venv.tar.gz'
    )
    packed = api.package(configuration(), tmp_path / "package", own)
    assert (packed.directory / "environment.tar.gz").exists()
    (own / "docker/build.sh").write_text("echo no docker here >&2; exit 3")
    with pytest.raises(BucketwheelError, match=r"(?s)archive failed; pass an archive .*no docker here"):
        api.package(configuration(), tmp_path / "package", own)


@pytest.mark.parametrize(
    ("overrides", "platform"),
    [
        ({}, "linux/amd64"),
        ({"deploy__platform": "emr-serverless"}, "linux/amd64"),
        ({"deploy__platform": "emr-serverless", "emr_serverless__architecture": "ARM64"}, "linux/arm64"),
    ],
)
def test_archive_build_failure_shows_error_of_docker(
    overrides: dict[str, str], platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = checkout(tmp_path / "own")
    (own / "docker/ca").mkdir(parents=True)
    for name in ("build.sh", "host.sh", "images.env"):
        shutil.copy(ROOT / "docker" / name, own / "docker" / name)
    programs = tmp_path / "programs"
    programs.mkdir()
    docker = programs / "docker"
    docker.write_text(
        "#!/bin/sh\n"
        f'echo "$*" >>{tmp_path}/called\n'
        'case "$1" in\n'
        "image) echo sha256:1234 ;;\n"
        "create) echo made ;;\n"
        "cp) echo 'Error: no space left on device' >&2; exit 1 ;;\n"
        "esac\n"
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(BucketwheelError, match=r"(?s)archive failed; .*docker cp: Error: no space left on device"):
        build_archive(own, Target.of(configuration(**overrides).settings))
    calls = (tmp_path / "called").read_text().splitlines()
    # What was made is removed all the same; it was made by the image's id.
    assert calls[-3:] == [
        f"create --platform {platform} sha256:1234 none",
        "cp made:/bucketwheel-venv.tar.gz build/",
        "rm made",
    ]


def test_package_with_secret_is_refused(tmp_path: Path, source: Path) -> None:
    config = configuration(datasets__infobase_attributes__source="s3://AKIAIOSFODNN7EXAMPLE/x")
    with pytest.raises(ConfigError, match=r"datasets.infobase_attributes.source: looks like an access key"):
        api.package(config, tmp_path / "package", source, without_archive=True)
    assert not (tmp_path / "package").exists()
