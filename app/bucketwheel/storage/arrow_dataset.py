"""Read Parquet files on S3 as an Arrow dataset, which other engines can query in place."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from bucketwheel.errors import StorageError
from bucketwheel.storage import Storage, wrap_os_errors
from bucketwheel.storage.locations import bucket_and_key
from bucketwheel.storage.s3_client import arrow_options


def parquet_dataset(storage: Storage, files: Sequence[str]) -> ds.Dataset:
    """Return Parquet files on S3, which have the same columns, as a dataset.

    Arrow reads them with its own client, because a client in Python would wait for the engine that holds Python's
    lock. It uses the endpoint, region and credentials of this moment.

    Raises:
        StorageError: the footer of the first file cannot be read, or Arrow has no such access.
    """
    if storage.settings.requester_pays:
        raise StorageError(
            f"{files[0]}: Arrow cannot read requester-pays buckets; query the tables with Athena or Trino instead"
        )
    # The storage explains a refusal better than Arrow does.
    with wrap_os_errors(files[0], "read"), storage.open(files[0]) as stream:
        schema = pq.read_schema(stream)
    paths = ["/".join(bucket_and_key(file)) for file in files]
    return ds.dataset(paths, schema, format="parquet", filesystem=fs.S3FileSystem(**arrow_options(storage.settings)))
