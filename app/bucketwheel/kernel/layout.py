"""Choose names and sizes: bucket file names, standard column names, number of files, rows of row groups."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from bucketwheel.errors import VerificationError
from bucketwheel.formatting import counted

# The three name patterns of Trino's BackgroundHiveSplitLoader in its order; each must match the whole name.
_HIVE_PATTERNS = (
    re.compile(r"\d{8}_\d{6}_\d{5}_[a-z0-9]{5}_bucket-(\d+)(?:[-_.].*)?", re.ASCII),
    re.compile(r"(\d+)_\d+.*", re.ASCII),
    re.compile(r"bucket_(\d+)(?:_\d+)?", re.ASCII),
)
# Spark's BucketingUtils.bucketedFileName.
_SPARK_PATTERN = re.compile(r".*_(\d+)(?:\..*)?", re.ASCII)

# Readers of Iceberg tables take the bucket from the metadata; no other reader finds one in these names.
_ICEBERG_PATTERN = re.compile(r"bucket-(\d{5,})-\d{3,}\.snappy\.parquet", re.ASCII)
_PATTERNS = {"spark": (_SPARK_PATTERN,), "iceberg": (_ICEBERG_PATTERN,)}

# Names that `bucket_file_name` returns.
_OWN_NAME = re.compile(
    r"(\d{6,}_0(_copy_\d+)?|part-\d{5,}-bucketwheel_\d{5,}\.c\d{3,}|bucket-\d{5,}-\d{3,})\.snappy\.parquet", re.ASCII
)

_GIGABYTE = 2**30
_SMALLEST_AUTO_FILE = 100 * 10**6


def filled_buckets(count: int, rows: int) -> int:
    """Return the expected number of buckets that get rows, if keys hash evenly; others have no file."""
    return round(count * -math.expm1(rows * math.log1p(-1 / count))) if count > 1 else min(rows, 1)


def bucket_file_name(bucket: int, copy: int, scheme: str) -> str:
    """Return the name of file `copy` (0 is the first) of a bucket, as readers of `scheme` parse it.

    In an Iceberg layout of n buckets, bucket n has the rows whose key is NULL.
    """
    if scheme == "iceberg":
        return f"bucket-{bucket:05d}-{copy:03d}.snappy.parquet"
    if scheme == "spark":
        return f"part-{bucket:05d}-bucketwheel_{bucket:05d}.c{copy:03d}.snappy.parquet"
    suffix = f"_copy_{copy}" if copy else ""
    return f"{bucket:06d}_0{suffix}.snappy.parquet"


def is_bucket_file_name(name: str) -> bool:
    """Return whether a file has a name that `bucket_file_name` returns."""
    return _OWN_NAME.fullmatch(name) is not None


def bucket_of_file(name: str, scheme: str) -> int | None:
    """Return the bucket number that readers parse from a file name, or None if it follows no pattern."""
    for pattern in _PATTERNS.get(scheme, _HIVE_PATTERNS):
        if match := pattern.fullmatch(name):
            return int(match[1])
    return None


def buckets_of_files(directory: str, names: Sequence[str], count: int, scheme: str) -> dict[str, int]:
    """Return the bucket that readers assign to each file of a directory.

    If a name follows no pattern, Hive readers assign the sorted files to buckets in order, which requires one file
    for each bucket.

    Raises:
        VerificationError: readers would reject the directory.
    """
    parsed = {name: bucket_of_file(name, scheme) for name in names}
    nameless = [name for name, bucket in parsed.items() if bucket is None]
    if nameless:
        if scheme == "spark" or len(names) != count:
            raise VerificationError(
                f"{directory}/{nameless[0]}: readers find no bucket number in this name, and the directory has "
                f"{counted(len(names), 'file')}, not {count} (one for each bucket)"
            )
        return {name: number for number, name in enumerate(sorted(names))}
    buckets = {name: bucket for name, bucket in parsed.items() if bucket is not None}
    for name, bucket in buckets.items():
        if bucket >= count:
            raise VerificationError(
                f"{directory}/{name}: readers find bucket {bucket} in this name, but the bucket count is {count}"
            )
    return buckets


def check_file_name(path: str, bucket: int, scheme: str) -> None:
    """Raise VerificationError unless readers assign the file to `bucket`."""
    parsed = bucket_of_file(path.rsplit("/", 1)[-1], scheme)
    if parsed != bucket:
        result = "no bucket number" if parsed is None else f"bucket {parsed}"
        raise VerificationError(f"{path}: readers find {result} in this name; the file holds bucket {bucket}")


def standard_name(name: str) -> str:
    """Return the name in lower_snake_case: ASCII letters, digits and single underscores."""
    return re.sub(r"_+", "_", re.sub(r"[^a-z0-9]+", "_", name.lower())).strip("_")


def automatic_bucket_count(largest_table_bytes: int) -> int:
    """Return the bucket count, a power of two, for which the files of the largest table have 100 MB to 1 GB.

    This is the largest count for which files still have 100 MB; it is 1 if the whole table is smaller.
    """
    return 1 << max(0, math.floor(math.log2(max(largest_table_bytes, 1) / _SMALLEST_AUTO_FILE)))


def unbucketed_file_count(table_bytes: int, files_per_gb: float, max_files: int) -> int:
    """Return the number of files of a table in a layout without buckets: at least 1, at most `max_files`."""
    return max(1, min(max_files, math.ceil(table_bytes / _GIGABYTE * files_per_gb)))


def row_group_rows(bytes_per_row: float, row_group_bytes: int, max_file_bytes: int) -> int:
    """Return the number of rows of a row group of about `row_group_bytes`.

    Files are split between row groups, so a row group takes at most a quarter of `max_file_bytes`.
    """
    target = min(row_group_bytes, max_file_bytes // 4)
    return max(1, int(target / max(bytes_per_row, 1)))
