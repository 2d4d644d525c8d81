"""Estimate the requests to S3 of a run, by kind; `docs/reference/cost.md` has the formulas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bucketwheel.runs.manifest import BucketOutcome, DiscoverResult, SizeResult, SplitResult
from bucketwheel.settings import Settings
from bucketwheel.stages.drift import key_parts
from bucketwheel.stages.scan_requests import ScanRequests, opening_requests
from bucketwheel.stages.written_bytes import SAMPLE_BYTES
from bucketwheel.storage.locations import is_s3
from bucketwheel.storage.ranged import END_BYTES, REQUEST_BYTES

# Keys in a page of a listing.
_LISTED = 1000


@dataclass(frozen=True)
class Requests:
    """Numbers of requests by kind: GET in `reads`, PUT and LIST in `writes`."""

    reads: Mapping[str, int]
    writes: Mapping[str, int]


@dataclass(frozen=True)
class WrittenFiles:
    """Some files of the same size.

    Attributes:
        count: number of files.
        bytes: size of each.
        columns: columns of each.
        row_groups: row groups of each.
        key_bytes: compressed bytes of the keys of each.
        decoded: whether `verify` reads the keys a second time to decode them.
    """

    count: int
    bytes: int
    columns: int
    row_groups: int
    key_bytes: int
    decoded: bool


def planned_files(snapshot: DiscoverResult, size: SizeResult) -> Iterator[WrittenFiles]:
    """Yield the expected files of each table."""
    keys = _key_bytes(snapshot)
    for layout in size.layouts:
        for table in layout.tables:
            count = max(table.files, 1)
            size_of_each, rows = table.bytes // count, _ceil(snapshot.rows, count)
            columns = len(snapshot.keys) + table.columns
            is_first = table is layout.tables[0]
            yield _files(keys, table.files, size_of_each, columns, rows, table.row_group_rows, is_first)


def written_files(
    snapshot: DiscoverResult, size: SizeResult, outcomes: Iterable[BucketOutcome]
) -> Iterator[WrittenFiles]:
    """Yield the files of a run one by one."""
    tables = {(layout.id, table.name): table for layout in size.layouts for table in layout.tables}
    first = {layout.id: layout.tables[0].name for layout in size.layouts}
    keys = _key_bytes(snapshot)
    for outcome in outcomes:
        for file in outcome.files:
            table = tables.get((outcome.layout, file.table))
            columns = len(snapshot.keys) + (table.columns if table else 0)
            rows = table.row_group_rows if table else file.rows
            yield _files(keys, 1, file.bytes, columns, file.rows, rows, file.table == first.get(outcome.layout))


def _key_bytes(snapshot: DiscoverResult) -> float:
    """Return the compressed bytes of the keys of a row."""
    keys = sum(column.compressed_bytes for column in snapshot.columns if column.name in snapshot.keys)
    return keys / max(snapshot.rows, 1)


def _files(
    key_bytes: float, count: int, size: int, columns: int, rows: int, row_group_rows: int, is_first: bool
) -> WrittenFiles:
    groups = max(_ceil(rows, max(row_group_rows, 1)), 1)
    # The keys of other tables are decoded only if their row groups differ from those of the first one.
    return WrittenFiles(count, size, columns, groups, int(key_bytes * rows), is_first or groups > 1)


def run_requests(
    settings: Settings,
    snapshot: DiscoverResult,
    split: SplitResult,
    size: SizeResult,
    files: Iterable[WrittenFiles],
    stages: Sequence[str],
) -> Requests:
    """Return the requests of these stages."""
    parts = []
    if is_s3(snapshot.location):
        parts.append(_of_source(settings, snapshot, split, size, stages))
    if is_s3(settings.target):
        parts.append(_of_target(settings, snapshot, size, list(files), stages))
    return Requests(
        {kind: number for part in parts for kind, number in part.reads.items()},
        {kind: number for part in parts for kind, number in part.writes.items()},
    )


def _of_source(
    settings: Settings, snapshot: DiscoverResult, split: SplitResult, size: SizeResult, stages: Sequence[str]
) -> Requests:
    reads: dict[str, int] = {}
    files = snapshot.files
    listings = _ceil(len(files), _LISTED)
    lists = 0
    if "discover" in stages:
        reads["footers"] = len(files)
        lists += 1 + listings
    if "size" in stages:
        groups = sum(len(file.row_group_rows) for file in files)
        sample = min(SAMPLE_BYTES, size.bytes_to_read // max(groups, 1))
        opening = opening_requests(len(snapshot.columns) * (groups // len(files)))
        whole = snapshot.bytes // len(files) <= END_BYTES
        reads["sample"] = 1 if whole else opening + _ceil(sample, REQUEST_BYTES)
    if "bucket" in stages:
        # The snapshot is listed again after it was read.
        lists += listings
        reads["scatter"] = ScanRequests(settings, snapshot, split, size).number()
    return Requests(reads, {"list the source": lists})


def _of_target(
    settings: Settings,
    snapshot: DiscoverResult,
    size: SizeResult,
    files: Sequence[WrittenFiles],
    stages: Sequence[str],
) -> Requests:
    tables = [table for layout in size.layouts for table in layout.tables]
    publishing = sum(name in stages for name in ("register", "ctas"))
    # The lease, the mapping, the manifests of this run and of the published one, and the records of publications.
    reads = {"metadata": 9 + 3 * len(stages)}
    listings = publishing + ("verify" in stages)
    if settings.catalog.kind == "duckdb":
        # Its views get the columns of the files.
        listings += publishing
        reads["columns of views"] = publishing * len(tables)
    writes = {
        "metadata": 5 + 2 * len(stages),
        "list metadata": 12 + 2 * len(stages),
        "list tables": listings * sum(_ceil(table.files, _LISTED) for table in tables),
    }
    if "bucket" in stages:
        writes["checkpoints"] = sum(layout.bucket_count for layout in size.layouts)
        writes["files"] = sum(part.count * _puts(part.bytes) for part in files)
    if "verify" in stages:
        keys = len(snapshot.keys)
        reads["verify"] = sum(part.count * _reads_of_file(part, keys) for part in files)
        if settings.quality.drift == "keys" and size.bucketed:
            reads["compared keys"] = _of_compared_keys(settings, snapshot, size)
    return Requests(reads, writes)


def _of_compared_keys(settings: Settings, snapshot: DiscoverResult, size: SizeResult) -> int:
    """Return the requests that read the keys of the smallest table, of this run and of one like it."""
    table = min(size.tables, key=lambda part: part.bytes)
    only = size.model_copy(update={"tables": (table,), "other_layouts": ()})
    parts = key_parts(settings, snapshot, 2 * snapshot.rows / size.bucket_count)
    return 2 * parts * sum(part.count * _reads_of_keys(part) for part in planned_files(snapshot, only))


def _puts(size: int) -> int:
    """Return the requests that write a file: a large one needs a start, its parts and a completion."""
    return 1 if size <= REQUEST_BYTES else 2 + _ceil(size, REQUEST_BYTES)


def _reads_of_file(part: WrittenFiles, keys: int) -> int:
    """Return the requests with which `verify` reads a file."""
    if part.bytes <= END_BYTES:
        return 1 + part.decoded
    return _reads_of_keys(part) + (_opening(part) + part.row_groups * keys) * part.decoded


def _reads_of_keys(part: WrittenFiles) -> int:
    """Return the requests that open a file and read its keys, one row group after the other."""
    if part.bytes <= END_BYTES:
        return 1
    return _opening(part) + part.row_groups * _ceil(_ceil(part.key_bytes, part.row_groups), REQUEST_BYTES)


def _opening(part: WrittenFiles) -> int:
    return opening_requests(part.columns * part.row_groups)


def _ceil(count: int, per: int) -> int:
    return -(-count // per)
