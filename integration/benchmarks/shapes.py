"""Define the data sets of the sections `shape` and `foreign`.

This module imports only the standard library, like everything that the measuring process imports.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .data import Data, created, existing, run_writer
from .measure import module

# Fewest rows of a file where a run may cost little more than a copy.
FILE_ROWS = 50_000


@dataclass(frozen=True)
class Shape:
    """A data set: its size for a number of rows, and how it differs from the sample.

    Attributes:
        title: What the report calls it.
        tables: Tables in the mapping.
        columns: Columns of each table, without the key.
        share: Rows are this share of `--rows`.
        file_rows: Rows of a source file; None: 8 files.
        group_rows: Rows of a source row group; None: a whole file.
        values: `sample`: the values of `bucketwheel sample`; `strings`: random text of 200 bytes; `urls`: different
            texts of 120 bytes whose dictionary the writer gave up; `plain-urls`: without one; `skew`: 30 % of the
            rows have the same key.
        row_bytes: Bytes of a row on disk, at most.
    """

    title: str
    tables: int = 8
    columns: int = 15
    share: float = 1
    file_rows: int | None = None
    group_rows: int | None = 125_000
    values: Literal["sample", "strings", "urls", "plain-urls", "skew"] = "sample"
    row_bytes: int = 450

    def rows(self, rows: int) -> int:
        """Return the rows of the data set for this many `--rows`."""
        return max(int(rows * self.share), 1)

    def files(self, rows: int) -> int:
        """Return the source files of this many rows."""
        return 8 if self.file_rows is None else max(rows // self.file_rows, 1)

    def buckets(self, rows: int) -> int:
        """Return the bucket count for files of `FILE_ROWS` rows or more."""
        return max(min(rows // FILE_ROWS, 256), 1)


SHAPES = {
    "wide": Shape("25 tables of 60 columns", tables=25, columns=60, share=0.1, row_bytes=6_000),
    "files": Shape("files of 400 rows", file_rows=400),
    "groups": Shape("row groups of 1,000 rows", file_rows=250_000, group_rows=1_000),
    "group": Shape("1 row group", file_rows=10**12, group_rows=None),
    "tables": Shape("100 tables of 5 columns", tables=100, columns=5, share=0.25, row_bytes=2_000),
    "strings": Shape("strings of 200 bytes", tables=4, columns=5, share=0.1, values="strings", row_bytes=4_500),
    "urls": Shape("6 million URLs, dictionary given up", tables=1, columns=1, share=3, values="urls", row_bytes=250),
    "plain-urls": Shape(
        "6 million URLs, no dictionary", tables=1, columns=1, share=3, values="plain-urls", row_bytes=250
    ),
    "skew": Shape("30 % of rows with one key", values="skew"),
}
FOREIGN = {
    "pyarrow": "pyarrow's default writer",
    "duckdb": "DuckDB",
    "tpch": "TPC-H, joined, written by Polars",
}
_FOREIGN_ROW_BYTES = 900


def shape_data(name: str, rows: int, build: Path) -> Data:
    """Return the data of a shape; create it if it does not exist yet."""
    shape = SHAPES[name]
    return _create("shape_data", name, shape.rows(rows), shape.row_bytes, build)


def foreign_data(name: str, rows: int, build: Path) -> Data:
    """Return data that `sample` did not make; create it if it does not exist yet."""
    return _create("foreign_data", name, rows, _FOREIGN_ROW_BYTES, build)


def _create(program: str, name: str, rows: int, row_bytes: int, build: Path) -> Data:
    def write(place: Path) -> None:
        run_writer([*module(program), name, str(rows), str(place)])

    return existing(created(f"{name}-{rows}", rows, row_bytes, build, write))
