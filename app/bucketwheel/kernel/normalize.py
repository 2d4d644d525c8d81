"""Bring the rows of a source file into the form in which they are scattered: types, valid text, codes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bucketwheel.contracts import BucketJob
from bucketwheel.kernel.conversion import ConversionError, convert
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.distinct import is_text
from bucketwheel.kernel.passes import DECODED_BYTES, projected_columns
from bucketwheel.kernel.statistics import StatisticsCollector
from bucketwheel.kernel.utf8 import NotUtf8Error, is_valid, replaced


@dataclass(frozen=True)
class Rules:
    """Types of rows by source name, dictionary columns, keys, and columns whose invalid text is replaced.

    Without `check_text`, invalid text stays as it is. For `truncate` see `convert`, for `unknown_is_utc`
    `LegacyCalendar.rebase`.
    """

    types: Mapping[str, pa.DataType]
    coded: Collection[str]
    keys: Collection[str] = ()
    replaceable: Collection[str] = ()
    check_text: bool = True
    truncate: bool = False
    unknown_is_utc: bool = False

    @classmethod
    def of(cls, job: BucketJob) -> Rules:
        """Return the rules of a job."""
        keys = frozenset(source for source, _ in job.keys)
        others = frozenset(projected_columns(job)) - keys
        return cls(
            _scattered_types(job),
            job.dictionary_columns - keys,
            keys,
            others if job.types.invalid_text == "replace" else frozenset(),
            check_text=job.types.invalid_text != "keep",
            truncate=job.types.timestamps == "truncate",
            unknown_is_utc=job.types.legacy_timestamps == "utc",
        )


def _scattered_types(job: BucketJob) -> dict[str, pa.DataType]:
    """Return the types of scattered rows, by source name; those of some source files may differ.

    Layouts share these rows. Only the writer of Iceberg files widens types, so theirs serve only if no other layout
    needs the types of the source.
    """
    layout = next((layout for layout in job.layouts if layout.hash != "iceberg"), job.layouts[0])
    types: dict[str, pa.DataType] = {}
    for table in layout.tables:
        schema = pa.ipc.read_schema(pa.py_buffer(table.schema))
        sources = [source for source, _ in (*layout.keys, *table.columns)]
        types.update(zip(sources, schema.types, strict=True))
    return types


def typed_batches(
    batch: pa.RecordBatch,
    rules: Rules,
    statistics: StatisticsCollector | None = None,
    counted: Collection[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows in the types of the rules and with valid text; dictionary columns keep their dictionaries.

    Rows are in several batches if the values of other dictionaries take more than `DECODED_BYTES`. Text that is not
    UTF-8 is replaced in replaceable columns and stays as it is in keys. `statistics` counts replaced text of the
    columns in `counted` (None: of all).

    Raises:
        ConversionError: the type of a column cannot hold one of its values.
        NotUtf8Error: text of another column is not UTF-8.
    """
    return map(partial(_typed, rules, statistics, counted), _parts(batch, rules.coded))


def _typed(
    rules: Rules, statistics: StatisticsCollector | None, counted: Collection[str] | None, batch: pa.RecordBatch
) -> pa.RecordBatch:
    arrays = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        is_coded = name in rules.coded and pa.types.is_dictionary(column.type)
        try:
            typed = (_with_values if is_coded else convert)(column, rules.types[name], rules.truncate)
        except ConversionError as error:
            raise ConversionError(f"column {name!r} {error}") from error
        if rules.check_text and not is_valid(typed):
            if name not in rules.replaceable and name not in rules.keys:
                raise NotUtf8Error(name)
            valid, count = replaced(typed)
            if statistics is not None and (counted is None or name in counted):
                statistics.invalid_texts[name] += count
            # With other bytes, different keys could become equal, and joins with other tables miss them.
            typed = typed if name in rules.keys else valid
        arrays.append(typed)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _with_values(column: pa.DictionaryArray, kind: pa.DataType, truncate: bool) -> pa.DictionaryArray:
    """Return the column with the values of its dictionary in this type."""
    if column.type.value_type.equals(kind):
        return column
    return pa.DictionaryArray.from_arrays(column.indices, convert(column.dictionary, kind, truncate))


def encode_batches(
    batch: pa.RecordBatch,
    rules: Rules,
    dictionaries: UnifiedDictionaries,
    statistics: StatisticsCollector | None = None,
    counted: Collection[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a typed batch with codes of `dictionaries`, or with values in columns that these have closed.

    Rows are in several batches if these values take more than `DECODED_BYTES`. `statistics` collects the values of
    columns in `counted` (None: of all).
    """
    encoded, codes = _encoded(batch, dictionaries)
    if statistics is not None:
        for name in codes:
            if counted is None or name in counted:
                statistics.add_codes(name, rules.types[name], encoded.column(name).to_numpy())
        counted = frozenset(batch.schema.names if counted is None else counted) - codes
    return map(partial(_decoded, statistics, counted or ()), _parts(encoded))


def _encoded(batch: pa.RecordBatch, dictionaries: UnifiedDictionaries) -> tuple[pa.RecordBatch, frozenset[str]]:
    """Return the batch with codes in place of dictionaries that are not closed, and the names of these columns."""
    arrays, names = [], []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        codes = dictionaries.encode(name, column) if pa.types.is_dictionary(column.type) else None
        arrays.append(column if codes is None else codes)
        names += [] if codes is None else [name]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names), frozenset(names)


def _decoded(
    statistics: StatisticsCollector | None, counted: Collection[str], batch: pa.RecordBatch
) -> pa.RecordBatch:
    """Return the batch with values in place of dictionaries; collect the statistics of some columns."""
    arrays = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        arrays.append(column.dictionary_decode() if pa.types.is_dictionary(column.type) else column)
        if statistics is not None and name in counted:
            statistics.add(name, arrays[-1])
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _parts(batch: pa.RecordBatch, kept: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
    """Yield the rows so that decoding the dictionaries of columns not in `kept` makes at most `DECODED_BYTES`.

    Footers do not tell how long these values are. Text with 32-bit offsets ends at 2 GiB: pyarrow refuses to decode
    more, and pyarrow 17 returns wrong values.
    """
    bounds = pairwise([0, *_part_starts(batch, kept), len(batch)])
    parts = [batch.slice(start, end - start) for start, end in bounds]
    del batch
    # The caller may be the only one that keeps a part.
    while parts:
        yield parts.pop(0)


def _part_starts(batch: pa.RecordBatch, kept: Collection[str]) -> list[int]:
    """Return the first row of each part but the first one."""
    columns = [
        (column.indices, pc.binary_length(column.dictionary).fill_null(0).to_numpy())
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
        if name not in kept and pa.types.is_dictionary(column.type) and is_text(column.type.value_type)
    ]
    if sum(int(lengths.max(initial=0)) for _, lengths in columns) * len(batch) <= DECODED_BYTES:
        return []
    sizes = np.zeros(len(batch), np.int64)
    for indices, lengths in columns:
        sizes += np.append(lengths, 0)[indices.cast(pa.int64()).fill_null(len(lengths)).to_numpy()]
    part_of_row = np.cumsum(sizes) // DECODED_BYTES
    starts: list[int] = (np.flatnonzero(np.diff(part_of_row)) + 1).tolist()
    return starts
