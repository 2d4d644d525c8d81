"""Tables that the product would never publish: files of runs that were refused, shown to Trino all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from aws_server import plain_client
from bucketwheel.kernel import scatter
from bucketwheel.kernel.hashing import hash_keys
from project import Result

from .judge_keys import VERSIONS
from .lake import Lake, LakeProject, write_snapshot

Hash = Callable[[Sequence[pa.ChunkedArray], str], npt.NDArray[np.int32]]
_PARQUET = "org.apache.hadoop.hive.ql.io.parquet"


@contextmanager
def hashed_by(wrong: Hash) -> Iterator[None]:
    """Place rows by another hash; verify goes on with the right one."""
    with mock.patch.object(scatter, "hash_keys", wrong):
        yield


def by_bytes(function: Callable[[bytes], int]) -> Hash:
    """Return a hash of one column of texts that is computed from the bytes of each; NULL is 0 as it should be."""

    def hashes(columns: Sequence[pa.ChunkedArray], _: str) -> npt.NDArray[np.int32]:
        (column,) = columns
        found = [0 if text is None else function(text.encode()) for text in column.to_pylist()]
        return np.array(found, np.uint32).view(np.int32)

    return hashes


def unsigned_bytes(data: bytes) -> int:
    result = 0
    for byte in data:
        result = (31 * result + byte) % 2**32
    return result


def standard_murmur3(data: bytes) -> int:
    """Return Murmur3 by its own definition with Hive's seed; Hive extends the signs of the last bytes."""
    state, full = 104729, len(data) - len(data) % 4
    for start in range(0, full, 4):
        state ^= _scrambled(int.from_bytes(data[start : start + 4], "little"))
        state = ((state << 13 | state >> 19) * 5 + 0xE6546B64) % 2**32
    state ^= _scrambled(int.from_bytes(data[full:], "little")) ^ len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = (state ^ state >> shift) * factor % 2**32
    return state ^ state >> 16


def _scrambled(word: int) -> int:
    word = word * 0xCC9E2D51 % 2**32
    return (word << 15 | word >> 17) * 0x1B873593 % 2**32


def int_as_bigint(columns: Sequence[pa.ChunkedArray], scheme: str) -> npt.NDArray[np.int32]:
    return hash_keys([column.cast(pa.int64()) for column in columns], scheme)


def refused(lake: Lake, name: str, rows: pa.Table, key: str, **buckets: Any) -> tuple[LakeProject, Result]:
    """Run a table whose `verify` has to refuse it, and show its files to Trino nevertheless."""
    source = write_snapshot(lake.root / name / "in", rows)
    project = lake.project(name, {name: {"source": str(source), "key": key}}, buckets=buckets)
    result = project.cli("run", name)
    types = {pa.string(): "string", pa.int32(): "int", pa.int64(): "bigint"}
    glue = plain_client("glue", lake.glue)
    glue.create_database(DatabaseInput={"Name": name})
    described = {
        "Columns": [{"Name": field.name, "Type": types[field.type]} for field in rows.schema],
        "Location": f"s3://{lake.bucket}/{project.data(name)[0].rpartition('/')[0]}/",
        "InputFormat": f"{_PARQUET}.MapredParquetInputFormat",
        "OutputFormat": f"{_PARQUET}.MapredParquetOutputFormat",
        "SerdeInfo": {"SerializationLibrary": f"{_PARQUET}.serde.ParquetHiveSerDe"},
        "NumberOfBuckets": buckets["count"],
        "BucketColumns": [key],
    }
    version = str(VERSIONS[buckets.get("hash", "hive_v1")])
    table = {"Name": f"bucketed_{name}", "TableType": "EXTERNAL_TABLE", "StorageDescriptor": described}
    glue.create_table(
        DatabaseName=name, TableInput={**table, "Parameters": {"EXTERNAL": "TRUE", "bucketing_version": version}}
    )
    glue.close()
    return project, result
