"""Polars: a partitioned streaming sink per table. Its hash is not Hive's, so the files are not Hive buckets."""

from __future__ import annotations

import polars as pl

from .work import BUCKETS, KEY, from_arguments


def main() -> None:
    work, out = from_arguments()
    for name, columns in work.tables.items():
        bucket = (pl.col(KEY).hash() % BUCKETS).alias("bucket")
        rows = pl.scan_parquet(list(work.files)).select(KEY, *columns, bucket)
        target = pl.PartitionBy(out / name, key="bucket", include_key=False)
        rows.sink_parquet(target, compression="snappy", mkdir=True, engine="streaming")


if __name__ == "__main__":
    main()
