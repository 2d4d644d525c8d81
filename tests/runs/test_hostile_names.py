"""Names that hold terminal escapes, line breaks and marks of direction, in all that commands print."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from project import WIDE, Project, Result

EVIL = "\x1b]0;t\x07\x9b2J\nFORGED\r\u202e\u200b[red]"

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("plan",),
    ("run", "--verbose"),
    ("run", "--force"),
    ("runs",),
    ("show", "last", "--verbose"),
    ("tables",),
    ("verify", "last"),
    ("report", "last"),
    ("doctor",),
    ("config",),
    ("expire", "--keep", "1", "--dry-run"),
    ("plan", "--output", "json"),
    ("show", "last", "--output", "json"),
)


def assert_harmless(result: Result) -> None:
    """Check that an output shows the hostile names, if at all, as escapes."""
    for text in (result.stdout, result.stderr):
        assert not {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs")}, text
        assert not any(line.strip().startswith("FORGED") for line in text.splitlines()), text


@pytest.fixture
def hostile(project: Project, tmp_path: Path) -> Project:
    """A project with hostile names of columns, files, fields, directories, and of tables of others."""
    source = tmp_path / "source"
    snapshot = source / "snapshot_dt=2025-10-22"
    snapshot.mkdir(parents=True)
    (source / f"snapshot_dt=x{EVIL}").mkdir()
    table = pa.table({"id": ["a", "b"], f"c{EVIL}": [1, 2], f"d{EVIL}": [1, 2], "e": [{"f": 1}, None]})
    pq.write_table(table, snapshot / f"part{EVIL}.parquet")
    (snapshot / f"note{EVIL}.txt").write_text("x")
    dataset = {"key": "id", "source": str(source), "complete_marker": None, "mapping": None}
    project.settings["datasets"] = {WIDE: dataset}
    project.set()
    with duckdb.connect(str(project.catalog)) as connection:
        connection.execute(f'CREATE SCHEMA "{project.database}"')
        connection.execute(f'CREATE TABLE "{project.database}"."ext_{EVIL}" AS SELECT 1 AS "x{EVIL}"')
    return project


def columns(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the columns of the source in the JSON of `plan` or `show`."""
    stage = document[WIDE]["discover"] if WIDE in document else document["stages"]["discover"]["result"]
    return list(stage["columns"])


def test_successful_commands_show_names_escaped(hostile: Project) -> None:
    for command in COMMANDS:
        result = hostile.cli(*command)
        assert_harmless(result)
        assert result.exit_code == 0 or command == ("doctor",), (command, result.stderr)
        if "json" in command:
            assert f"c{EVIL}" in [column["name"] for column in columns(json.loads(result.stdout))]


@pytest.mark.parametrize(
    "words",
    [
        ("plan", f"x{EVIL}"),
        ("plan", "--set", f"x{EVIL}=1"),
        ("plan", "--set", f"buckets.count=x{EVIL}"),
        ("plan", "--set", f"target=s4://{EVIL}"),
        ("plan", "--set", f"datasets.{WIDE}.key=k{EVIL}"),
        ("plan", "--set", f"engine=e{EVIL}"),
        ("plan", "--env", f"e{EVIL}"),
        ("plan", "--snapshot-dt", EVIL),
        ("run", "--tables-filter", f"t{EVIL}"),
        ("run", "--stages", f"s{EVIL}"),
        ("run", "--resume", f"r{EVIL}"),
        ("show", f"r{EVIL}"),
        (f"x{EVIL}",),
        ("plan", f"--x{EVIL}"),
    ],
)
def test_refused_words_are_shown_escaped(hostile: Project, words: tuple[str, ...]) -> None:
    result = hostile.cli(*words)
    assert result.exit_code
    assert_harmless(result)


def test_refused_input_is_named_escaped(hostile: Project, tmp_path: Path) -> None:
    snapshot = tmp_path / "source" / "snapshot_dt=2025-10-22"
    mapping = tmp_path / f"mapping{EVIL}.csv"
    odd = snapshot / f"odd{EVIL}.parquet"

    def refused() -> None:
        result = hostile.cli("run", WIDE)
        assert result.exit_code, result
        assert_harmless(result)

    mapping.write_text(f'table,column\n"t{EVIL}","none{EVIL}"\n"t","c{EVIL}"\n', newline="")
    hostile.settings["datasets"][WIDE]["mapping"] = str(mapping)
    hostile.set()
    refused()
    mapping.unlink()
    refused()
    hostile.settings["datasets"][WIDE]["mapping"] = None
    hostile.set()
    odd.write_bytes(b"PAR1")
    refused()
    pq.write_table(pa.table({"id": ["a"], f"c{EVIL}": ["text"], "e": [{f"f{EVIL}": "text"}]}), odd)
    refused()
    odd.unlink()
    odd.symlink_to(f"nowhere{EVIL}")
    refused()
