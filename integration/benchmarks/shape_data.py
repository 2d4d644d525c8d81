"""Write the data of a shape: shape_data NAME ROWS DIRECTORY, in the layout of `bucketwheel sample`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bucketwheel.sample import SampleSpec, write_sample

from .shapes import SHAPES, Shape
from .work import KEY

TEXT_BYTES = 200
URL_BYTES = 120
_URL = b"https://www.example.com/catalogue/item?page="
SKEWED_SHARE = 0.3
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def write_shape(shape: Shape, rows: int, directory: Path) -> None:
    """Write a snapshot of this many rows and its mapping."""
    sample = write_sample(
        directory,
        SampleSpec(
            rows=rows,
            tables=shape.tables,
            columns=shape.columns,
            files=shape.files(rows),
            row_group_rows=shape.group_rows or rows,
        ),
    )
    shutil.rmtree(sample.addressable_source.parent)
    if shape.values == "sample":
        return
    for number, path in enumerate(sorted(sample.snapshot.glob("*.parquet"))):
        with pq.ParquetFile(path) as file:
            content = file.read()
            chunks = [file.metadata.row_group(0).column(place) for place in range(file.metadata.num_columns)]
        random = np.random.default_rng(number)
        coded: list[str] = []
        if shape.values == "skew":
            content = _with_frequent_key(content, random)
            coded = [chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page]
        elif shape.values == "strings":
            content = _with_text(content, random, TEXT_BYTES)
        else:
            content = _with_text(content, random, URL_BYTES, _URL)
            if shape.values == "urls":
                # A writer that does not know the text begins with a dictionary and gives it up at a megabyte.
                coded = [name for name in content.column_names if name != KEY]
        pq.write_table(
            content, path, row_group_size=shape.group_rows, use_dictionary=coded or False, store_schema=False
        )


def _with_text(content: Any, random: np.random.Generator, length: int, start: bytes = b"") -> Any:
    """Return the table with other text of this many bytes in each row of all columns but the key."""
    count = content.num_rows
    offsets = pa.py_buffer(np.arange(count + 1, dtype=np.int32) * np.int32(length))
    columns = {KEY: content[KEY]}
    for name in content.column_names:
        if name != KEY:
            octets = random.integers(0, 256, (count, (length - len(start)) // 2), dtype=np.uint8)
            text = np.empty((count, length), np.uint8)
            text[:, : len(start)] = np.frombuffer(start, np.uint8)
            text[:, len(start) :: 2], text[:, len(start) + 1 :: 2] = _HEX[octets >> 4], _HEX[octets & 15]
            columns[name] = pa.StringArray.from_buffers(count, offsets, pa.py_buffer(text))
    return pa.table(columns)


def _with_frequent_key(content: Any, random: np.random.Generator) -> Any:
    """Return the table with the same key in 30 % of the rows."""
    keys = content[KEY].combine_chunks()
    frequent = pa.array(random.random(len(keys)) < SKEWED_SHARE)
    changed = pc.if_else(frequent, pa.scalar("CU00000000000000000", keys.type), keys)
    return content.set_column(content.column_names.index(KEY), KEY, changed)


def main() -> None:
    name, rows, directory = sys.argv[1:4]
    write_shape(SHAPES[name], int(rows), Path(directory))


if __name__ == "__main__":
    main()
