"""Choose the types in which columns are written, so that every supported reader gets the same values.

Annotations of Parquet decide, not Arrow's types alone: pyarrow reads ENUM, JSON and UUID as types that differ between
its versions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.kernel.arrow_types import convert_leaves
from bucketwheel.settings import TypeSettings

UUID_BYTES = 16
_UINT64_DIGITS = 20
# Every VARIANT has a leaf of this name.
_VARIANT_LEAF = ".metadata"
_FIX = "have the snapshot written with text instead, or remove the column from the mapping"


@dataclass(frozen=True)
class Conversion:
    """A type that changes: the name of the Parquet column, its type in the file, and the type that is written."""

    column: str
    stored: str
    written: str


@dataclass(frozen=True)
class WrittenTypes:
    """The types in which the columns of a file are written.

    Attributes:
        schema: the columns of the file, in these types.
        conversions: the types that change.
        unsupported: columns that cannot be written, and why.
        exact: numbers of the leaves whose nanoseconds must fit into microseconds.
    """

    schema: pa.Schema
    conversions: tuple[Conversion, ...]
    unsupported: tuple[tuple[str, str], ...]
    exact: tuple[int, ...]


def written_types(
    schema: pa.Schema, parquet: pq.ParquetSchema, leaves: Sequence[pq.ColumnSchema], rules: TypeSettings
) -> WrittenTypes:
    """Return the types in which columns are written.

    Args:
        schema: Arrow schema of the file.
        parquet: Parquet schema of the file.
        leaves: its columns, in order.
        rules: settings.
    """
    walk = _Walk(rules, enumerate(leaves), _variants(parquet, leaves))
    kinds = [walk.column(field) for field in schema]
    fields = [field.with_type(kind) for field, kind in zip(schema, kinds, strict=True)]
    return WrittenTypes(pa.schema(fields), tuple(walk.conversions), tuple(walk.unsupported), tuple(walk.exact))


def _variants(parquet: pq.ParquetSchema, leaves: Sequence[pq.ColumnSchema]) -> frozenset[str]:
    """Return the names of groups with the annotation VARIANT, which pyarrow only prints."""
    if not any(leaf.path.endswith(_VARIANT_LEAF) for leaf in leaves):
        return frozenset()
    return frozenset(re.findall(r"group field_id=\S+ (.*) \(Variant\b", str(parquet)))


class _Walk:
    """Visits the leaves of a schema in the order of the Parquet columns."""

    def __init__(
        self, rules: TypeSettings, leaves: Iterator[tuple[int, pq.ColumnSchema]], variants: Collection[str]
    ) -> None:
        self._variants = variants
        self._rules = rules
        self._leaves = leaves
        self._column = ""
        self.conversions: list[Conversion] = []
        self.unsupported: list[tuple[str, str]] = []
        self.exact: list[int] = []

    def column(self, field: pa.Field) -> pa.DataType:
        """Return the type of a column; the original one if no part of it changes."""
        self._column = field.name
        before = len(self.conversions)
        kind = convert_leaves(field.type, self._leaf)
        return kind if len(self.conversions) > before else field.type

    def _leaf(self, kind: pa.DataType) -> pa.DataType:
        if isinstance(kind, pa.BaseExtensionType) and pa.types.is_nested(stored_type(kind)):
            self.conversions.append(Conversion(self._column, str(kind.extension_name), str(kind.storage_type)))
            return convert_leaves(kind.storage_type, self._leaf)
        number, leaf = next(self._leaves)
        if leaf.path.endswith(_VARIANT_LEAF) and leaf.path.split(".")[-2] in self._variants:
            self._refuse(f"VARIANT, which not every reader can read; {_FIX}")
        # Of INTERVAL, pyarrow knows the older annotation only.
        annotation = leaf.logical_type.type if leaf.converted_type != "INTERVAL" else "INTERVAL"
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        written = self._written(number, value, annotation)
        if written is None or written.equals(value):
            return kind
        name = annotation if annotation in ("ENUM", "JSON", "UUID") else str(value)
        self.conversions.append(Conversion(leaf.path, name, str(written)))
        return written

    def _written(self, number: int, kind: pa.DataType, annotation: str) -> pa.DataType | None:
        """Return the type in which a leaf is written; None for its own."""
        extension = str(kind.extension_name) if isinstance(kind, pa.BaseExtensionType) else ""
        stored = stored_type(kind)
        if annotation == "UUID" or extension == "arrow.uuid":
            return self._uuid(kind)
        if annotation in ("ENUM", "JSON") or extension == "arrow.json":
            return _text(stored)
        if annotation == "INTERVAL":
            self._refuse(f"INTERVAL, which Spark and Trino cannot read; {_FIX}")
        if pa.types.is_time(stored):
            return self._time(stored)
        if pa.types.is_timestamp(stored) and stored.unit == "ns":
            return self._timestamp(number, stored)
        return _WIDER.get(stored, stored)

    def _uuid(self, kind: pa.DataType) -> pa.DataType | None:
        if self._rules.uuid == "text":
            return pa.string()
        return None if self._rules.uuid == "keep" else pa.binary(UUID_BYTES)

    def _time(self, kind: pa.DataType) -> pa.DataType:
        if self._rules.times == "error":
            self._refuse(f"{kind}, and types.times is error; set it to text, or remove the column from the mapping")
        return pa.string() if self._rules.times == "text" else kind

    def _timestamp(self, number: int, kind: pa.DataType) -> pa.DataType:
        rule = self._rules.timestamps
        if rule == "error":
            fix = "set it to us or truncate, or remove the column from the mapping"
            self._refuse(f"{kind}, and types.timestamps is error; {fix}")
        if rule == "us":
            self.exact.append(number)
        return pa.timestamp("us", kind.tz) if rule in ("us", "truncate") else kind

    def _refuse(self, problem: str) -> None:
        self.unsupported.append((self._column, f"column {self._column!r} has type {problem}"))


def stored_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that values of a type are stored as."""
    return stored_type(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def leaf_count(kind: pa.DataType) -> int:
    """Return how many Parquet columns a type is stored in."""
    # Paths of columns do not help: a name may contain dots.
    kind = stored_type(kind)
    return sum(leaf_count(kind.field(i).type) for i in range(kind.num_fields)) or 1


def _text(kind: pa.DataType) -> pa.DataType | None:
    """Return text for bytes, and None for text, which stays as it is."""
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or str(kind) == "binary_view"
    return pa.string() if is_bytes else kind


# Hive reads large values of unsigned integers as negative numbers, and rejects half floats.
_WIDER = {
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(_UINT64_DIGITS, 0),
    pa.float16(): pa.float32(),
}
