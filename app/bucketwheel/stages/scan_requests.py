"""Estimate the requests to S3 that read the slices of the source."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cache
from itertools import accumulate, chain

from bucketwheel.engines.spark_sizing import scatter_plans, scatter_tasks
from bucketwheel.kernel.passes import Plan, Widths
from bucketwheel.runs.cost import cores_of, platform_of
from bucketwheel.runs.manifest import DiscoverResult, SizeResult, SliceRecord, SplitResult
from bucketwheel.settings import Settings
from bucketwheel.stages.task_memory import decoded_bytes
from bucketwheel.storage.ranged import END_BYTES, Range, alternate, requests_for

# Bytes of a column chunk in a footer, with statistics.
_FOOTER_BYTES = 200
# Column chunks of a slice to compute with, at most: those of more row groups are like them.
_MOST_CHUNKS = 20_000


def opening_requests(chunks: int) -> int:
    """Return the requests that read the footer of a file with this many column chunks."""
    return 1 if chunks * _FOOTER_BYTES <= END_BYTES else 2


class ScanRequests:
    """Computes the requests of the scan from the average bytes of each column and the order of columns.

    Slices of about the same size count as equal, so that thousands of files take no longer than a few.
    """

    def __init__(self, settings: Settings, snapshot: DiscoverResult, split: SplitResult, size: SizeResult) -> None:
        self._settings = settings
        self._snapshot = snapshot
        self._size = size
        decoded = decoded_bytes(snapshot)
        tables = [[part.source for part in table.columns] for table in split.tables if table.columns]
        self._groups = [[key.source for key in split.keys], *tables]
        average = size.decoded_bytes_per_row / len(set(chain.from_iterable(self._groups)))
        self._widths = Widths(
            average * len(self._groups[0]),
            tuple(sum(decoded[name] for name in table) for table in tables),
            size.decoded_bytes_per_row,
        )
        in_files = [column for column in snapshot.columns if column.name not in snapshot.partition_columns]
        self._chunks = {column.name: column.compressed_bytes / max(snapshot.rows, 1) for column in in_files}
        self._reads = cache(self._reads_of)

    def number(self) -> int:
        """Return the number of requests."""
        number = 0
        for parts, plan in self._plans():
            for part in parts:
                file = self._snapshot.files[part.file]
                end = part.first_row_group + part.row_groups
                rows = file.row_group_rows[part.first_row_group : end]
                # The request for the end of the file has its footer, and often its last chunks.
                data = file.rows * sum(self._chunks.values())
                known = END_BYTES - (file.bytes - data) if end == len(file.row_group_rows) else 0
                number += opening_requests(len(self._chunks) * len(file.row_group_rows))
                number += self._reads(
                    tuple(map(_rounded, rows)), max(int(known), 0), plan.passes, part.rows > plan.rows
                )
        return number

    def _plans(self) -> Iterator[tuple[list[SliceRecord], Plan]]:
        """Yield the slices that are read as one, and the passes over them."""
        size, settings = self._size, self._settings
        if settings.engine != "spark":
            # The arrow engine needs several passes only if rows are wide for its memory.
            yield from (([part], Plan.of(self._widths, part.rows, part.rows)) for part in size.slices)
            return
        platform = platform_of(settings)
        read = self._snapshot.rows * size.decoded_bytes_per_row
        coded = [column for column in self._snapshot.columns if column.name in size.dictionary_columns]
        _, _, tasks = scatter_tasks(
            cores_of(settings, platform) if platform else 1,
            len(size.slices),
            sum(layout.bucket_count for layout in size.layouts),
            read,
            read * len(size.layouts),
            len(coded),
            sum(column.dictionary_bytes or 0 for column in coded),
        )
        yield from scatter_plans(self._widths, size.slices, tasks)

    def _reads_of(
        self, rows: tuple[int, ...], known: int, passes: tuple[tuple[int, ...], ...], one_by_one: bool
    ) -> int:
        """Return the requests that read a slice.

        Args:
            rows: rows of its row groups.
            known: its last bytes that opening the file has read.
            passes: column groups of each pass.
            one_by_one: whether row groups are fetched one at a time.
        """
        columns = [frozenset(chain.from_iterable(self._groups[number] for number in numbers)) for numbers in passes]
        most = max(_MOST_CHUNKS // len(self._chunks), 1)
        groups = list(self._ranges(rows[:most], known if len(rows) <= most else 0))
        if one_by_one:
            number = sum(requests_for(_of(group, names)) for names in columns for group in groups)
        else:
            chunks = list(chain.from_iterable(groups))
            ranges = [_of(chunks, names) for names in columns]
            # See `scatter`.
            at_once = [list(chain.from_iterable(ranges))] if len(ranges) > 1 and alternate(ranges) else ranges
            number = sum(map(requests_for, at_once))
        return -(-number * len(rows) // min(len(rows), most))

    def _ranges(self, rows: Sequence[int], known: int) -> Iterator[list[tuple[str, Range]]]:
        """Yield name and range of the column chunks of each row group, without those in the last `known` bytes."""
        lengths = [(name, int(each * count)) for count in rows for name, each in self._chunks.items()]
        *starts, end = accumulate((length for _, length in lengths), initial=0)
        chunks = [(name, (start, length)) for (name, length), start in zip(lengths, starts, strict=True)]
        for first in range(0, len(chunks), len(self._chunks)):
            group = chunks[first : first + len(self._chunks)]
            yield [(name, chunk) for name, chunk in group if chunk[0] < end - known]


def _of(chunks: Sequence[tuple[str, Range]], names: Collection[str]) -> list[Range]:
    return [chunk for name, chunk in chunks if name in names]


def _rounded(rows: int) -> int:
    """Return the number with two significant digits."""
    return round(rows, 2 - len(str(rows)))
