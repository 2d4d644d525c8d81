"""Find text that is not UTF-8, and replace it: Parquet demands UTF-8, but few writers and readers check it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bucketwheel.contracts import Slice
from bucketwheel.errors import SchemaError
from bucketwheel.formatting import shortened
from bucketwheel.kernel.conversion import ConversionError, convert
from bucketwheel.safe_text import one_line

# Smallest byte that is not ASCII.
_NOT_ASCII = 0x80
_Mask = npt.NDArray[np.bool_]
_SHOWN = 20
_FIX = (
    "write the text as UTF-8, set types.invalid_text=replace to replace such bytes by U+FFFD, or list the columns in "
    "datasets.NAME.binary_columns to publish their bytes as binary"
)


class NotUtf8Error(Exception):
    """Text of a column is not UTF-8; `invalid_text` finds where."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


def has_text(kind: pa.DataType) -> bool:
    """Return whether values of a type contain text, at any depth."""
    if isinstance(kind, pa.BaseExtensionType):
        return has_text(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return has_text(kind.value_type)
    if pa.types.is_nested(kind):
        return any(has_text(kind.field(number).type) for number in range(kind.num_fields))
    return _is_text(kind)


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string())


def is_valid(column: pa.Array) -> bool:
    """Return whether all text in a column is UTF-8; its type must be canonical."""
    return not has_text(column.type) or all(map(_is_utf8, _texts(column)))


def _texts(column: pa.Array) -> Iterator[pa.Array]:
    """Yield the arrays of text in a column."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from _texts(column.storage)
    elif pa.types.is_dictionary(kind):
        yield from _texts(column.dictionary)
    elif pa.types.is_map(kind):
        yield from _texts(column.keys)
        yield from _texts(column.items)
    elif pa.types.is_struct(kind):
        for child in column.flatten():
            yield from _texts(child)
    elif pa.types.is_nested(kind):
        yield from _texts(column.flatten())
    elif _is_text(kind):
        yield column


def _is_utf8(texts: pa.Array) -> bool:
    data = texts.buffers()[2]
    if data is None or not len(texts):
        return True
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    offsets = np.frombuffer(texts.buffers()[1], width)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    # Most text is ASCII, and this check takes a fraction of the time of the other.
    if not len(content) or content.max() < _NOT_ASCII:
        return True
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def invalid_text(
    part: Slice, file: pq.ParquetFile, column: str, columns: Sequence[str], types: Mapping[str, pa.DataType]
) -> SchemaError:
    """Return the error for text that is not UTF-8.

    Args:
        part: the slice with the text.
        file: its file.
        column: the column that was found first.
        columns: all columns to look into.
        types: the types in which they are written; ENUM and JSON are not text as pyarrow reads them.
    """
    places = {name: _first_place(file, part.row_groups, name, types[name]) for name in [column, *columns]}
    first = places.pop(column) or f"row groups {part.row_groups[0]} to {part.row_groups[-1]}, column {column!r}: text"
    others = [repr(name) for name, place in places.items() if place]
    more = f" (also in {shortened(others, _SHOWN)})" if others else ""
    return SchemaError(f"{one_line(part.path)}: {first} is not UTF-8{more}; {_FIX}")


def _first_place(file: pq.ParquetFile, row_groups: Sequence[int], column: str, kind: pa.DataType) -> str | None:
    """Return the row group, column, row and byte of the first text that is not UTF-8."""
    for group in row_groups:
        start, name = 0, f"row group {group}, column {column!r}"
        try:
            for batch in file.iter_batches(row_groups=[group], columns=[column], use_threads=False):
                values = convert(batch.column(0), kind, truncate=True)
                if not is_valid(values):
                    return name + (_place(values, start) if _is_text(values.type) else ": text inside")
                start += batch.num_rows
        except (pa.ArrowException, OSError, ConversionError):
            # A page that cannot be read is another error, which is found once this one is mended.
            continue
    return None


def _place(texts: pa.Array, start: int) -> str:
    """Return the row and the byte of the first text that is not UTF-8; not the text, which may be personal data."""
    first, end = 0, len(texts)
    while end - first > 1:
        middle = (first + end) // 2
        if _is_utf8(texts.slice(first, middle - first)):
            first = middle
        else:
            end = middle
    try:
        _as_bytes(texts.slice(first, 1))[0].as_py().decode()
    except UnicodeDecodeError as error:
        return f", row {start + first}: byte 0x{error.object[error.start]:02X} at position {error.start}"
    return ": text"


def replaced(column: pa.Array) -> tuple[pa.Array, int]:
    """Return a column with U+FFFD in place of bytes that are not UTF-8, and the number of texts that had some."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        values, changed = _replaced_texts(column.dictionary)
        used = column.indices.drop_null().to_numpy()
        return pa.DictionaryArray.from_arrays(column.indices, values), int(changed[used].sum())
    if _is_text(kind):
        texts, changed = _replaced_texts(column)
        return texts, int(changed.sum())
    if isinstance(kind, pa.BaseExtensionType):
        stored, count = replaced(column.storage)
        return pa.ExtensionArray.from_storage(kind, stored), count
    return _replaced_inside(column) if has_text(kind) else (column, 0)


def _replaced_inside(column: pa.Array) -> tuple[pa.Array, int]:
    kind = column.type
    if column.offset:
        # Children of a slice begin before it.
        column = column.take(pa.array(np.arange(len(column))))
    if pa.types.is_map(kind):
        parts = [replaced(column.keys), replaced(column.items)]
        entries = pa.StructArray.from_arrays([part for part, _ in parts], fields=[kind.key_field, kind.item_field])
        children, own = [entries], 2
    elif pa.types.is_struct(kind):
        parts = [replaced(column.field(number)) for number in range(kind.num_fields)]
        children, own = [part for part, _ in parts], 1
    else:
        parts = [replaced(column.values)]
        children, own = [parts[0][0]], 1 if pa.types.is_fixed_size_list(kind) else 2
    whole = pa.Array.from_buffers(kind, len(column), column.buffers()[:own], children=children)
    return whole, sum(count for _, count in parts)


def _replaced_texts(texts: pa.Array) -> tuple[pa.Array, _Mask]:
    """Return text that is UTF-8, and which rows changed."""
    other: _Mask = ~pc.string_is_ascii(texts).fill_null(True).to_numpy(zero_copy_only=False)
    before = _as_bytes(texts.filter(pa.array(other))).to_pylist()
    after = [text.decode("utf-8", "replace") for text in before]
    changed = np.zeros(len(texts), np.bool_)
    changed[other] = [new.encode() != old for old, new in zip(before, after, strict=True)]
    return pc.replace_with_mask(texts, pa.array(other), pa.array(after, texts.type)), changed


def _as_bytes(texts: pa.Array) -> pa.Array:
    return texts.cast(pa.large_binary() if pa.types.is_large_string(texts.type) else pa.binary())
