"""Warn of buckets in several files: Spark uses the order of the rows only if each bucket is one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bucketwheel.formatting import counted, size_text
from bucketwheel.runs.manifest import BucketOutcome, LayoutSize
from bucketwheel.settings import Layout


def _fix(own: Layout) -> str:
    return f"Spark will sort them again in joins; raise {own.setting('max_file_bytes')} or {own.setting('buckets')}"


def planned_split_warnings(layout: LayoutSize, own: Layout) -> list[str]:
    """Return a warning if an average bucket of a table exceeds the file size limit."""
    size = max(table.bytes for table in layout.tables) / layout.bucket_count
    if not _matters(layout) or size <= layout.max_file_bytes:
        return []
    return [
        f"buckets of the largest table average {size_text(size)}, more than {own.setting('max_file_bytes')} "
        f"({size_text(layout.max_file_bytes)}), and get several files each; {_fix(own)}"
    ]


def split_warnings(layout: LayoutSize, own: Layout, outcomes: Sequence[BucketOutcome]) -> list[str]:
    """Return a warning if buckets were written as several files."""
    if not _matters(layout):
        return []
    files = Counter((file.table, outcome.bucket) for outcome in outcomes for file in outcome.files)
    split = Counter(table for (table, _), count in files.items() if count > 1)
    if not split:
        return []
    (table, buckets), *others = split.most_common()
    more = f" (and {counted(len(others), 'other table')} too)" if others else ""
    return [
        f"table {table!r}{more} has {counted(buckets, 'bucket')} in several files, because of "
        f"{own.setting('max_file_bytes')} ({size_text(layout.max_file_bytes)}); {_fix(own)}"
    ]


def _matters(layout: LayoutSize) -> bool:
    return layout.bucketed and layout.sort and layout.hash == "spark"
