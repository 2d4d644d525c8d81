"""Move rows."""

from __future__ import annotations

from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

DataT = TypeVar("DataT", pa.RecordBatch, pa.Table)


def take_rows(data: DataT, positions: pa.Array) -> DataT:
    """Return the rows at these positions, which must exist.

    Arrow would check the positions again for each column, half of the time of a column of numbers or codes.
    """
    return pc.take(data, positions, boundscheck=False)
