"""Keys identify people: only `privacy.show_keys` brings them into metadata, reports and catalogs."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.runs.column_statistics import ColumnStatistics
from bucketwheel.runs.privacy import without_keys
from project import WIDE, Project

KEYS = [700_000_001 + 17 * number for number in range(50)]


def statistics(smallest: str | None, largest: str | None) -> ColumnStatistics:
    return ColumnStatistics(name="id", nulls=0, distinct=9, smallest=smallest, largest=largest)


@pytest.mark.parametrize(
    ("smallest", "largest", "shown"),
    [
        ("1", "1000", ("0", "1023")),
        ("0", "0", ("0", "0")),
        ("-5", "1024", ("-8", "2047")),
        ("-9", "-2", ("-16", "-1")),
        (str(-(2**63)), str(2**63 - 1), (str(-(2**63)), str(2**63 - 1))),
        ("2001-04-05", "2002-01-01", (None, None)),
        ("1.5", "2.5", (None, None)),
        (None, None, (None, None)),
    ],
)
def test_range_of_keys_is_hidden(smallest: str | None, largest: str | None, shown: tuple[str | None, ...]) -> None:
    given = statistics(smallest, largest)
    (hidden,) = once = without_keys([given], ["id"])
    assert (hidden.smallest, hidden.largest, hidden.distinct) == (*shown, 9)
    assert without_keys(once, ["id"]) == once
    assert without_keys([given], ["other"]) == (given,)


@pytest.fixture
def numbered(project: Project, tmp_path: Path) -> Project:
    """A project whose key is a number."""
    snapshot = tmp_path / "source" / "snapshot_dt=2025-10-22"
    snapshot.mkdir(parents=True)
    pq.write_table(pa.table({"id": KEYS, "age": range(50)}), snapshot / "people.parquet")
    project.settings["datasets"] = {WIDE: {"key": "id", "source": str(snapshot.parent)}}
    project.set()
    return project


def readable(project: Project) -> str:
    """Run, and return all texts that hold no data: outputs, metadata and the report."""
    texts = []
    for words in (
        ("plan", "--output", "json"),
        ("run", WIDE, "--output", "json"),
        ("show", "last", "--output", "json"),
        ("show", "last", "--verbose"),
        ("report", "last", "--to", "report.html"),
        ("runs",),
        ("verify", "last"),
    ):
        result = project.cli(*words)
        assert result.exit_code == 0, result
        texts += [result.stdout, result.stderr]
    files = [path for path in project.target.glob("_bucketwheel/**/*") if path.is_file()]
    return "\n".join([*texts, Path("report.html").read_text(), *(path.read_text() for path in files)])


def test_no_key_leaves_the_data(numbered: Project) -> None:
    text = readable(numbered)
    assert not [key for key in KEYS if str(key) in text]
    assert "Smallest key" not in text


def test_show_keys_shows_them(numbered: Project) -> None:
    numbered.set(privacy={"show_keys": True})
    text = readable(numbered)
    assert str(KEYS[0]) in text
    assert str(KEYS[-1]) in text
    assert "Smallest key" in Path("report.html").read_text()


def test_keys_of_an_earlier_version_are_hidden_too(numbered: Project) -> None:
    numbered.set(privacy={"show_keys": True})
    assert numbered.cli("run", WIDE).exit_code == 0
    numbered.set(privacy={"show_keys": False})
    for words in (("show", "last", "--output", "json"), ("run", WIDE, "--output", "json")):
        shown = numbered.cli(*words)
        assert json.loads(shown.stdout)
        assert not [key for key in KEYS if str(key) in shown.stdout]
    (run_id,) = numbered.run_ids(WIDE)
    assert str(KEYS[0]) not in api.report(numbered.configuration(), run_id)


def test_wrong_file_is_named_without_a_key(numbered: Project) -> None:
    assert numbered.cli("run", WIDE).exit_code == 0
    first = sorted(numbered.target.glob(f"{WIDE}/*/*/*.parquet"))[0]
    with pq.ParquetFile(first) as file:
        table = file.read()
    pq.write_table(table.take(pa.array(range(table.num_rows))[::-1]), first)
    result = numbered.cli("verify", "last")
    assert result.exit_code == 3
    assert not [key for key in KEYS if str(key) in result.stderr]
