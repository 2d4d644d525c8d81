"""Check that the archive of an environment fits the platform, by its links, binaries and wheel tags."""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from bucketwheel.errors import UsageError
from bucketwheel.packaging.binaries import Binary, read_binary
from bucketwheel.packaging.target import GLIBC, INTERPRETER, PYTHON, PYTHON_TEXT, Target

_SHOWN = 5
_MOST_LINKS = 20
_EXTENSION = re.compile(r"\.cpython-3(\d+)\w*-[\w-]+\.so$")
_PYTHON_DIRECTORY = re.compile(r"lib(?:64)?/python3\.(\d+)(?:/|$)")
_PYTHON = "bin/python"


def check_fit(archive: Path, given: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], target: Target) -> None:
    """Check every member of an archive.

    Args:
        archive: its file, for messages.
        given: the opened archive.
        members: its members by normalized name.
        target: the platform that it must fit.

    Raises:
        UsageError: names the first files that do not fit, each with the reason, and the fix.
    """
    problems = []
    for name, member in members.items():
        if problem := _problem(name, member, given, members, target):
            problems.append(f"  {name}: {problem}")
    problems += [f"  {problem}" for problem in _wrong_python(members)]
    if not problems:
        return
    rest = [f"  … and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    lines = "\n".join([*problems[:_SHOWN], *rest])
    raise UsageError(
        f"{archive}: does not fit {target.text}:\n{lines}\nbuild one that fits with --without-docker, or with Docker "
        f"for {target.docker_platform} by leaving out --archive{_other_machine(lines, target)}"
    )


def _other_machine(lines: str, target: Target) -> str:
    other = "ARM64" if target.machine == "x86_64" else "X86_64"
    machine = "aarch64" if other == "ARM64" else "x86_64"
    if target.platform == "Glue" or f"for Linux {machine}" not in lines:
        return ""
    return f", or set emr_serverless.architecture to {other}"


def _problem(
    name: str, member: tarfile.TarInfo, given: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], target: Target
) -> str | None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return "points outside of the archive"
    if link := next((str(above) for above in path.parents if _is_link(members, str(above))), None):
        return f"is below {link}, which is a link"
    if member.issym():
        return _link_problem(name, member, members, target)
    if member.islnk():
        linked = members.get(str(PurePosixPath(member.linkname)))
        return (
            None
            if linked and linked.isfile()
            else f"is a hard link to {member.linkname}, which is not in the archive"
        )
    if member.isdir():
        return None
    if not member.isfile():
        return "is a device, a pipe or another special file"
    return _file_problem(path, member, given, target)


def _is_link(members: Mapping[str, tarfile.TarInfo], name: str) -> bool:
    return name in members and members[name].issym()


def _link_problem(
    name: str, member: tarfile.TarInfo, members: Mapping[str, tarfile.TarInfo], target: Target
) -> str | None:
    to = _inside(name, member.linkname, target)
    if member.linkname == INTERPRETER:
        return None
    if name.startswith(_PYTHON) and posixpath.isabs(to):
        return f"links to {member.linkname}; the Python of {target.platform} is {INTERPRETER}"
    if posixpath.isabs(to) or to.startswith(".."):
        return f"links to {member.linkname}, outside of the archive"
    if name == _PYTHON and not _reaches_python(to, members, target):
        return f"links to {member.linkname}, which leads to no file"
    return None


def _inside(name: str, linkname: str, target: Target) -> str:
    """Return what a link names, relative to the archive; absolute if it is elsewhere."""
    if target.unpacked_at and linkname.startswith(f"{target.unpacked_at}/"):
        return posixpath.normpath(linkname.removeprefix(f"{target.unpacked_at}/"))
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), linkname))


def _reaches_python(name: str, members: Mapping[str, tarfile.TarInfo], target: Target) -> bool:
    for _ in range(_MOST_LINKS):
        if name not in members:
            return name == INTERPRETER
        if not members[name].issym():
            return members[name].isfile()
        name = _inside(name, members[name].linkname, target)
    return False


def _file_problem(path: PurePosixPath, member: tarfile.TarInfo, given: tarfile.TarFile, target: Target) -> str | None:
    file = given.extractfile(member)
    if file is None:
        return None
    if path.name == "WHEEL" and path.parent.suffix == ".dist-info":
        return _wheel_problem(file.read().decode(errors="replace"), target)
    if path.suffix == ".pth":
        return _path_problem(file.read().decode(errors="replace"))
    extension = _EXTENSION.search(path.name)
    try:
        binary = read_binary(file)
    except ValueError as error:
        return str(error)
    # pip and setuptools contain programs for Windows in every environment.
    if binary and not (binary.system == "Windows" and path.suffix == ".exe"):
        problem = _binary_problem(binary, target)
        if problem:
            return problem
    if extension and int(extension[1]) != PYTHON[1]:
        return f"is for Python 3.{extension[1]}"
    return None


def _binary_problem(binary: Binary, target: Target) -> str | None:
    if binary.system != "Linux":
        return f"is for {binary.system}"
    if binary.machine != target.machine:
        return f"is for Linux {binary.machine}"
    if binary.glibc > GLIBC[1]:
        return f"needs glibc {GLIBC[0]}.{binary.glibc}"
    return None


def _wheel_problem(text: str, target: Target) -> str | None:
    tags = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("Tag:")]
    if not tags or any(target.runs_wheel(tag) for tag in tags):
        return None
    return f"is of a wheel for {', '.join(tags[:2])}"


def _path_problem(text: str) -> str | None:
    outside = next((line for line in text.splitlines() if posixpath.isabs(line)), None)
    return f"adds {outside} to the path of Python, outside of the archive" if outside else None


def _wrong_python(members: Mapping[str, tarfile.TarInfo]) -> Iterator[str]:
    minors = {int(match[1]) for match in map(_PYTHON_DIRECTORY.match, members) if match}
    for minor in sorted(minors - {PYTHON[1]}):
        yield f"lib/python3.{minor}: is of Python 3.{minor}, not {PYTHON_TEXT}"
