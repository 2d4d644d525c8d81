"""Memory of a bucket that is gathered, in a process of its own: Arrow knows the peak since a process began."""

from __future__ import annotations

import subprocess
import sys

ROWS, COLUMNS = 2**20, 24


def main() -> None:
    """Order the blocks of a large table; print the peak of allocated memory, in multiples of the table."""
    import numpy as np
    import pyarrow as pa

    from bucketwheel.kernel.dictionaries import UnifiedDictionaries
    from bucketwheel.kernel.gather import detached, ordered_columns

    rows = 2**11
    block = pa.record_batch({f"number {number}": np.arange(rows) for number in range(COLUMNS)})
    messages = (block.serialize() for _ in range(ROWS // rows))
    dictionaries = UnifiedDictionaries()
    blocks = list(
        detached(((pa.ipc.read_record_batch(part, block.schema), part.size) for part in messages), dictionaries)
    )
    order = pa.array(np.random.default_rng(1).permutation(ROWS))
    size = sum(column.nbytes for column in list(ordered_columns(blocks, order, dictionaries)))
    sys.stdout.write(f"{pa.default_memory_pool().max_memory() / size}\n")


def test_large_table_is_ordered_with_few_copies_of_it_in_memory() -> None:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True, timeout=100)
    assert 1 < float(done.stdout) < 1.5


if __name__ == "__main__":
    main()
