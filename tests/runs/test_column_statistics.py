"""The statistics in the manifest equal those that DuckDB computes from the published tables."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from bucketwheel import api
from bucketwheel.catalogs.sql import quoted
from bucketwheel.kernel.distinct import KEPT_HASHES
from bucketwheel.runs.manifest import Manifest
from project import DATABASE, WIDE, Project
from runs_support import Case

NUMBERS = ("INT", "DOUBLE", "FLOAT", "DECIMAL")


def manifest_of(project: Project) -> Manifest:
    (run_id,) = project.run_ids(WIDE)
    return api.manifest(project.configuration(), run_id)


def measured(project: Project, table: str, column: str) -> dict[str, Any]:
    """Return the statistics of a published column, from its files."""
    name = f'"{DATABASE}"."bucketed_{table}"'
    with duckdb.connect(str(project.catalog), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        ((kind,),) = connection.execute(f"SELECT DISTINCT typeof({column}) FROM {name}").fetchall()
        facts = {"nulls": f"count(*) - count({column})", "distinct": f"count(DISTINCT {column})"}
        if kind in ("VARCHAR", "BLOB"):
            facts |= {"longest": f"max(strlen({column}))", "bytes": f"sum(strlen({column}))"}
        elif kind == "BOOLEAN":
            facts |= {"trues": f"count_if({column})"}
        else:
            facts |= {"smallest": f"min({column})", "largest": f"max({column})"}
        (row,) = connection.execute(f"SELECT {', '.join(facts.values())} FROM {name}").fetchall()
    return {"kind": kind, **dict(zip(facts, row, strict=True))}


@pytest.mark.parametrize("level", ["basic", "distinct"])
def test_statistics_of_every_column_equal_those_of_the_files(project: Project, level: str) -> None:
    project.set(catalog={"column_statistics": level})
    project.run()
    manifest = manifest_of(project)
    columns = {column.name: column for column in manifest.bucket.column_statistics}
    compared = 0
    for table in manifest.split.tables:
        for pair in (*manifest.split.keys, *table.columns):
            if pair.source not in columns:
                continue
            expected, column = measured(project, table.name, quoted(pair.name)), columns[pair.source]
            assert column.nulls == expected["nulls"]
            if column.distinct is not None:
                assert column.distinct_exact == (column.distinct < KEPT_HASHES)
                assert column.distinct == expected["distinct"]
            for name in expected.keys() - {"kind", "nulls", "distinct"}:
                assert_same(getattr(column, name), expected[name], expected["kind"])
            compared += 1
    assert compared > len(manifest.split.tables)
    counted = {column.name for column in columns.values() if column.distinct is not None}
    assert manifest.discover.keys[0] in counted
    booleans = {column.name for column in columns.values() if column.trues is not None}
    assert (counted | booleans == set(columns)) is (level == "distinct")


def assert_same(given: Any, expected: Any, kind: str) -> None:
    if isinstance(given, str) and not any(word in kind for word in NUMBERS):
        assert given.rstrip("0").rstrip(".:") == expected.isoformat().rstrip("0").rstrip(".:")
    else:
        assert type(expected)(given) == expected


def test_level_none_collects_nothing_and_changes_no_byte(project: Project) -> None:
    project.run()
    first = project.hashes(*project.run_ids(WIDE))
    assert manifest_of(project).bucket.column_statistics
    project.set(catalog={"column_statistics": "none"}, target=str(project.root / "other"))
    project.target = project.root / "other"
    project.run()
    assert manifest_of(project).bucket.column_statistics == ()
    assert project.hashes(*project.run_ids(WIDE)) == first


def test_manifest_without_statistics_loads(case: Case) -> None:
    manifest = case.run().manifest
    document = manifest.model_dump(mode="json")
    del document["stages"]["bucket"]["result"]["column_statistics"]
    assert Manifest.model_validate(document).bucket.column_statistics == ()
