"""The archive of the Python environment: built in a container or given, rewritten reproducibly."""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from bucketwheel.errors import BucketwheelError, UsageError
from bucketwheel.packaging.fit import check_fit
from bucketwheel.packaging.target import PYTHON_TEXT, Target
from bucketwheel.packaging.wheel import EPOCH
from bucketwheel.storage import wrap_os_errors

# The names of the script and of the environment in a package.
SCRIPT = "job.py"
ARCHIVE = "environment.tar.gz"
# The output of `docker/build.sh archive`, which builds the stage `archive` of docker/Dockerfile.
BUILD_SCRIPT = "docker/build.sh"
BUILT = "build/bucketwheel-venv.tar.gz"
SITE_PACKAGES = f"lib/python{PYTHON_TEXT}/site-packages"
_PACKAGE = f"{SITE_PACKAGES}/bucketwheel/"
_NEEDED = ("bin/python", f"{_PACKAGE}__init__.py")
# An archive of Python packages unpacks to about 4 times its size; gzip allows 1,000 times.
_MAX_EXPANSION = 20
_ADVICE = "pass an archive with --archive FILE, or use --without-docker"


def build_archive(source: Path, target: Target) -> Path:
    """Build the archive with Docker for the platform `target`, whatever this machine is, and return its path.

    Raises:
        UsageError: there is no Dockerfile or no Docker; the message explains how to pass an archive instead.
        BucketwheelError: the build failed; quotes its last lines.
    """
    script = source / BUILD_SCRIPT
    if not script.is_file():
        raise UsageError(f"{script} does not exist; {_ADVICE}")
    try:
        done = subprocess.run(  # noqa: S603 the checkout's own script
            ["bash", str(script), "archive"],  # noqa: S607 wherever bash is
            cwd=source,
            env={**os.environ, "BUILD_PLATFORM": target.docker_platform},
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise UsageError(f"{script} cannot be run: {error}; {_ADVICE}") from error
    if done.returncode != 0:
        last_lines = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise BucketwheelError(f"{script} archive failed; {_ADVICE}. Its last lines:\n{last_lines}")
    return source / BUILT


def normalise(archive: Path, to: Path, source: Path, limit: int, target: Target) -> None:
    """Rewrite an archive without times and owners, in sorted order, and check its content.

    Hard links become files, because a sorted archive may contain them before the file that they name.

    Compiled files that record the time of their source are left out: they are invalid for files with another time.

    Args:
        archive: a .tar.gz of an environment, with `bin/` and `lib/` at the top.
        to: the file to write.
        source: the checkout whose code it must contain.
        limit: maximum size in bytes.
        target: the platform that it must fit.

    Raises:
        UsageError: not such an archive, too large, for another platform, or with other code than the checkout.
    """
    with wrap_os_errors(str(archive), "read"):
        size = archive.stat().st_size
        _refuse_large(archive, size, limit)
        try:
            with _unpacked(archive, limit) as plain, tarfile.open(fileobj=plain) as given:
                by_name = _members(given)
                check_fit(archive, given, by_name, target)
                members = [by_name[name] for name in sorted(by_name) if not _is_stale(given, by_name[name])]
                _check_code(archive, given, by_name, source)
                with to.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=EPOCH) as packed:
                    _copy(given, members, packed)
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UsageError(f"{archive}: is not a .tar.gz: {error}; build it again") from error
    _refuse_large(archive, to.stat().st_size, limit)


@contextmanager
def _unpacked(archive: Path, limit: int) -> Iterator[IO[bytes]]:
    """Decompress to a temporary file, because members are read in another order than stored."""
    with tempfile.TemporaryFile() as plain:
        with gzip.open(archive) as packed:
            while part := packed.read(2**20):
                plain.write(part)
                if plain.tell() > _MAX_EXPANSION * limit:
                    raise UsageError(
                        f"{archive}: unpacks to more than {_MAX_EXPANSION * limit:,} bytes, the limit for archives "
                        f"of up to {limit:,} bytes (deploy.archive_limit); build it again"
                    )
        plain.seek(0)
        yield plain


def _refuse_large(archive: Path, size: int, limit: int) -> None:
    if size > limit:
        raise UsageError(
            f"{archive}: has {size:,} bytes, the limit is {limit:,} (deploy.archive_limit); leave out packages "
            "that the job does not need, or use an image on EMR Serverless"
        )


def _members(given: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """Return the members by normalized name; of several with one name, the last, which unpacking leaves."""
    by_name = {}
    for member in given:
        member.name = str(PurePosixPath(member.name))
        if member.name != ".":
            by_name[member.name] = member
    return by_name


def _is_stale(given: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    """Return whether a member is a compiled file that records the time of its source."""
    content = given.extractfile(member) if member.isfile() and member.name.endswith(".pyc") else None
    return content is not None and content.read(8)[4:8] == b"\0\0\0\0"


def _check_code(archive: Path, given: tarfile.TarFile, by_name: dict[str, tarfile.TarInfo], source: Path) -> None:
    if missing := [name for name in _NEEDED if name not in by_name]:
        raise UsageError(
            f"{archive}: has no {missing[0]}; it is not a Python {PYTHON_TEXT} environment with bucketwheel installed"
        )
    code = source / "app/bucketwheel"
    for path in sorted(code.rglob("*.py")):
        name = f"{_PACKAGE}{path.relative_to(code).as_posix()}"
        member = given.extractfile(by_name[name]) if name in by_name else None
        if member is None or member.read() != path.read_bytes():
            raise UsageError(f"{archive}: {name} differs from that of {source}; build the archive again")


def _copy(given: tarfile.TarFile, members: list[tarfile.TarInfo], packed: gzip.GzipFile) -> None:
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as written:
        for member in members:
            plain = tarfile.TarInfo(member.name)
            content = given.extractfile(member) if member.isfile() or member.islnk() else None
            plain.type = tarfile.REGTYPE if content else member.type
            plain.size = content.seek(0, os.SEEK_END) if content else 0
            plain.linkname = member.linkname if member.issym() else ""
            plain.mtime, plain.mode = EPOCH, 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            if content:
                content.seek(0)
            written.addfile(plain, content)
