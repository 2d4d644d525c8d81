"""The table "Would the first run succeed?" of docs/deploy.md."""

from __future__ import annotations

from typing import NamedTuple

from deploy_support import ROOT


class Row(NamedTuple):
    """The cells of an account."""

    doctor: str
    deploy: str


def rows() -> dict[str, Row]:
    """Return the rows by account."""
    text = (ROOT / "docs/deploy.md").read_text("utf-8")
    section = text.partition("## Would the first run succeed?")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| account")]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {account: Row(doctor, deploy) for account, doctor, deploy in cells}
