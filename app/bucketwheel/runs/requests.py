"""Estimate the requests to S3 of a run, by kind; `docs/reference/cost.md` has the formulas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bucketwheel.runs.manifest import BucketOutcome, DiscoverResult, SizeResult, SliceRecord
from bucketwheel.settings import Settings
from bucketwheel.storage.locations import is_s3

# As in `stages.written_bytes`: most bytes of a sample.
_SAMPLE = 128 * 2**20
# As in `storage`: bytes read on opening, bytes of the largest request, keys per listing.
_END, _REQUEST, _LISTED = 64 * 2**10, 8 * 2**20, 1000
# As in `kernel.passes` and `engines.spark_sizing`: most rows and slices that the spark engine reads as one, and
# decoded bytes that it reads at a time.
_JOINED_ROWS, _JOINED_SLICES, _BATCH_BYTES = 196_608, 16, 128 * 2**20
# Bytes of a column chunk in a footer, with statistics.
_FOOTER_BYTES = 200


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
        row_groups: row groups of each.
        key_bytes: compressed bytes of the keys of each.
        decoded: whether `verify` reads the keys a second time to decode them.
    """

    count: int
    bytes: int
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
            is_first = table is layout.tables[0]
            yield _files(keys, table.files, size_of_each, rows, table.row_group_rows, is_first)


def written_files(
    snapshot: DiscoverResult, size: SizeResult, outcomes: Iterable[BucketOutcome]
) -> Iterator[WrittenFiles]:
    """Yield the files of a run one by one."""
    group_rows = {(layout.id, table.name): table.row_group_rows for layout in size.layouts for table in layout.tables}
    first = {layout.id: layout.tables[0].name for layout in size.layouts}
    keys = _key_bytes(snapshot)
    for outcome in outcomes:
        for file in outcome.files:
            rows = group_rows.get((outcome.layout, file.table), file.rows)
            yield _files(keys, 1, file.bytes, file.rows, rows, file.table == first.get(outcome.layout))


def _key_bytes(snapshot: DiscoverResult) -> float:
    """Return the compressed bytes of the keys of a row."""
    keys = sum(column.compressed_bytes for column in snapshot.columns if column.name in snapshot.keys)
    return keys / max(snapshot.rows, 1)


def _files(key_bytes: float, count: int, size: int, rows: int, row_group_rows: int, is_first: bool) -> WrittenFiles:
    groups = max(_ceil(rows, max(row_group_rows, 1)), 1)
    # The keys of other tables are decoded only if their row groups differ from those of the first one.
    return WrittenFiles(count, size, groups, int(key_bytes * rows), is_first or groups > 1)


def run_requests(
    settings: Settings,
    snapshot: DiscoverResult,
    size: SizeResult,
    files: Iterable[WrittenFiles],
    stages: Sequence[str],
) -> Requests:
    """Return the requests of these stages."""
    parts = []
    if is_s3(snapshot.location):
        parts.append(_of_source(settings, snapshot, size, stages))
    if is_s3(settings.target):
        parts.append(_of_target(settings, snapshot, size, list(files), stages))
    return Requests(
        {kind: number for part in parts for kind, number in part.reads.items()},
        {kind: number for part in parts for kind, number in part.writes.items()},
    )


def _of_source(settings: Settings, snapshot: DiscoverResult, size: SizeResult, stages: Sequence[str]) -> Requests:
    reads: dict[str, int] = {}
    files = snapshot.files
    listings = _ceil(len(files), _LISTED)
    lists = 0
    if "discover" in stages:
        reads["footers"] = len(files)
        lists += 1 + listings
    if "size" in stages:
        groups = sum(len(file.row_group_rows) for file in files)
        sample = min(_SAMPLE, size.bytes_to_read // max(groups, 1))
        whole = snapshot.bytes // len(files) <= _END
        reads["sample"] = 1 if whole else _opening(snapshot, groups // len(files)) + _ceil(sample, _REQUEST)
    if "bucket" in stages:
        # The snapshot is listed again after it was read.
        lists += listings
        opening = [_opening(snapshot, len(file.row_group_rows)) for file in files]
        reads["scatter"] = sum(
            opening[part.file] + _reads_of_slice(settings, snapshot, size, part) for part in size.slices
        )
    return Requests(reads, {"list the source": lists})


def _opening(snapshot: DiscoverResult, row_groups: int) -> int:
    """Return the requests that read the footer of a file of known length."""
    return 1 if len(snapshot.columns) * row_groups * _FOOTER_BYTES <= _END else 2


def _reads_of_slice(settings: Settings, snapshot: DiscoverResult, size: SizeResult, part: SliceRecord) -> int:
    passes = _passes(size, part) if settings.engine == "spark" else 1
    stored = int(part.rows * size.bytes_to_read / max(snapshot.rows, 1))
    return passes * max(part.row_groups, _ceil(stored, passes * _REQUEST))


def _passes(size: SizeResult, part: SliceRecord) -> int:
    """Return how often the spark engine reads some of the columns of a slice, at most."""
    joined = part.rows * max(1, min(_JOINED_SLICES, _JOINED_ROWS // max(part.rows, 1)))
    return max(1, min(_ceil(joined * size.decoded_bytes_per_row, _BATCH_BYTES), len(size.tables)))


def _of_target(
    settings: Settings,
    snapshot: DiscoverResult,
    size: SizeResult,
    files: Sequence[WrittenFiles],
    stages: Sequence[str],
) -> Requests:
    listings = sum(_ceil(table.files, _LISTED) for layout in size.layouts for table in layout.tables)
    # The manifest before and after each stage, the lease, and the search for earlier runs.
    reads = {"metadata": 2 + len(stages)}
    writes = {
        "metadata": 4 + 2 * len(stages),
        "list tables": listings * sum(name in stages for name in ("verify", "register", "ctas")),
    }
    if "bucket" in stages:
        writes["checkpoints"] = sum(layout.bucket_count for layout in size.layouts)
        writes["files"] = sum(part.count * _puts(part.bytes) for part in files)
    if "verify" in stages:
        keys = len(snapshot.keys)
        reads["verify"] = sum(part.count * _reads_of_file(part, keys) for part in files)
        if settings.quality.drift == "keys" and size.bucketed:
            # Verification reads the keys of one table of this run and of one of the published run.
            reads["compared keys"] = 2 * 2 * size.bucket_count
    return Requests(reads, writes)


def _puts(size: int) -> int:
    """Return the requests that write a file: a large one needs a start, its parts and a completion."""
    return 1 if size <= _REQUEST else 2 + _ceil(size, _REQUEST)


def _reads_of_file(part: WrittenFiles, keys: int) -> int:
    if part.bytes <= _END:
        return 1 + part.decoded
    read = 1 + max(part.row_groups, _ceil(part.key_bytes, _REQUEST))
    return read + (1 + part.row_groups * keys) * part.decoded


def _ceil(count: int, per: int) -> int:
    return -(-count // per)
