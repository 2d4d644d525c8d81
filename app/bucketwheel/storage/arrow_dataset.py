"""Read the Parquet files of a directory on S3 as an Arrow dataset, which other engines can query in place."""

from __future__ import annotations

import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from bucketwheel.errors import StorageError
from bucketwheel.storage import Storage, wrap_os_errors
from bucketwheel.storage.locations import bucket_and_key
from bucketwheel.storage.s3_client import arrow_options


def parquet_dataset(storage: Storage, location: str) -> ds.Dataset | None:
    """Return the Parquet files directly in an S3 `location` as a dataset, or None if there is none.

    Arrow reads them with its own client, because a client in Python would wait for the engine that holds Python's
    lock. It uses the endpoint, region and credentials of this moment.

    Raises:
        StorageError: the directory or a footer cannot be read, or Arrow has no such access.
    """
    files = sorted(entry.location for entry in storage.list(location) if entry.name.endswith(".parquet"))
    if not files:
        return None
    if storage.settings.requester_pays:
        raise StorageError(
            f"{location}: Arrow cannot read requester-pays buckets; query the tables with Athena or Trino instead"
        )
    # The storage explains a refusal better than Arrow does.
    with wrap_os_errors(files[0], "read"), storage.open(files[0]) as stream:
        schema = pq.read_schema(stream)
    paths = ["/".join(bucket_and_key(file)) for file in files]
    return ds.dataset(paths, schema, format="parquet", filesystem=fs.S3FileSystem(**arrow_options(storage.settings)))
