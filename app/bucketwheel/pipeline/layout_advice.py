"""Advise on layouts: which one serves each reader, how many buckets fit the data, and what costs more than it gains.

`advise` is a pure function of the planned layouts. `docs/layouts.md` has the measurements behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bucketwheel.formatting import counted, html_list, html_table, size_text
from bucketwheel.kernel.layout import automatic_bucket_count
from bucketwheel.runs.cost import FURTHER_LAYOUT

Family = Literal["trino", "athena", "spark", "duckdb"]
Uses = Literal["buckets", "order", "nothing"]
# Name, as published, and Hive type of a key column.
Key = tuple[str, str]

# Readers that share an engine.
FAMILIES: Mapping[str, Family] = {
    "athena": "athena",
    "trino": "trino",
    "clean_rooms": "spark",
    "spark": "spark",
    "glue": "spark",
    "emr": "spark",
    "duckdb": "duckdb",
}
# Readers that find Iceberg tables in the AWS Glue Data Catalog only.
_GLUE_ONLY = ("athena", "clean_rooms")
_UNTRIED = {
    "athena": "documented by AWS, not tried",
    "clean_rooms": "as in Spark, presumably; not tried",
    "glue": "as in Spark; not tried on AWS",
    "emr": "as in Spark; not tried on AWS",
}
_LOOK_UP = "reads one bucket in a look-up"
_JOINS = f"joins by key without an exchange, {_LOOK_UP}"
_SETTINGS = "if spark.sql.sources.v2.bucketing.enabled and spark.sql.iceberg.planning.preserve-data-grouping are true"
# What a reader does with the buckets of a hash, the best first; it does not use those of any other.
_BUCKETS: Mapping[Family, Mapping[str, str]] = {
    "trino": {"hive": _JOINS, "iceberg": _JOINS},
    "athena": {"hive": _LOOK_UP, "spark": _LOOK_UP, "iceberg": _LOOK_UP},
    "spark": {"spark": _JOINS, "iceberg": f"{_JOINS}, {_SETTINGS}"},
    "duckdb": {"iceberg": _LOOK_UP},
}
# The hash to configure for readers that use no buckets of the configured layouts.
_BEST: Mapping[Family, str] = {"trino": "hive_v1", "athena": "hive_v1", "spark": "spark"}
_BUCKETS_OF = {"hive": "Hive's buckets", "spark": "Spark's buckets", "iceberg": "Iceberg's buckets"}
# Files of these bytes serve all readers.
_SMALLEST_FILE, _LARGEST_FILE = 100 * 10**6, 10**9
# Joins in Spark, with files of these bytes, took this share of the CPU of unbucketed tables.
_MEASURED = ((500_000, "0.26 MB", "170 %"), (2_000_000, "1 MB", "56 %"), (8_000_000, "4 MB", "25 %"))


@dataclass(frozen=True)
class PlannedLayout:
    """A layout as `size` planned it.

    Attributes:
        name: name of the layout; empty for the only one.
        prefix: prefix of its tables.
        hash: `buckets.hash`.
        buckets: buckets (or files) per table.
        bucketed: whether the catalog shows buckets.
        sort: whether rows are sorted by key.
        largest: bytes of the largest table.
        bytes: bytes of all tables.
        files: files of all tables.
        mixed: whether a table of Iceberg has, or will have, more than one partition spec.
    """

    name: str
    prefix: str
    hash: str
    buckets: int
    bucketed: bool
    sort: bool
    largest: int
    bytes: int
    files: int
    mixed: bool = False

    @property
    def kind(self) -> str:
        """The family of the hash; empty without buckets."""
        return self.hash.partition("_")[0] if self.bucketed else ""

    @property
    def title(self) -> str:
        """The layout in a sentence, such as `layout spark` or `the layout`."""
        return f"layout {self.name}" if self.name else "the layout"

    @property
    def file_bytes(self) -> float:
        """Average bytes of a bucket of the largest table."""
        return self.largest / self.buckets


@dataclass(frozen=True)
class EarlierRun:
    """The newest finished run of a dataset that is compared: the previous one, or one whose tables may be joined."""

    dataset: str
    run_id: str
    keys: tuple[Key, ...]
    layouts: tuple[PlannedLayout, ...]


@dataclass(frozen=True)
class ReaderAdvice:
    """The layout that serves a reader best: the prefix of its tables, what the reader uses of it, and why."""

    reader: str
    layout: str
    tables: str
    uses: Uses
    reason: str


@dataclass(frozen=True)
class BucketAdvice:
    """The bucket count of a layout, the recommended one, and why; the reason is empty if both are the same."""

    layout: str
    buckets: int
    recommended: int
    reason: str = ""


@dataclass(frozen=True)
class Advice:
    """Recommendations for the layouts of a run.

    Attributes:
        readers: the layout for each configured reader.
        buckets: the bucket count of each layout.
        costs: what each layout after the first adds.
        notes: other recommendations.
        warnings: readers without buckets, and counts or key types that make joins slower.
    """

    readers: tuple[ReaderAdvice, ...] = ()
    buckets: tuple[BucketAdvice, ...] = ()
    costs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return (reader, tables, what it uses, reason) of every reader."""
        return [(part.reader, part.tables, part.uses, part.reason) for part in self.readers]

    @property
    def lines(self) -> tuple[str, ...]:
        """The recommendations as sentences, without the warnings."""
        reasons: dict[str, list[str]] = {}
        for part in self.buckets:
            if part.reason:
                reasons.setdefault(part.reason, []).append(part.layout)
        counts = (f"{_title(names)}{reason}" for reason, names in reasons.items())
        return (*counts, *self.costs, *self.notes)

    def document(self) -> dict[str, Any]:
        """Return a document for JSON."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """Return the readers and the recommendations for a notebook."""
        table = html_table(("reader", "tables", "uses", "reason"), self.rows(), "Readers") if self.readers else ""
        return table + html_list(self.lines)


def _title(names: Sequence[str]) -> str:
    """Return the layouts that a text is about, before the text; empty if the configuration names none."""
    word = "layout" if len(names) == 1 else "layouts"
    return f"{word} {' and '.join(names)}: " if all(names) else ""


def advise(
    layouts: Sequence[PlannedLayout],
    readers: Sequence[str],
    rows: int,
    keys: Sequence[Key] = (),
    null_keys: int = 0,
    writers: int | None = None,
    previous: EarlierRun | None = None,
    others: Sequence[EarlierRun] = (),
    catalog: str = "",
    seconds: float = 0,
    local: bool = False,
    sql: bool = False,
) -> Advice:
    """Return recommendations for the layouts of a run.

    Args:
        layouts: the layouts, the main one first.
        readers: the configured readers.
        rows: rows of each table.
        keys: the key columns.
        null_keys: rows in which a key column is NULL, if known.
        writers: maximum number of buckets of copies by a SQL engine; None without copies.
        previous: the run before, of the same dataset.
        others: runs of other datasets of the configuration.
        catalog: `catalog.kind`.
        seconds: estimated seconds of the run; 0 if unknown.
        local: whether the target is on a local disk.
        sql: whether `iceberg.catalog` is a SQL database.
    """
    served = [_served(reader, layouts) for reader in readers]
    return Advice(
        readers=tuple(served),
        # A SQL engine copies the tables of the first layout only.
        buckets=tuple(_bucket_advice(part, None if number else writers) for number, part in enumerate(layouts)),
        costs=tuple(_costs(layouts, seconds)),
        notes=(
            *_notes(layouts),
            *_other_catalog(layouts, readers, catalog),
            *_sql_catalog(layouts, readers, sql),
            *_local(layouts, readers, local),
        ),
        warnings=(
            *_unserved(served, layouts),
            *_mixed(layouts, readers),
            *_unread(layouts, readers),
            *_too_many(layouts, rows),
            *_null_keys(layouts, readers, null_keys),
            *(_changed(layouts, previous) if previous else ()),
            *(text for other in others for text in _joined(layouts, keys, other)),
        ),
    )


def _served(reader: str, layouts: Sequence[PlannedLayout]) -> ReaderAdvice:
    """Return the layout whose buckets the reader uses best, otherwise the first one in the order of the key."""
    family = FAMILIES[reader]
    used = [layout for kind in _BUCKETS[family] for layout in layouts if layout.kind == kind]
    if family == "trino":
        # It looks at all partition specs that a table ever had.
        used = [layout for layout in used if not layout.mixed]
    layout = (used or [part for part in layouts if part.sort] or layouts)[0]
    uses: Uses = "buckets" if used else "order" if layout.sort else "nothing"
    if used:
        reason = _BUCKETS[family][layout.kind]
    elif layout.kind:
        changed = family == "trino" and layout.mixed
        reason = f"does not use {_BUCKETS_OF[layout.kind]}{' after their partitioning changed' if changed else ''}"
    else:
        reason = "the layout has no buckets"
    reason += "; skips row groups by key" if uses == "order" else ""
    reason += f" ({_UNTRIED[reader]})" if reader in _UNTRIED and uses == "buckets" else ""
    return ReaderAdvice(reader, layout.name, f"{layout.prefix}*", uses, reason)


def _bucket_advice(layout: PlannedLayout, writers: int | None) -> BucketAdvice:
    now = layout.buckets
    if not layout.bucketed:
        return BucketAdvice(layout.name, now, now)
    best = automatic_bucket_count(layout.largest)
    while writers and best > writers:
        best //= 2
    size = layout.file_bytes
    if (best < now and size < _SMALLEST_FILE) or (best > now and size > _LARGEST_FILE):
        change = f"{counted(best, 'bucket')} instead of {now:,}, for files of {size_text(layout.largest / best)}"
        effect = _measured(size) if best < now else ", so that more tasks read and write at once"
        return BucketAdvice(layout.name, now, best, f"{change} instead of {size_text(size)}{effect}")
    return BucketAdvice(layout.name, now, now)


def _measured(file_bytes: float) -> str:
    """Return what joins cost with files of about this size, where small files were measured."""
    for limit, measured, share in _MEASURED:
        if file_bytes < limit:
            return f" (measured in Spark: with files of {measured}, joins took {share} of the CPU of no buckets)"
    return ""


def _costs(layouts: Sequence[PlannedLayout], seconds: float) -> Iterator[str]:
    for layout in layouts[1:]:
        share = seconds * FURTHER_LAYOUT / (1 + FURTHER_LAYOUT * (len(layouts) - 1))
        time = f" ({share:,.0f} s of {seconds:,.0f} s)" if seconds else ""
        yield (
            f"{layout.title} adds {size_text(layout.bytes)} in {counted(layout.files, 'file')}, and about "
            f"half of the CPU of a run with one layout{time}"
        )


def _notes(layouts: Sequence[PlannedLayout]) -> Iterator[str]:
    largest = max(layout.largest for layout in layouts)
    if automatic_bucket_count(largest) > 1 or not all(layout.sort for layout in layouts):
        return
    if len(layouts) > 1:
        yield (
            f"tables of at most {size_text(largest)} gain little from buckets; one layout, sorted, serves all "
            "readers at less cost"
        )
    elif layouts[0].buckets == 1:
        yield f"tables of at most {size_text(largest)} gain little from buckets; one sorted file per table is enough"


def _other_catalog(layouts: Sequence[PlannedLayout], readers: Sequence[str], catalog: str) -> Iterator[str]:
    """Name the readers that cannot read a DuckDB file; Iceberg tables have a catalog of their own."""
    names = [reader for reader in readers if reader != "duckdb"]
    if names and catalog == "duckdb" and any(layout.kind != "iceberg" for layout in layouts):
        yield f"only DuckDB reads the catalog duckdb; set catalog.kind=glue for {' and '.join(names)}"


def _sql_catalog(layouts: Sequence[PlannedLayout], readers: Sequence[str], sql: bool) -> Iterator[str]:
    """Name the services of AWS that find Iceberg tables in Glue's Data Catalog only."""
    names = [reader for reader in readers if reader in _GLUE_ONLY]
    if sql and names and any(layout.hash == "iceberg" for layout in layouts):
        yield f"{' and '.join(names)} cannot read a SQL catalog of Iceberg tables; set iceberg.catalog=glue"


def _local(layouts: Sequence[PlannedLayout], readers: Sequence[str], local: bool) -> Iterator[str]:
    """Say that Trino cannot open the files of Iceberg tables on a disk, whose addresses are paths."""
    if local and "trino" in readers and any(layout.hash == "iceberg" for layout in layouts):
        yield "trino cannot read Iceberg tables on a local disk; set target=s3://bucket/prefix"


def _unserved(served: Sequence[ReaderAdvice], layouts: Sequence[PlannedLayout]) -> Iterator[str]:
    """Warn of readers that use buckets, but not those of any layout."""
    kinds = list(dict.fromkeys(layout.kind for layout in layouts if layout.kind))
    if not kinds:
        return
    for part in served:
        family = FAMILIES[part.reader]
        if part.uses == "buckets" or family not in _BEST:
            continue
        if family == "trino" and any(layout.mixed and layout.kind for layout in layouts):
            # `_mixed` names these tables, and the fix.
            continue
        extra = ' (the column "$bucket" does not exist there)' if (family, kinds) == ("trino", ["spark"]) else ""
        yield (
            f"{part.reader} does not use {' or '.join(_BUCKETS_OF[kind] for kind in kinds)}{extra}, only the "
            f"order of rows; for joins without an exchange, add a layout with hash {_BEST[family]}, or remove "
            "layouts, so that readers decides"
        )


def _mixed(layouts: Sequence[PlannedLayout], readers: Sequence[str]) -> Iterator[str]:
    """Warn of Iceberg tables whose buckets Trino does not use, because their partitioning changed."""
    prefixes = [f"{layout.prefix}*" for layout in layouts if layout.mixed and layout.kind]
    if prefixes and "trino" in readers:
        yield (
            f"trino reads the Iceberg tables {' and '.join(prefixes)} as unbucketed, because their partitioning "
            "changed, now or before; with another prefix, they are new tables with one partitioning"
        )


def _unread(layouts: Sequence[PlannedLayout], readers: Sequence[str]) -> Iterator[str]:
    """Warn of layouts whose buckets no configured reader uses, if there are several."""
    if not readers or len(layouts) < 2:
        return
    for layout in layouts:
        if layout.kind and not any(layout.kind in _BUCKETS[FAMILIES[reader]] for reader in readers):
            yield (
                f"no configured reader uses the buckets of {layout.title}, which takes {size_text(layout.bytes)}; "
                f"remove it from layouts, or name its reader in readers ({', '.join(readers)})"
            )


def _too_many(layouts: Sequence[PlannedLayout], rows: int) -> Iterator[str]:
    for layout in layouts:
        if layout.bucketed and layout.buckets > max(rows, 1):
            yield (
                f"{layout.title} has {counted(layout.buckets, 'bucket')} for {counted(rows, 'row')}, so most buckets "
                "are empty; use fewer"
            )


def _null_keys(layouts: Sequence[PlannedLayout], readers: Sequence[str], null_keys: int) -> Iterator[str]:
    if null_keys and "trino" in readers and any(layout.kind == "iceberg" for layout in layouts):
        yield (
            f"{counted(null_keys, 'row')} have a NULL key, and Trino's joins by bucket can fail on tables whose NULL "
            "keys have a partition of their own; remove these rows from the source, give Trino a hive_v1 layout, or "
            "set its session property use_table_scan_node_partitioning=false"
        )


def _changed(layouts: Sequence[PlannedLayout], before: EarlierRun) -> Iterator[str]:
    """Warn of layouts that differ from those of the run before."""
    known = {layout.prefix.lower(): layout for layout in before.layouts}
    changes: dict[tuple[str, str], list[str]] = {}
    for layout in layouts:
        was = known.get(layout.prefix.lower())
        if was and (was.buckets, was.hash, was.bucketed) != (layout.buckets, layout.hash, layout.bucketed):
            with_hash = was.hash != layout.hash
            change = _scheme(was, with_hash), _scheme(layout, with_hash)
            changes.setdefault(change, []).append(f"{layout.prefix}*")
    for (earlier, now), prefixes in changes.items():
        yield (
            f"tables {' and '.join(prefixes)} change from {earlier} (run {before.run_id}) to {now}; joins with "
            "tables that keep the earlier layout need an exchange, and the keys of both runs are not compared"
        )


def _scheme(layout: PlannedLayout, with_hash: bool) -> str:
    if not layout.bucketed:
        return "no buckets"
    return counted(layout.buckets, "bucket") + (f" by {layout.hash}" if with_hash else "")


def _joined(layouts: Sequence[PlannedLayout], keys: Sequence[Key], other: EarlierRun) -> Iterator[str]:
    """Warn of tables of another dataset, with a key of the same name, that cannot be joined by bucket."""
    if [name for name, _ in keys] != [name for name, _ in other.keys]:
        return
    if tuple(keys) != other.keys:
        types, others = (", ".join(kind for _, kind in each) for each in (keys, other.keys))
        yield (
            f"the key {', '.join(name for name, _ in keys)} has type {types} here and {others} in dataset "
            f"{other.dataset} (run {other.run_id}); joins of the two need an exchange, because equal keys of "
            "different types have different buckets"
        )
        return
    known = {layout.prefix.lower(): layout for layout in other.layouts}
    for layout in layouts:
        was = known.get(layout.prefix.lower())
        if was and was.kind == layout.kind and was.kind and was.buckets != layout.buckets:
            yield (
                f"tables {layout.prefix}* have {counted(layout.buckets, 'bucket')} here and {was.buckets:,} in "
                f"dataset {other.dataset} (run {other.run_id}); {_difference(layout, was)}; set buckets.count to the "
                "same number for both"
            )


def _difference(layout: PlannedLayout, other: PlannedLayout) -> str:
    """Return what readers do with tables of the two bucket counts."""
    small, large = sorted((layout.buckets, other.buckets))
    ratio, rest = divmod(large, small)
    if layout.kind == "hive" and not rest and ratio & (ratio - 1) == 0:
        return "Trino joins them without an exchange, because one count is a power of two times the other"
    if layout.kind == "spark" and not rest and ratio <= 4:
        return "Spark joins them without an exchange only with spark.sql.bucketing.coalesceBucketsInJoin.enabled=true"
    return "joins of the two need an exchange"
