"""Trino reads every value of every published type as it was written."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trino.exceptions import TrinoQueryError

from all_types import all_types

from .key_tables import KEY
from .lake import Lake
from .on_disk import show

NAME = "of_all_types"


def as_trino_has_it(value: Any, kind: pa.DataType) -> Any:
    """Convert a pyarrow value to that of Trino's client: timestamps without zone, times of day as numbers."""
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        # Of nanoseconds it is pandas' class, which has none that a datetime does not.
        return datetime.fromisoformat(str(value)[:26]).replace(tzinfo=None)
    if pa.types.is_map(kind):
        return {key: as_trino_has_it(inner, kind.item_type) for key, inner in value}
    if pa.types.is_struct(kind):
        return tuple(as_trino_has_it(value[field.name], field.type) for field in kind)
    if pa.types.is_list(kind):
        return [as_trino_has_it(inner, kind.value_type) for inner in value]
    return value


@pytest.mark.parametrize("scheme", ["hive_v1", "spark"])
def test_values_of_all_types_match_the_files(lake: Lake, scheme: str) -> None:
    given = all_types()
    table = pa.table({KEY: ["a", "b", "c"], **given})
    project = lake.publish(f"{NAME}_{scheme}", table, [KEY], buckets={"count": 1, "hash": scheme})
    (file,) = project.data(project.name)
    written = pq.read_table(io.BytesIO(lake.get(file)))
    text = f"SELECT {', '.join(written.column_names)} FROM {project.table(project.name)} ORDER BY {KEY}"
    (*read,) = zip(*project.ask(text, hive__timestamp_precision="NANOSECONDS").rows, strict=True)
    assert sorted(written.column_names) == sorted([KEY, *given])
    for name, values in zip(written.column_names, read, strict=True):
        column = written.column(name)
        if pa.types.is_time(column.type):
            column = column.cast(pa.int64())
        assert list(values) == [as_trino_has_it(value, column.type) for value in column.to_pylist()], name


# By the nearest type of Hive.
@pytest.mark.parametrize(
    ("kind", "hive", "value", "read"),
    [
        (pa.uint32(), "bigint", 2**32 - 1, -1),
        (pa.uint64(), "bigint", 2**64 - 1, -1),
        (pa.float16(), "float", 1.5, None),
        (pa.time32("ms"), "int", 1, None),
    ],
)
def test_types_that_trino_misreads_cannot_be_published(
    lake: Lake, kind: pa.DataType, hive: str, value: Any, read: int | None
) -> None:
    name = f"no_type_{str(kind).partition('[')[0]}"
    directory = lake.root / name
    directory.mkdir()
    written = pa.table({KEY: ["a"], "odd": pa.array([value], kind)})
    pq.write_table(written, directory / "000000_0.snappy.parquet")
    table = show(lake, name, {KEY: "string", "odd": hive}, f"local:///{name}/", [KEY], count=1)
    if read is None:
        with pytest.raises(TrinoQueryError, match="Unsupported Trino column type") as caught:
            lake.trino.rows(f"SELECT odd FROM {table}")
        assert caught.value.error_name == "NOT_SUPPORTED"
    else:
        assert lake.trino.rows(f"SELECT odd FROM {table}") == [[read]]
