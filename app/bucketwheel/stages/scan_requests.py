"""Estimate the requests to S3 that read the slices of the source, and the bytes that they hold."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain

from bucketwheel.engines.spark_sizing import scatter_plans, scatter_tasks
from bucketwheel.kernel.passes import Plan, Widths
from bucketwheel.runs.cost import cores_of, platform_of
from bucketwheel.runs.manifest import DiscoverResult, SizeResult, SliceRecord, SplitResult
from bucketwheel.settings import Settings
from bucketwheel.stages.decoded_bytes import decoded_bytes
from bucketwheel.storage.ranged import END_BYTES, Range, alternate, requests_for, spanned

# Bytes of a column chunk in a footer, with statistics.
_FOOTER_BYTES = 200
# Column chunks of a slice to compute with, at most: those of more row groups are like them.
_MOST_CHUNKS = 20_000


def opening_requests(chunks: int) -> int:
    """Return the requests that read the footer of a file with this many column chunks."""
    return 1 if chunks * _FOOTER_BYTES <= END_BYTES else 2


@dataclass(frozen=True)
class Held:
    """What a scatter task holds at a time.

    Attributes:
        compressed_bytes: bytes of the source before it decodes them.
        decoded_bytes: bytes of the slices that it reads as one after decoding.
        rows: rows of the slices.
        row_groups: row groups of the slices.
        all_tables: whether it fetches the columns of all tables at once, because they alternate in the files.
    """

    compressed_bytes: float
    decoded_bytes: int
    rows: int
    row_groups: int
    all_tables: bool


@dataclass(frozen=True)
class SourceScan:
    """What the engine fetches of a slice, from the average bytes of each column and the order of columns.

    Attributes:
        groups: column groups, as in `kernel.passes.column_groups`.
        widths: their decoded bytes.
        chunks: compressed bytes of a row, by column, in the order of the files.
    """

    groups: Sequence[Sequence[str]]
    widths: Widths
    chunks: Mapping[str, float]

    @classmethod
    def of(cls, snapshot: DiscoverResult, split: SplitResult) -> SourceScan:
        """Return the scan of a snapshot for these tables."""
        decoded = decoded_bytes(snapshot)
        keys = [key.source for key in split.keys]
        tables = [[part.source for part in table.columns] for table in split.tables if table.columns]
        used = {*keys, *chain.from_iterable(tables)}
        total = max(1, int(sum(decoded[name] for name in used)))
        widths = (sum(decoded[name] for name in table) for table in tables)
        in_files = (column for column in snapshot.columns if column.name not in snapshot.partition_columns)
        return cls(
            [keys, *tables],
            Widths(total / len(used) * len(keys), tuple(widths), total),
            {column.name: column.compressed_bytes / max(snapshot.rows, 1) for column in in_files},
        )

    def held(self, snapshot: DiscoverResult, slices: Sequence[SliceRecord]) -> Held:
        """Return the most that a scatter task holds at a time."""
        plans = list(scatter_plans(self.widths, slices, 1))
        if not plans:
            return Held(0, 0, 0, 0, False)
        together = max(plans, key=lambda each: sum(part.rows for part in each[0]))
        longest = max(plans, key=lambda each: max(part.rows for part in each[0]))
        decoded = sum(part.rows for part in together[0]) * self.widths.total
        held = [self._held(snapshot, parts, plan, decoded) for parts, plan in (together, longest)]
        return max(held, key=lambda each: each.compressed_bytes)

    def _held(self, snapshot: DiscoverResult, parts: Sequence[SliceRecord], plan: Plan, decoded: int) -> Held:
        held = []
        groups = 0
        for part in parts:
            rows = _row_groups(snapshot, part)
            groups += len(rows)
            fetches, share = self.fetches(rows, 0, plan.passes, part.rows > plan.rows)
            held.append(max(map(spanned, fetches)) * (1 if part.rows > plan.rows else share))
        # Files keep what they fetch for all passes.
        kept = len(plan.passes) > 1 and len(fetches) == 1
        return Held(sum(held) if kept else max(held), decoded, sum(part.rows for part in parts), groups, kept)

    def fetches(
        self, rows: Sequence[int], known: int, passes: Sequence[Sequence[int]], one_by_one: bool
    ) -> tuple[list[list[Range]], float]:
        """Return the ranges that are fetched at a time, of a part of the row groups, and all as a multiple of them.

        Args:
            rows: rows of the row groups of a slice.
            known: its last bytes that opening the file has read.
            passes: column groups of each pass.
            one_by_one: whether row groups are fetched one at a time.
        """
        columns = [frozenset(chain.from_iterable(self.groups[number] for number in numbers)) for numbers in passes]
        most = max(_MOST_CHUNKS // len(self.chunks), 1)
        groups = list(self._ranges(rows[:most], known if len(rows) <= most else 0))
        share = len(rows) / min(len(rows), most)
        if one_by_one:
            return [_of(group, names) for names in columns for group in groups], share
        chunks = list(chain.from_iterable(groups))
        ranges = [_of(chunks, names) for names in columns]
        # See `scatter`.
        return [list(chain.from_iterable(ranges))] if len(ranges) > 1 and alternate(ranges) else ranges, share

    def _ranges(self, rows: Sequence[int], known: int) -> Iterator[list[tuple[str, Range]]]:
        """Yield name and range of the column chunks of each row group, without those in the last `known` bytes."""
        lengths = [(name, int(each * count)) for count in rows for name, each in self.chunks.items()]
        *starts, end = accumulate((length for _, length in lengths), initial=0)
        chunks = [(name, (start, length)) for (name, length), start in zip(lengths, starts, strict=True)]
        for first in range(0, len(chunks), len(self.chunks)):
            group = chunks[first : first + len(self.chunks)]
            yield [(name, chunk) for name, chunk in group if chunk[0] < end - known]


class ScanRequests:
    """Computes the requests of the scan; slices of about the same size count as equal, which saves time."""

    def __init__(self, settings: Settings, snapshot: DiscoverResult, split: SplitResult, size: SizeResult) -> None:
        self._settings = settings
        self._snapshot = snapshot
        self._size = size
        self._scan = SourceScan.of(snapshot, split)
        self._reads = cache(self._reads_of)

    def number(self) -> int:
        """Return the number of requests."""
        number = 0
        for parts, plan in self._plans():
            for part in parts:
                file = self._snapshot.files[part.file]
                end = part.first_row_group + part.row_groups
                rows = _row_groups(self._snapshot, part)
                # The request for the end of the file has its footer, and often its last chunks.
                data = file.rows * sum(self._scan.chunks.values())
                known = END_BYTES - (file.bytes - data) if end == len(file.row_group_rows) else 0
                number += opening_requests(len(self._scan.chunks) * len(file.row_group_rows))
                number += self._reads(
                    tuple(map(_rounded, rows)), max(int(known), 0), plan.passes, part.rows > plan.rows
                )
        return number

    def _plans(self) -> Iterator[tuple[list[SliceRecord], Plan]]:
        """Yield the slices that are read as one, and the passes over them."""
        size, settings = self._size, self._settings
        if settings.engine != "spark":
            # The arrow engine needs several passes only if rows are wide for its memory.
            yield from (([part], Plan.of(self._scan.widths, part.rows, part.rows)) for part in size.slices)
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
        yield from scatter_plans(self._scan.widths, size.slices, tasks)

    def _reads_of(
        self, rows: tuple[int, ...], known: int, passes: tuple[tuple[int, ...], ...], one_by_one: bool
    ) -> int:
        """Return the requests that read a slice; see `SourceScan.fetches`."""
        fetches, share = self._scan.fetches(rows, known, passes, one_by_one)
        return math.ceil(share * sum(map(requests_for, fetches)))


def _of(chunks: Sequence[tuple[str, Range]], names: Collection[str]) -> list[Range]:
    return [chunk for name, chunk in chunks if name in names]


def _rounded(rows: int) -> int:
    """Return the number with two significant digits."""
    return round(rows, 2 - len(str(rows)))


def _row_groups(snapshot: DiscoverResult, part: SliceRecord) -> tuple[int, ...]:
    """Return the rows of each row group of a slice."""
    return snapshot.files[part.file].row_group_rows[part.first_row_group : part.first_row_group + part.row_groups]
