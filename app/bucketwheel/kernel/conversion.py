"""Convert values to the types in which they are written; see `written_types`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bucketwheel.kernel.arrow_types import MOST_TEXT_BYTES, is_list_view
from bucketwheel.kernel.written_types import UUID_BYTES

_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
# Positions of the 32 digits in the text of a UUID; hyphens are between them.
_DIGITS = np.array([at for at in range(36) if at not in (8, 13, 18, 23)])
_UUID_CHARACTERS = 36
PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_END_OF_DAY = "24:00:00"
_EMPTY_TEXT = pa.array([b""])


Values = TypeVar("Values", pa.Array, pa.ChunkedArray)


class ConversionError(ValueError):
    """A value that the type in which its column is written cannot hold."""


def convert(values: Values, kind: pa.DataType, truncate: bool = False) -> Values:
    """Return the values in another type.

    Args:
        values: values as pyarrow reads them.
        kind: a type from `written_types`, or one that Arrow can cast to.
        truncate: cut the digits of timestamps that microseconds cannot hold.

    Raises:
        ConversionError: a value does not fit.
    """
    if values.type.equals(kind):
        return values
    if not _is_special(values.type, kind):
        return pc.cast(values, kind)
    if isinstance(values, pa.ChunkedArray):
        return pa.chunked_array([convert(chunk, kind, truncate) for chunk in values.chunks], kind)
    converted = _converted(values, kind, truncate)
    return converted if converted.type.equals(kind) else pc.cast(converted, kind)


def _is_special(before: pa.DataType, after: pa.DataType) -> bool:
    """Return whether Arrow's cast refuses these types, or has another meaning, at any depth."""
    if isinstance(before, pa.BaseExtensionType) or isinstance(after, pa.BaseExtensionType):
        return not before.equals(after)
    if pa.types.is_dictionary(before):
        return _is_special(before.value_type, after)
    if pa.types.is_nested(before):
        if not pa.types.is_nested(after) or before.num_fields != after.num_fields:
            return False
        pairs = ((before.field(number), after.field(number)) for number in range(before.num_fields))
        return is_list_view(before) or any(
            pa.types.is_dictionary(one.type) or _is_special(one.type, other.type) for one, other in pairs
        )
    if _is_text(after):
        return not _is_text(before)
    if pa.types.is_timestamp(before):
        return bool(pa.types.is_timestamp(after) and before.unit == "ns" and after.unit == "us")
    return bool(pa.types.is_float16(before))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view")


def _converted(values: pa.Array, kind: pa.DataType, truncate: bool) -> pa.Array:
    """Return converted values, whose type may still have other offsets or widths than `kind`."""
    before = values.type
    if isinstance(before, pa.BaseExtensionType):
        return convert(values.storage, kind, truncate)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, convert(values, kind.storage_type, truncate))
    if pa.types.is_dictionary(before):
        # Values that may not be NULL have the index 0 inside NULL structs, even if the dictionary is empty.
        dictionary = convert(values.dictionary if len(values.dictionary) else _EMPTY_TEXT, kind, truncate)
        _check_length(values.indices, dictionary)
        return pa.DictionaryArray.from_arrays(values.indices, dictionary).dictionary_decode()
    if pa.types.is_nested(before):
        return _converted_nested(values, kind, truncate)
    if pa.types.is_fixed_size_binary(before) and before.byte_width == UUID_BYTES:
        return _uuid_texts(values)
    if pa.types.is_time(before):
        return _time_texts(values)
    if pa.types.is_timestamp(before):
        return _microseconds(values, kind, truncate)
    if pa.types.is_float16(before):
        return with_nulls(values.to_numpy(zero_copy_only=False).astype(np.float32), values)
    # Text is checked afterwards, because it may be wrong in columns that are text in the file, too.
    return pc.cast(values, options=pc.CastOptions(kind, allow_invalid_utf8=_is_text(kind)))


def _check_length(indices: pa.Array, dictionary: pa.Array) -> None:
    """Refuse texts that offsets of 32 bits cannot hold: pyarrow 17 returns wrong values."""
    if dictionary.type not in (pa.string(), pa.binary()):
        return
    lengths = pc.binary_length(dictionary).fill_null(0)
    if len(indices) * (pc.max(lengths).as_py() or 0) < MOST_TEXT_BYTES:
        return
    size = pc.sum(lengths.take(indices).cast(pa.int64())).as_py() or 0
    if size >= MOST_TEXT_BYTES:
        raise ConversionError(
            f"has {size:,} bytes of text in {len(indices):,} values that are read at a time, but Arrow holds less "
            "than 2 GiB of them in a list or struct; write the file with smaller row groups"
        )


def _converted_nested(values: pa.Array, kind: pa.DataType, truncate: bool) -> pa.Array:
    if is_list_view(values.type):
        # pyarrow 26 corrupts list views from a file when it casts them to lists with offsets of the same width.
        other = pa.list_ if pa.types.is_large_list_view(values.type) else pa.large_list
        return convert(pc.cast(values, other(values.type.value_field)), kind, truncate)
    fields = inner_fields(kind)
    pairs = zip(inner_arrays(values), fields, strict=True)
    return with_inner(values, fields, [_converted_inner(inner, field.type, truncate) for inner, field in pairs])


def _converted_inner(values: pa.Array, kind: pa.DataType, truncate: bool) -> pa.Array:
    # Arrow's cast refuses dictionaries that are empty.
    if pa.types.is_dictionary(values.type):
        return _converted(values, kind, truncate)
    return convert(values, kind, truncate)


def inner_fields(kind: pa.DataType) -> list[pa.Field]:
    """Return the fields directly inside a nested type; of a map, those of its keys and values."""
    if pa.types.is_map(kind):
        return [kind.key_field, kind.item_field]
    return [kind.field(number) for number in range(kind.num_fields)]


def inner_arrays(values: pa.Array) -> list[pa.Array]:
    """Return the values of `inner_fields`; those of lists and maps may also be values of other rows."""
    if pa.types.is_map(values.type):
        return [values.keys, values.items]
    if pa.types.is_struct(values.type):
        return [values.field(number) for number in range(values.type.num_fields)]
    return [values.values]


def with_inner(values: pa.Array, fields: Sequence[pa.Field], inner: Sequence[pa.Array]) -> pa.Array:
    """Return nested values with other `inner_arrays`."""
    kind, count = values.type, len(values)
    if pa.types.is_struct(kind):
        mask = values.is_null() if values.null_count else None
        return pa.StructArray.from_arrays(inner, fields=fields, mask=mask)
    own = values.buffers()[: 1 if pa.types.is_fixed_size_list(kind) else 2]
    if pa.types.is_map(kind):
        pairs = pa.StructArray.from_arrays(inner, fields=fields)
        return pa.Array.from_buffers(pa.map_(*fields), count, own, offset=values.offset, children=[pairs])
    if pa.types.is_fixed_size_list(kind):
        kind = pa.list_(fields[0], kind.list_size)
    else:
        kind = (pa.large_list if pa.types.is_large_list(kind) else pa.list_)(fields[0])
    return pa.Array.from_buffers(kind, count, own, offset=values.offset, children=list(inner))


def _valid(values: pa.Array) -> npt.NDArray[np.bool_]:
    valid: npt.NDArray[np.bool_] = values.is_valid().to_numpy(zero_copy_only=False)
    return valid


def with_nulls(numbers: npt.NDArray[Any], values: pa.Array) -> pa.Array:
    """Return the numbers as an array that is NULL where `values` are."""
    return pa.array(numbers, mask=~_valid(values) if values.null_count else None)


def integers(values: pa.Array) -> npt.NDArray[np.int64]:
    """Return times or timestamps as numbers in their unit; NULL is 0."""
    numbers = values.view(pa.int32() if values.type.bit_width == 32 else pa.int64())
    numbers = numbers.fill_null(0) if numbers.null_count else numbers
    integers: npt.NDArray[np.int64] = numbers.to_numpy().astype(np.int64, copy=False)
    return integers


def _microseconds(values: pa.Array, kind: pa.DataType, truncate: bool) -> pa.Array:
    nanoseconds = integers(values)
    # The floor: values before 1970 lose digits too, not gain a microsecond.
    numbers, rest = np.divmod(nanoseconds, 1000)
    if not truncate and rest.any():
        raise ConversionError(nanoseconds_problem(int(nanoseconds[np.flatnonzero(rest)[0]])))
    return with_nulls(numbers, values).view(pa.timestamp("us", kind.tz))


def nanoseconds_problem(value: int) -> str:
    """Return why microseconds cannot hold a timestamp, given in nanoseconds since 1970, and the fix."""
    return (
        f"has timestamps with digits that microseconds cannot hold, such as {np.datetime64(value, 'ns')}; cut them "
        "with types.timestamps=truncate, or write nanoseconds, which Spark rejects, with types.timestamps=keep"
    )


def _time_texts(values: pa.Array) -> pa.Array:
    """Return times of day as text with as many digits as they need."""
    numbers, per_day = integers(values), PER_DAY[values.type.unit]
    outside = np.flatnonzero((numbers < 0) | (numbers > per_day))
    if len(outside):
        value = f"{numbers[outside[0]]} {values.type.unit}"
        raise ConversionError(
            f"has a time of day of {value} since midnight, which is no time of a day; correct the value in the "
            "source, or remove the column from the mapping"
        )
    ends = numbers == per_day
    numbers = np.where(ends, 0, numbers).astype(np.int32 if values.type.bit_width == 32 else np.int64)
    texts = pc.cast(with_nulls(numbers, values).view(values.type), pa.string())
    if values.type.unit != "s":
        texts = pc.utf8_rtrim(pc.utf8_rtrim(texts, characters="0"), characters=".")
    return pc.if_else(pa.array(ends), pa.scalar(_END_OF_DAY), texts) if ends.any() else texts


def _uuid_texts(values: pa.Array) -> pa.Array:
    """Return UUIDs as text: 32 lowercase hexadecimal digits in five groups."""
    count = len(values)
    if values.null_count == count:
        return pa.nulls(count, pa.string())
    valid = _valid(values)
    start = values.offset * UUID_BYTES
    everything = np.frombuffer(values.buffers()[1], np.uint8)[start : start + count * UUID_BYTES]
    octets = everything.reshape(count, UUID_BYTES)[valid]
    texts = np.full((len(octets), _UUID_CHARACTERS), ord("-"), np.uint8)
    texts[:, _DIGITS[0::2]] = _HEX[octets >> 4]
    texts[:, _DIGITS[1::2]] = _HEX[octets & 15]
    ends = np.zeros(count + 1, np.int64)
    np.cumsum(valid * _UUID_CHARACTERS, out=ends[1:])
    mask = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    buffers = [mask, pa.py_buffer(ends), pa.py_buffer(texts)]
    return pa.Array.from_buffers(pa.large_string(), count, buffers)
