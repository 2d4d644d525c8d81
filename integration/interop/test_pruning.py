"""A lookup by key reads only the file of its bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .key_tables import KEY, SECOND, key_columns, literal, rows
from .lake import Lake
from .people_tables import PeopleTables

COUNT = 32
KINDS = ("string", "int", "bigint", "smallint", "tinyint", "boolean", "two columns", "date")


def condition(keys: dict[str, Any]) -> str:
    return " AND ".join(f"{name} = {literal(value)}" for name, value in keys.items())


@pytest.mark.parametrize("kind", KINDS)
def test_key_lookup_reads_one_file_for_every_type(lake: Lake, kind: str) -> None:
    """This includes dates, which Trino supports although its source suggests otherwise."""
    name, keys = f"pruned_{kind.replace(' ', '_')}", key_columns(kind)
    project = lake.publish(name, rows(kind), keys, buckets={"count": COUNT})
    sizes = {f"s3://{lake.bucket}/{key}": lake.size(key) for key in project.data(name)}
    everything = f'SELECT {", ".join(keys)}, number, "$path" FROM {project.table(name)}'
    whole = project.ask(everything)
    assert (whole.scans, whole.bytes_read) == (len(sizes), sum(sizes.values()))
    sought = [row for row in rows(kind).to_pylist() if None not in (row[KEY], row.get(SECOND, 0))]
    for row in (sought[0], sought[-1]):
        key = {column: row[column] for column in keys}
        answer = project.ask(f"{everything} WHERE {condition(key)}")
        same = [other["number"] for other in sought if {column: other[column] for column in keys} == key]
        assert sorted(number for *_, number, _ in answer.rows) == sorted(same)
        (path,) = {path for *_, path in answer.rows}
        assert (answer.scans, answer.bytes_read) == (1, sizes[path])
        assert answer.bytes_read < whole.bytes_read


def test_key_lookup_reads_fewer_bytes_with_buckets(people: PeopleTables) -> None:
    key = people.key()
    bucketed, scattered = (
        project.ask(f"SELECT * FROM {project.table('ibe_01')} WHERE customer_user_id = '{key}'")
        for project in (people.bucketed, people.scattered)
    )
    assert bucketed.rows == scattered.rows
    assert len(bucketed.rows) == 1
    assert (bucketed.scans, scattered.scans) == (1, people.files)
    assert 0 < bucketed.bytes_read * people.files / 2 < scattered.bytes_read


def test_continuation_files_belong_to_their_bucket(lake: Lake) -> None:
    sizes = {"buckets": {"count": 3, "max_file_bytes": 400}, "size": {"row_group_bytes": 100}}
    project = lake.publish("copied", rows("string"), [KEY], **sizes)
    names = [Path(key).name for key in project.data("copied")]
    assert {f"{bucket:06d}_0_copy_1.snappy.parquet" for bucket in range(3)} < set(names)
    answer_rows = project.ask(f'SELECT number, "$bucket", "$path" FROM {project.table("copied")}').rows
    assert sorted(row[0] for row in answer_rows) == list(range(rows("string").num_rows))
    assert {(bucket, Path(path).name) for _, bucket, path in answer_rows} == {(int(name[:6]), name) for name in names}
    one = project.ask(f"SELECT number FROM {project.table('copied')} WHERE {KEY} = 'José'")
    bucket = next(row[1] for row in answer_rows if row[0] == one.rows[0][0])
    assert one.scans == sum(int(name[:6]) == bucket for name in names)
