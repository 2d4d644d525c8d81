"""Rows in the form in which they are scattered."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bucketwheel.kernel import dictionaries as kernel_dictionaries
from bucketwheel.kernel.conversion import ConversionError
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.gather import combined
from bucketwheel.kernel.normalize import Rules, encode_batches, typed_batches
from bucketwheel.kernel.passes import DECODED_BYTES

ROWS, LENGTH = 220_000, 11_000


@pytest.mark.parametrize("coded", [("text",), ()])
def test_dictionary_of_more_than_two_gibibytes_is_decoded(coded: tuple[str, ...]) -> None:
    """Text with 32-bit offsets ends at 2 GiB."""
    random = np.random.default_rng(4)
    texts = pa.array(["a" * LENGTH, "b" * 10])
    numbers = random.integers(0, 16, ROWS) // 15
    column = pa.DictionaryArray.from_arrays(pa.array(numbers, mask=random.random(ROWS) < 0.01), texts)
    rules = Rules({"text": pa.string()}, coded)
    # No column may have a dictionary.
    dictionaries = UnifiedDictionaries(0)
    rows = size = nulls = longest = 0
    for typed in typed_batches(pa.RecordBatch.from_arrays([column], ["text"]), rules):
        for batch in encode_batches(typed, rules, dictionaries):
            values = batch.column(0)
            assert values.type == pa.string()
            assert values[0].equals(column[rows].cast(pa.string()))
            rows += len(values)
            nulls += values.null_count
            size += values.nbytes
            longest = max(longest, values.nbytes)
    assert (rows, nulls) == (ROWS, column.null_count)
    assert size > 2**31
    assert longest < DECODED_BYTES + 2 * 2**20


def test_dictionary_of_more_than_two_gibibytes_in_a_struct_is_refused() -> None:
    texts = pa.array(["a" * LENGTH])
    inner = pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int8)), texts)
    column = pa.StructArray.from_arrays([inner], names=["x"])
    rules = Rules({"text": pa.struct([("x", pa.string())])}, ())
    with pytest.raises(ConversionError, match=r"column 'text' has 2,420,000,000 bytes .* with smaller row groups"):
        list(typed_batches(pa.RecordBatch.from_arrays([column], ["text"]), rules))


def test_codes_that_stand_for_long_texts_get_64_bit_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    dictionaries = UnifiedDictionaries()
    values = pa.array(["a" * 50, None, "b"])
    codes = dictionaries.encode("text", values.dictionary_encode())
    monkeypatch.setattr(kernel_dictionaries, "MOST_TEXT_BYTES", 100)
    blocks = [pa.RecordBatch.from_arrays([column], ["text"]) for column in (codes, values)]
    joined = combined(blocks, dictionaries).column("text")
    assert joined.type == pa.large_string()
    assert joined.to_pylist() == [*values.to_pylist(), *values.to_pylist()]
