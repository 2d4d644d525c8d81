"""Commands that find damaged files, as after a power cut or a bad copy, end in words and keep what is published."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from struck_project import Project

from runs_support import DATASET, FEBRUARY, JANUARY

pytestmark = pytest.mark.crash
# Each command meets some of the damages, and each damage some of the commands: DAMAGES_EVERY=1 tries all pairs.
EVERY_NTH = int(os.environ.get("DAMAGES_EVERY", "7"))

COMMANDS = (
    ("tables",),
    ("runs",),
    ("show", "last"),
    ("report", "last", "--to", "report.html"),
    ("verify", "last"),
    ("plan", DATASET),
    ("doctor",),
    ("run", DATASET),
    ("run", DATASET, "--resume", "last"),
    ("rollback", "--previous", DATASET),
    ("expire", DATASET, "--keep", "1", "--yes"),
)


def wrong_types(content: bytes) -> bytes:
    """Replace every value of a JSON object by one of another type."""
    try:
        document = json.loads(content)
    except ValueError:
        return b"\x00\x01"
    return json.dumps({name: [] if isinstance(value, str) else "odd" for name, value in document.items()}).encode()


DAMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda content: content[: len(content) * 2 // 3],
    "zeros": lambda content: bytes(len(content)),
    "list": lambda _: b"[1]",
    "null": lambda _: b"null",
    "other types": wrong_types,
    "not text": lambda content: b"\xff\xfe" + content[2:],
}


def files_of(project: Project) -> dict[str, Path]:
    """Return the files that commands read, by name."""
    root, metadata = project.case.root, project.case.target / "_bucketwheel" / DATASET
    january, february = sorted(path for path in (metadata / "runs").iterdir())
    return {
        "manifest": february / "manifest.json",
        "earlier manifest": january / "manifest.json",
        "summary": february / "summary.json",
        "claim": february / "claim.json",
        "replaced_at": january / "replaced_at.txt",
        "withdrawn": metadata / "withdrawn" / f"{january.name}.json",
        "tables": project.case.target / DATASET / "metadata" / "tables.json",
        "snapshot_dt": project.case.target / DATASET / "metadata" / "snapshot_dt.txt",
        "catalog": project.case.catalog,
        "mapping": project.case.mapping,
        "base.yaml": root / "conf" / "base.yaml",
    }


NAMES = (
    "manifest", "earlier manifest", "summary", "claim", "replaced_at", "withdrawn", "tables", "snapshot_dt",
    "catalog", "mapping", "base.yaml",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_damaged_file_ends_every_command_in_words(project: Project, name: str) -> None:
    original, problems = content_of(project, name), []
    for number, words in enumerate(COMMANDS):
        for turn, (damage, change) in enumerate(DAMAGES.items()):
            if (number + turn) % EVERY_NTH:
                continue
            project.restore("february")
            path = files_of(project)[name]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(change(original))
            ended = project.command(*words)
            if "Traceback" in ended.stderr or ended.code not in (0, 1, 2, 3, 4):
                problems.append(f"{name}, {damage}: {ended}")
            if name != "catalog":
                project.readers_see(FEBRUARY, JANUARY)
    assert not problems, "\n\n".join(problems)


def content_of(project: Project, name: str) -> bytes:
    project.restore("february")
    path = files_of(project)[name]
    if path.exists():
        return path.read_bytes()
    moment = "2026-11-29T10:00:00+00:00"
    if name == "replaced_at":
        return moment.encode()
    return json.dumps({"dataset": DATASET, "run_id": path.stem, "at": moment}).encode()
