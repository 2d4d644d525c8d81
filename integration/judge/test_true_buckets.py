"""Every row is in the bucket in which Trino itself puts its key."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from .judge_keys import COUNTS, VERSIONS, key_columns, rows, trinos_buckets
from .lake import Lake, LakeProject

KINDS = ("string", "int", "bigint", "smallint", "tinyint", "boolean", "date", "two columns")
MOST = 1000


def counts_for(kind: str, scheme: str) -> tuple[int, ...]:
    """Strings meet all there is. Every type meets every count, every count both schemes; 1,000 takes long."""
    if kind == "string":
        return COUNTS
    start = (KINDS.index(kind) + list(VERSIONS).index(scheme)) % 2
    return tuple(count for count in COUNTS[start::2] if count != MOST or kind in ("bigint", "int", "two columns"))


def in_source(kind: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in rows(kind).to_pylist()]


def judged(project: LakeProject, kind: str, scheme: str, count: int, numbers: dict[tuple[Any, ...], int]) -> None:
    columns = key_columns(kind)
    text = f'SELECT {", ".join(columns)}, number, "$bucket" FROM {project.table(project.name)}'
    # What Trino does by itself, said aloud: it looks at some of the rows and fails where one is in a wrong bucket.
    found = project.ask(text, hive__validate_bucketing=True).rows
    assert Counter(tuple(row[:-1]) for row in found) == Counter(in_source(kind))
    # A count alone is answered from the footers.
    assert project.ask(f"SELECT count(*) FROM {project.table(project.name)}").rows == [[len(found)]]
    wrong = [row for row in found if row[-1] != numbers[tuple(row[: len(columns)])] % count]
    assert wrong == [], (scheme, count)


@pytest.mark.parametrize("scheme", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_in_the_bucket_that_trino_gives_its_key(lake: Lake, kind: str, scheme: str) -> None:
    numbers: dict[tuple[Any, ...], int] = {}
    for count in counts_for(kind, scheme):
        name = f"{kind.replace(' ', '_')}_{scheme}_{count}"
        columns = key_columns(kind)
        project = lake.publish(name, rows(kind), columns, buckets={"count": count, "hash": scheme})
        if not numbers:
            numbers = trinos_buckets(lake, project.table(name), columns, VERSIONS[scheme], name)
            assert len(numbers) == len({row[:-1] for row in in_source(kind)})
        judged(project, kind, scheme, count, numbers)
