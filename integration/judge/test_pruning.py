"""A look-up by key reads the file of its bucket, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .judge_keys import KEY, SECOND, key_columns, rows
from .lake import Lake
from .tables_of_persons import Persons

COUNT = 32


def literal(value: Any) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value).lower()


def condition(keys: dict[str, Any]) -> str:
    return " AND ".join(f"{name} = {literal(value)}" for name, value in keys.items())


@pytest.mark.parametrize("kind", ["string", "int", "bigint", "smallint", "tinyint", "boolean", "two columns"])
def test_a_look_up_reads_one_file_for_every_type(lake: Lake, kind: str) -> None:
    """Dates are not among them: Trino finds no bucket by a date."""
    name = f"pruned_{kind.replace(' ', '_')}"
    project = lake.publish(name, rows(kind), key_columns(kind), buckets={"count": COUNT})
    source = rows(kind).to_pylist()
    whole = project.ask(f"SELECT number FROM {project.table(name)} WHERE number >= 0")
    assert whole.scans == len(project.data(name)) > 1
    sought = [row for row in source if None not in (row[KEY], row.get(SECOND, 0))]
    for row in (sought[0], sought[-1]):
        keys = {column: row[column] for column in key_columns(kind)}
        found = project.ask(f"SELECT number FROM {project.table(name)} WHERE {condition(keys)}")
        same = [other["number"] for other in source if {column: other[column] for column in keys} == keys]
        assert sorted(number for (number,) in found.rows) == sorted(same)
        assert found.scans == 1


def test_a_look_up_reads_a_fraction_of_what_it_reads_without_buckets(persons: Persons) -> None:
    key = persons.key()
    bucketed, scattered = (
        project.ask(f"SELECT * FROM {project.table('ibe_01')} WHERE customer_user_id = '{key}'")
        for project in (persons.bucketed, persons.scattered)
    )
    assert bucketed.rows == scattered.rows
    assert len(bucketed.rows) == 1
    assert (bucketed.scans, scattered.scans) == (1, persons.files)
    assert 0 < bucketed.bytes_read * persons.files / 2 < scattered.bytes_read


def test_copies_of_a_file_count_to_its_bucket(lake: Lake) -> None:
    sizes = {"buckets": {"count": 3, "max_file_bytes": 400}, "size": {"row_group_bytes": 100}}
    project = lake.publish("copied", rows("string"), [KEY], **sizes)
    names = [Path(key).name for key in project.data("copied")]
    assert {f"{bucket:06d}_0_copy_1.snappy.parquet" for bucket in range(3)} < set(names)
    found = project.ask(f'SELECT number, "$bucket", "$path" FROM {project.table("copied")}').rows
    assert sorted(row[0] for row in found) == list(range(rows("string").num_rows))
    assert {(bucket, Path(path).name) for _, bucket, path in found} == {(int(name[:6]), name) for name in names}
    one = project.ask(f"SELECT number FROM {project.table('copied')} WHERE {KEY} = 'José'")
    bucket = next(row[1] for row in found if row[0] == one.rows[0][0])
    assert one.scans == sum(int(name[:6]) == bucket for name in names)
