"""Read and write Thrift's compact protocol without a schema, to change single fields of Parquet footers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
_TAIL = 8


@dataclass
class Field:
    """A field of a struct."""

    number: int
    kind: int
    value: Any


@dataclass
class Items:
    """A list whose elements have one kind."""

    kind: int
    values: list[Any]


class Struct(list[Field]):
    """The fields of a struct."""

    def __getitem__(self, number: Any) -> Any:
        """Return the value of a field, by its number."""
        return next(field.value for field in self if field.number == number)

    def set(self, number: int, kind: int, value: Any) -> None:
        """Set a field."""
        self[:] = sorted([*self.others(number), Field(number, kind, value)], key=lambda field: field.number)

    def others(self, number: int) -> list[Field]:
        """Return all fields but one."""
        return [field for field in self if field.number != number]


def parse(content: bytes) -> Struct:
    """Return a struct."""
    value, _ = _read(content, 0, STRUCT)
    assert isinstance(value, Struct)
    return value


def parse_start(content: bytes) -> tuple[Struct, int]:
    """Return the struct that some bytes begin with, and its length."""
    value, length = _read(content, 0, STRUCT)
    assert isinstance(value, Struct)
    return value, length


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _integer(content: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(content, at)
    return (value >> 1) ^ -(value & 1), at


def _read(content: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):
        return kind == TRUE, at
    if kind == BYTE:
        return content[at], at + 1
    if kind in (I16, I32, I64):
        return _integer(content, at)
    if kind == DOUBLE:
        return content[at : at + 8], at + 8
    if kind == BINARY:
        length, at = _varint(content, at)
        return content[at : at + length], at + length
    if kind in (LIST, SET):
        return _read_items(content, at)
    assert kind == STRUCT, f"kind {kind} is not in footers"
    fields, number = Struct(), 0
    while content[at]:
        step, kind = divmod(content[at], 16)
        at += 1
        if step:
            number += step
        else:
            number, at = _integer(content, at)
        value, at = _read(content, at, kind)
        fields.append(Field(number, kind, value))
    return fields, at + 1


def _read_items(content: bytes, at: int) -> tuple[Items, int]:
    count, kind = divmod(content[at], 16)
    at += 1
    if count == 15:
        count, at = _varint(content, at)
    items = Items(kind, [])
    for _ in range(count):
        if kind in (TRUE, FALSE):
            value, at = content[at] == TRUE, at + 1
        else:
            value, at = _read(content, at, kind)
        items.values.append(value)
    return items, at


def serialize(value: Any, kind: int = STRUCT) -> bytes:
    """Return the bytes of a value."""
    if kind in (TRUE, FALSE):
        return b""
    if kind == BYTE:
        return bytes([value])
    if kind in (I16, I32, I64):
        return _of_varint(value << 1 if value >= 0 else ((-value) << 1) - 1)
    if kind == DOUBLE:
        return bytes(value)
    if kind == BINARY:
        return _of_varint(len(value)) + bytes(value)
    if kind in (LIST, SET):
        count = len(value.values)
        head = bytes([count << 4 | value.kind]) if count < 15 else bytes([0xF0 | value.kind]) + _of_varint(count)
        if value.kind in (TRUE, FALSE):
            return head + bytes(TRUE if item else FALSE for item in value.values)
        return head + b"".join(serialize(item, value.kind) for item in value.values)
    parts: list[bytes] = []
    last = 0
    for field in value:
        kind = (TRUE if field.value else FALSE) if field.kind in (TRUE, FALSE) else field.kind
        step = field.number - last
        parts.append(bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + serialize(field.number, I16))
        parts.append(serialize(field.value, kind))
        last = field.number
    return b"".join(parts) + b"\0"


def _of_varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def split_footer(content: bytes) -> tuple[bytes, bytes]:
    """Return the bytes of a Parquet file before its footer, and those of the footer."""
    length = int.from_bytes(content[-_TAIL:-4], "little")
    return content[: -_TAIL - length], content[-_TAIL - length : -_TAIL]


def with_footer(body: bytes, footer: bytes) -> bytes:
    """Return a Parquet file with this footer."""
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def change_footer(path: Path, change: Callable[[Struct], None]) -> None:
    """Let `change` alter the footer (a FileMetaData) of a file."""
    body, footer = split_footer(path.read_bytes())
    metadata = parse(footer)
    change(metadata)
    path.write_bytes(with_footer(body, serialize(metadata)))


def chunks(metadata: Struct) -> Iterator[Struct]:
    """Yield the ColumnMetaData of each column chunk of a FileMetaData."""
    for group in metadata[4].values:
        for chunk in group[1].values:
            yield chunk[3]
