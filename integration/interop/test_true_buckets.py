"""Every row is in the bucket that Trino computes for its key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from .key_tables import COUNTS, KEY, VERSIONS, key_columns, rows, trinos_buckets
from .lake import Lake
from .on_disk import show_written

KINDS = ("string", "int", "bigint", "smallint", "tinyint", "boolean", "date", "two columns")
# Of the counts the one by which every wrong hash shows; the tables of the others stay on disk, where a run of 1,000
# buckets does not write a thousand objects into its books.
PUBLISHED = 10
Numbers = Mapping[tuple[Any, ...], int]


@pytest.fixture(scope="module")
def numbers(lake: Lake) -> Callable[[str, str, str], Numbers]:
    """Return Trino's buckets for all keys of a type and a hash; queried once."""
    known: dict[tuple[str, str], Numbers] = {}

    def found(kind: str, scheme: str, table: str) -> Numbers:
        name = f"{kind.replace(' ', '_')}_{scheme}"
        if (kind, scheme) not in known:
            made = trinos_buckets(lake, table, key_columns(kind), VERSIONS[scheme], name)
            assert len(made) == len({row[:-1] for row in in_source(kind)})
            known[kind, scheme] = made
        return known[kind, scheme]

    return found


def in_source(kind: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in rows(kind).to_pylist()]


def judge(lake: Lake, kind: str, tables: Mapping[int, str], numbers: Numbers) -> None:
    """Compare tables, given by bucket count, row by row with the source and with Trino's bucket numbers."""
    columns = key_columns(kind)
    parts = (
        f'SELECT {count} AS buckets, {", ".join(columns)}, number, "$bucket" FROM {table}'
        for count, table in tables.items()
    )
    # What Trino does by itself, said aloud: it looks at some of the rows and fails where one is in a wrong bucket.
    buckets = lake.trino.rows(" UNION ALL ".join(parts), hive__validate_bucketing=True)
    assert Counter(tuple(row[:-1]) for row in buckets) == Counter(
        (count, *row) for count in tables for row in in_source(kind)
    )
    # A count alone is answered from the footers.
    counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in tables.values())
    assert lake.trino.rows(f"SELECT {counts}") == [[len(in_source(kind))] * len(tables)]
    assert [row for row in buckets if row[-1] != numbers[tuple(row[1:-2])] % row[0]] == []


@pytest.mark.parametrize("scheme", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_bucket_of_every_row_matches_trino(
    lake: Lake, numbers: Callable[[str, str, str], Numbers], kind: str, scheme: str
) -> None:
    tables = {}
    for count in COUNTS:
        name, buckets = f"{kind.replace(' ', '_')}_{scheme}_{count}", {"count": count, "hash": scheme}
        if count == PUBLISHED:
            tables[count] = lake.publish(name, rows(kind), key_columns(kind), buckets=buckets).table(name)
        else:
            tables[count] = show_written(lake, name, rows(kind), key_columns(kind), **buckets)
    judge(lake, kind, tables, numbers(kind, scheme, tables[PUBLISHED]))


@pytest.mark.parametrize("scheme", VERSIONS)
def test_bucket_of_every_copied_row_matches_trino(
    lake: Lake, numbers: Callable[[str, str, str], Numbers], scheme: str
) -> None:
    """The files are so small that buckets continue in further files."""
    name = f"several_files_{scheme}"
    sizes = {"buckets": {"count": PUBLISHED, "hash": scheme, "max_file_bytes": 400}, "size": {"row_group_bytes": 100}}
    project = lake.publish(name, rows("string"), [KEY], **sizes)
    copies = Counter(Path(key).name[:6] for key in project.data(name) if "_0_copy_" in key)
    assert len(copies) > PUBLISHED / 2
    judge(lake, "string", {PUBLISHED: project.table(name)}, numbers("string", scheme, project.table(name)))
