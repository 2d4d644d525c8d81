"""Bring the rows of a source file into the form in which they are scattered: types, valid text, codes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

from bucketwheel.kernel.conversion import ConversionError, convert
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.statistics import StatisticsCollector
from bucketwheel.kernel.utf8 import NotUtf8Error, is_valid, replaced


def normalize_batch(
    batch: pa.RecordBatch,
    types: Mapping[str, pa.DataType],
    coded: Collection[str],
    dictionaries: UnifiedDictionaries,
    statistics: StatisticsCollector | None = None,
    replaceable: Collection[str] = (),
    keys: Collection[str] = (),
    check_text: bool = True,
    counted: Collection[str] | None = None,
    truncate: bool = False,
) -> pa.RecordBatch:
    """Return the batch in these types, with codes in place of the dictionaries of columns in `coded`.

    Text that is not UTF-8 is replaced in columns in `replaceable` and stays as it is in `keys`; in others it raises
    `NotUtf8Error`. Without `check_text`, it stays as it is everywhere. `statistics` collects the values of columns in
    `counted` (None: of all). For `truncate` see `convert`.

    Raises:
        ConversionError: the type of a column cannot hold one of its values.
    """

    arrays = []
    typed = typed_batch(
        batch, types, coded, statistics, replaceable=replaceable, keys=keys, check_text=check_text, counted=counted,
        truncate=truncate,
    )  # fmt: skip
    for name, column in zip(typed.schema.names, typed.columns, strict=True):
        is_coded = name in coded and pa.types.is_dictionary(column.type)
        codes = dictionaries.encode(name, column) if is_coded else None
        decoded = column.dictionary_decode() if is_coded and codes is None else column
        arrays.append(decoded if codes is None else codes)
        if statistics is None or not (counted is None or name in counted):
            continue
        if codes is None:
            statistics.add(name, decoded)
        else:
            statistics.add_codes(name, types[name], codes.to_numpy())
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def typed_batch(
    batch: pa.RecordBatch,
    types: Mapping[str, pa.DataType],
    coded: Collection[str],
    statistics: StatisticsCollector | None = None,
    *,
    replaceable: Collection[str] = (),
    keys: Collection[str] = (),
    check_text: bool = True,
    counted: Collection[str] | None = None,
    truncate: bool = False,
) -> pa.RecordBatch:
    """Return the batch in these types and with valid text; columns in `coded` keep their dictionaries.

    See `normalize_batch` for arguments and errors.
    """
    arrays = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        is_coded = name in coded and pa.types.is_dictionary(column.type)
        try:
            typed = (_with_values if is_coded else convert)(column, types[name], truncate)
        except ConversionError as error:
            raise ConversionError(f"column {name!r} {error}") from error
        if check_text and not is_valid(typed):
            if name not in replaceable and name not in keys:
                raise NotUtf8Error(name)
            valid, count = replaced(typed)
            if statistics is not None and (counted is None or name in counted):
                statistics.invalid_texts[name] += count
            # With other bytes, different keys could become equal, and joins with other tables miss them.
            typed = typed if name in keys else valid
        arrays.append(typed)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _with_values(column: pa.DictionaryArray, kind: pa.DataType, truncate: bool) -> pa.DictionaryArray:
    """Return the column with the values of its dictionary in this type."""
    if column.type.value_type.equals(kind):
        return column
    return pa.DictionaryArray.from_arrays(column.indices, convert(column.dictionary, kind, truncate))
