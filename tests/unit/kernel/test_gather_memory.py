"""Memory of a bucket that is gathered, in a process of its own: Arrow knows the peak since a process began."""

from __future__ import annotations

import subprocess
import sys

import pytest


def main(total: int, columns: int) -> None:
    """Order the blocks of a table of numbers; print the peak of allocated memory, in multiples of the table."""
    import numpy as np
    import pyarrow as pa

    from bucketwheel.kernel.dictionaries import UnifiedDictionaries
    from bucketwheel.kernel.gather import detached, ordered_columns

    rows = 2**11
    block = pa.record_batch({f"number {number}": np.arange(rows) for number in range(columns)})
    messages = (block.serialize() for _ in range(total // rows))
    dictionaries = UnifiedDictionaries()
    blocks = list(
        detached(((pa.ipc.read_record_batch(part, block.schema), part.size) for part in messages), dictionaries)
    )
    order = pa.array(np.random.default_rng(1).permutation(total))
    size = sum(column.nbytes for column in list(ordered_columns(blocks, order, dictionaries)))
    sys.stdout.write(f"{pa.default_memory_pool().max_memory() / size}\n")


@pytest.mark.parametrize(("rows", "columns", "most"), [(2**20, 24, 1.5), (2**22, 2, 1.8)])
def test_large_table_is_ordered_with_few_copies_of_it_in_memory(rows: int, columns: int, most: float) -> None:
    command = [sys.executable, __file__, str(rows), str(columns)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert 1 < float(done.stdout) < most


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
