"""Measure hashed keys per second on one core; prints one JSON object with five rates of each kind."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import numpy as np
import pyarrow as pa

from bucketwheel.kernel.hashing import hash_keys

STRINGS, STRING_BYTES = 2_000_000, 19
BIGINTS = 10_000_000
_TIMES = 5


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rng = np.random.default_rng(7)
    characters = rng.integers(48, 91, STRINGS * STRING_BYTES, dtype=np.uint8)
    offsets = np.arange(0, STRINGS * STRING_BYTES + 1, STRING_BYTES, dtype=np.int32)
    strings = pa.StringArray.from_buffers(STRINGS, pa.py_buffer(offsets), pa.py_buffer(characters))
    bigints = pa.array(rng.integers(-(2**62), 2**62, BIGINTS))
    print(json.dumps({"string": _rates(strings), "bigint": _rates(bigints)}))


def _rates(keys: Any) -> list[float]:
    hash_keys([keys.slice(0, 1000)], "hive_v1")
    rates = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        hash_keys([keys], "hive_v1")
        rates.append(len(keys) / (time.perf_counter() - start))
    return rates


if __name__ == "__main__":
    main()
