"""Trino reads tables and columns named like keywords or with unusual first characters."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

from .lake import Lake, LakeProject

# The table and its database are called so; with a prefix before it the table's name would be nothing special.
NAME = "select"
ROWS = pa.table(
    {
        "Order": pa.array(["b", "a", None, "é", "a"]),
        "1st": pa.array([1, None, 3, 4, 5], pa.int64()),
        "table": pa.array(["x", "from", "", None, "z"]),
    }
)


@pytest.fixture(scope="module")
def project(lake: Lake) -> LakeProject:
    return lake.publish(NAME, ROWS, ["Order"], buckets={"count": 4}, catalog={"final_prefix": ""})


def check(project: LakeProject) -> None:
    """Compare the published table with the source, as a whole and with a key lookup."""
    table, columns = project.table(NAME, prefix=""), '"order", "1st", "table"'
    rows = project.ask(f"SELECT {columns} FROM {table}").rows
    assert Counter(map(tuple, rows)) == Counter(tuple(row.values()) for row in ROWS.to_pylist())
    sought = project.ask(f"SELECT {columns} FROM {table} WHERE \"order\" = 'a'")
    assert sorted(row[1] or 0 for row in sought.rows) == [0, 5]
    assert sought.scans == 1


def test_odd_names_are_readable_when_promoted(project: LakeProject) -> None:
    check(project)


def test_odd_names_are_readable_when_copied_by_trino(project: LakeProject) -> None:
    project.set(ctas={"method": "trino"})
    project.publish(NAME)
    assert "/ctas-" in project.locations()[NAME]
    check(project)
