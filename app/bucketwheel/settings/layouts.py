"""Layouts of the written tables: which a configuration asks for, directly or by its readers.

A layout is a bucket hash, a bucket count, the order of rows, the maximum size of files, and the prefix of final
tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bucketwheel.settings.base import ByteSize, Frozen, parse_count
from bucketwheel.settings.names import NamePrefix

if TYPE_CHECKING:
    from bucketwheel.settings.models import BucketSettings, CatalogSettings, Settings

BucketHash = Literal["hive_v1", "hive_v2", "spark", "iceberg"]
BucketCount = Annotated[
    Annotated[int, Field(ge=1, le=100_000)] | Literal["auto", "none"], BeforeValidator(parse_count)
]
Reader = Literal["athena", "trino", "clean_rooms", "spark", "glue", "emr", "duckdb"]

# Readers that use the buckets of a hash; DuckDB uses none.
_HIVE_READERS: frozenset[Reader] = frozenset({"athena", "trino"})
_SPARK_READERS: frozenset[Reader] = frozenset({"clean_rooms", "spark", "glue", "emr"})


class LayoutSettings(Frozen):
    """One of several layouts of the same rows; omitted fields are taken from `buckets`.

    Attributes:
        name: Name of the layout: lowercase letters, digits and `_`. It is part of the paths of its files, except
            those of the first layout.
        hash: As `buckets.hash`.
        buckets: As `buckets.count`.
        sort: As `buckets.sort`.
        max_file_bytes: As `buckets.max_file_bytes`.
        prefix: Prefix of the names of its final tables; null takes `catalog.final_prefix` for the first layout and
            the name and `_` for the others.
    """

    # A dot separates the name from that of the table in paths.
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    hash: BucketHash | None = None
    buckets: BucketCount | None = None
    sort: bool | None = None
    max_file_bytes: ByteSize | None = None
    prefix: NamePrefix | None = None


@dataclass(frozen=True)
class Layout:
    """A layout with all values; `name` is empty if the configuration names no layouts."""

    name: str
    hash: BucketHash
    buckets: int | Literal["auto", "none"]
    sort: bool
    max_file_bytes: int
    prefix: str
    # Settings of its own, and its position in `layouts`; for messages.
    own: frozenset[str] = field(default=frozenset(), compare=False)
    position: int = field(default=0, compare=False)

    def setting(self, name: str) -> str:
        """Return the dotted name of the setting that decides on a value: its own, or that in `buckets`."""
        if name in self.own:
            return f"layouts.{self.position}.{name}"
        return "buckets.count" if name == "buckets" else f"buckets.{name}"

    @property
    def bucketed(self) -> bool:
        """Return whether rows are in buckets of their key."""
        return self.buckets != "none"


def resolved_layouts(settings: Settings) -> tuple[Layout, ...]:
    """Return the layouts that a run writes, the first one first: `layouts`, those of the `readers`, or `buckets`."""
    return resolve(settings.layouts, settings.readers, settings.buckets, settings.catalog)


def table_prefixes(settings: Settings) -> dict[str, str]:
    """Return the prefixes of all published tables, by what sets them."""
    final = {
        f"the prefix of layout {layout.name!r}" if layout.name else "catalog.final_prefix": layout.prefix
        for layout in resolved_layouts(settings)
    }
    return {"catalog.staged_prefix": settings.catalog.staged_prefix, **final}


def catalog_kinds(settings: Settings) -> tuple[str, ...]:
    """Return the kinds of the catalogs that hold the tables: `catalog.kind`, and `iceberg` for Iceberg layouts."""
    kind = settings.catalog.kind
    iceberg = kind != "iceberg" and any(layout.hash == "iceberg" for layout in resolved_layouts(settings))
    return (kind, "iceberg") if iceberg else (kind,)


def iceberg_in_glue(settings: Settings) -> bool:
    """Return whether Iceberg tables are in the AWS Glue Data Catalog."""
    return "iceberg" in catalog_kinds(settings) and settings.iceberg.catalog == "glue"


def databases(settings: Settings) -> list[tuple[str, str]]:
    """Return kind and database of the catalogs that hold the tables, in the order of `catalog_kinds`."""
    database = settings.catalog.database
    namespace = settings.iceberg.namespace or database
    return [(kind, namespace if kind == "iceberg" else database) for kind in catalog_kinds(settings)]


def resolve(
    layouts: Iterable[LayoutSettings], readers: Iterable[Reader], buckets: BucketSettings, catalog: CatalogSettings
) -> tuple[Layout, ...]:
    """Return the layouts of these settings, as `resolved_layouts` does."""
    chosen = tuple(layouts) or _of_readers(frozenset(readers), buckets)
    if not chosen:
        values = (buckets.hash, buckets.count, buckets.sort, buckets.max_file_bytes)
        return (Layout("", *values, catalog.final_prefix),)
    return tuple(_filled(layout, position, buckets, catalog) for position, layout in enumerate(chosen))


def _of_readers(readers: frozenset[Reader], buckets: BucketSettings) -> tuple[LayoutSettings, ...]:
    """Return the layouts that serve the readers; none if `buckets` serves them."""
    hive, spark = bool(readers & _HIVE_READERS), bool(readers & _SPARK_READERS)
    if not (hive or spark) or buckets.hash == "iceberg":
        # All of these readers use the partitions of Iceberg.
        return ()
    wanted: list[LayoutSettings] = []
    if hive:
        wanted.append(LayoutSettings(name="hive", hash="hive_v2" if buckets.hash == "hive_v2" else "hive_v1"))
    if spark:
        wanted.append(LayoutSettings(name="spark", hash="spark"))
    return tuple(wanted)


def _filled(layout: LayoutSettings, position: int, buckets: BucketSettings, catalog: CatalogSettings) -> Layout:
    prefix = f"{layout.name}_" if position else catalog.final_prefix
    return Layout(
        layout.name,
        _either(layout.hash, buckets.hash),
        _either(layout.buckets, buckets.count),
        _either(layout.sort, buckets.sort),
        _either(layout.max_file_bytes, buckets.max_file_bytes),
        _either(layout.prefix, prefix),
        frozenset(name for name in layout.model_fields_set if getattr(layout, name) is not None),
        position,
    )


def _either(value: Any, default: Any) -> Any:
    return default if value is None else value


def layout_problem(layouts: Iterable[Layout], staged_prefix: str) -> str:
    """Return why these layouts cannot be published side by side, and the fix; empty if they can.

    Catalogs do not distinguish names by letter case.
    """
    names: set[str] = set()
    owners = {staged_prefix.lower(): "catalog.staged_prefix"}
    for layout in layouts:
        if layout.name in names:
            return f"two layouts are called {layout.name!r}; rename one"
        other = owners.get(layout.prefix.lower())
        if other:
            return f"layout {layout.name!r} has the prefix {layout.prefix!r}, like {other}; set another prefix for it"
        names.add(layout.name)
        owners[layout.prefix.lower()] = f"layout {layout.name!r}"
    return ""
