"""AWS SDK for pandas: bucketed writes of two fractions of one table to moto's S3, which give the cost per row.

Each write creates 256 objects for any number of rows, so scaling one fraction would count far more objects than
the whole table has. Arguments: directory of the sample data, unused, address of S3, two numbers
of rows. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import awswrangler as wr
import boto3
import pyarrow as pa
import pyarrow.parquet as pq

from .work import BUCKETS, KEY, Work, from_arguments

_WARM_UP_ROWS = 100


def main() -> None:
    work, _ = from_arguments()
    endpoint, sizes = sys.argv[3], [int(text) for text in sys.argv[4:6]]
    wr.config.s3_endpoint_url = endpoint
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="bench")
    rows = _first_rows(work, sizes[-1])
    _write(rows.slice(0, _WARM_UP_ROWS), "s3://bench/warm-up/")
    print(json.dumps({"fractions": [_write(rows.slice(0, size), f"s3://bench/{size}/") for size in sizes]}))


def _first_rows(work: Work, count: int) -> Any:
    """Read the start of the first table; this is not timed, which slightly favors this peer."""
    columns = [KEY, *next(iter(work.tables.values()))]
    batches: list[Any] = []
    for path in work.files:
        if sum(batch.num_rows for batch in batches) < count:
            batches += pq.ParquetFile(path).iter_batches(columns=columns)
    return pa.Table.from_batches(batches).slice(0, count)


def _write(rows: Any, target: str) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    wr.s3.to_parquet(rows.to_pandas(), path=target, dataset=True, bucketing_info=([KEY], BUCKETS))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    objects = wr.s3.size_objects(target)
    wr.s3.delete_objects(target)
    return {
        "rows": rows.num_rows,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "bytes_written": sum(size or 0 for size in objects.values()),
        "files_written": len(objects),
    }


if __name__ == "__main__":
    main()
