"""Create a virtual environment with packages of a lock, each checked against its hashes, and this project on top.

Only the standard library: it runs before anything is installed. For usage run `python integration/environment.py -h`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

# pip takes hashes of packages without a version from a constraints file only since 26.
# setuptools builds source packages, such as pyspark: pip would download it for that, without a check.
BUILD = ("pip", "setuptools")
ATTEMPTS = 4
PAUSE_SECONDS = 15
# Nothing imports the tests inside packages, which are a third of the code of numpy, pandas and sympy.
TESTS = r"/site-packages/.*/tests/"


def entries(lock: str, names: Iterable[str]) -> list[str]:
    """Return the entries of a lock for these packages, with version and hashes."""
    joined = lock.replace("\\\n", " ")
    found = {name: re.search(rf"^{re.escape(name)}==.*--hash=.*$", joined, re.MULTILINE) for name in names}
    if missing := [name for name, entry in found.items() if entry is None]:
        sys.exit(f"the lock has no version with hashes of {', '.join(missing)}; add it, then run: make locks")
    return [entry.group() for entry in found.values() if entry]


def requirements(project: str, extras: Iterable[str]) -> list[str]:
    """Return the requirements of the project in the text of its pyproject.toml, with those of its extras."""
    table = tomllib.loads(project)["project"]
    optional = table["optional-dependencies"]
    return [*table["dependencies"], *(name for extra in extras for name in optional[extra])]


def create(
    directory: Path, lock: Path, packages: Sequence[str], groups: Sequence[str], options: Sequence[str]
) -> None:
    """Create the environment and install packages and dependency groups at the versions of the lock."""
    _run(sys.executable, "-m", "venv", str(directory))
    pip = (str(directory / "bin" / "pip"), "--disable-pip-version-check", *options)
    bootstrap, wanted = directory / "build.txt", directory / "requirements.txt"
    bootstrap.write_text("\n".join(entries(lock.read_text("utf-8"), BUILD)) + "\n", "utf-8")
    wanted.write_text("\n".join(packages) + "\n", "utf-8")
    install(pip, "--quiet", "--require-hashes", "--requirement", str(bootstrap))
    names = [word for group in groups for word in ("--group", group)]
    of_lock = ("--require-hashes", "--no-build-isolation", "--no-compile", "--constraint", str(lock))
    install(pip, *of_lock, "--requirement", str(wanted), *names)
    compile_packages(str(directory / "bin" / "python"), directory.absolute())


def compile_packages(python: str, directory: Path) -> None:
    """Compile the installed packages without their tests, on all cores; pip would compile everything on one core.

    It ignores failures, as pip does: packages may have files for other versions of Python.
    """
    options = ("-q", "-q", "-j", "0", "-x", TESTS)
    subprocess.run([python, "-W", "ignore", "-m", "compileall", *options, str(directory / "lib")], check=False)


def _run(*command: str) -> None:
    if code := subprocess.run(command, check=False).returncode:
        sys.exit(code)


def install(pip: Sequence[str], *arguments: str) -> None:
    """Install with pip; try again, because connections break and an index may serve a part of a file."""
    for attempt in range(ATTEMPTS):
        # The cache may hold that part of a file.
        fresh = ("--no-cache-dir",) if attempt else ()
        code = subprocess.run([*pip, "install", *fresh, *arguments], check=False).returncode
        if not code:
            return
        if attempt + 1 < ATTEMPTS:
            print(f"pip failed with exit code {code}; trying again in {PAUSE_SECONDS} seconds", file=sys.stderr)
            time.sleep(PAUSE_SECONDS)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Create the environment that the arguments describe."""
    parser = argparse.ArgumentParser(description="Create an environment from a lock with hashes.")
    parser.add_argument("directory", type=Path, help="Directory of the environment.")
    parser.add_argument("lock", type=Path, help="Lock with version and hashes of every package.")
    parser.add_argument("--extras", help="Extras of this project, with commas; installs the project, too.")
    parser.add_argument("--groups", default="", help="Dependency groups of this project, with commas.")
    parser.add_argument("--packages", default="", help="Other packages of the lock, with commas.")
    parser.add_argument("--quiet", action="store_true", help="Print errors only.")
    given = parser.parse_args(arguments)
    packages, options = _words(given.packages), ["--quiet"] if given.quiet else []
    if given.extras is not None:
        packages += requirements(Path("pyproject.toml").read_text("utf-8"), _words(given.extras))
    create(given.directory, given.lock, packages, _words(given.groups), options)
    if given.extras is not None:
        # An editable install has no hash; its dependencies are in place already.
        pip = (str(given.directory / "bin" / "pip"), "install", "--disable-pip-version-check", *options)
        _run(*pip, "--no-deps", "--no-build-isolation", "--editable", ".")


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


if __name__ == "__main__":
    main()
