"""Slow bucket hashes, row by row in Python's integers, written from the rules and not from the product."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

Value = bool | int | str | datetime.date | None

_EPOCH = datetime.date(1970, 1, 1)
_WIDTHS = {"tinyint": 1, "smallint": 2, "int": 4, "bigint": 8, "date": 4}


def to_int32(x: int) -> int:
    """The value that a Java int has after overflowing to ``x``."""
    x %= 2**32
    return x - 2**32 if x >= 2**31 else x


def signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def row_hash(values: Sequence[Value], types: Sequence[str], scheme: str) -> int:
    if scheme == "spark":
        state = 42
        for value, type_name in zip(values, types, strict=True):
            state = spark(value, type_name, state)
        return to_int32(state)
    total = 0
    for value, type_name in zip(values, types, strict=True):
        column = hive_v1(value, type_name) if scheme == "hive_v1" else hive_v2(value, type_name)
        total = to_int32(31 * total + column)
    return total


def bucket(hash_: int, count: int, scheme: str) -> int:
    if scheme == "spark":
        return hash_ % count
    return (hash_ & 0x7FFFFFFF) % count


def hive_v1(value: Value, type_name: str) -> int:
    if value is None:
        return 0
    if isinstance(value, str):
        result = 1 if type_name.startswith("varchar") else 0
        for byte in value.encode():
            result = to_int32(31 * result + signed(byte))
        return result
    number = as_number(value)
    if type_name == "bigint":
        unsigned = number % 2**64
        return to_int32((unsigned >> 32) ^ unsigned)
    return number


def hive_v2(value: Value, type_name: str) -> int:
    if value is None:
        return 0
    if isinstance(value, str):
        return hive_murmur3(value.encode())
    number = as_number(value)
    if type_name in ("boolean", "tinyint"):
        return number
    return hive_murmur3(number.to_bytes(_WIDTHS[type_name], "big", signed=True))


def hive_murmur3(data: bytes) -> int:
    state = 104729
    full = len(data) - len(data) % 4
    for i in range(0, full, 4):
        state = mix_state(state, mix_word(int.from_bytes(data[i : i + 4], "little")))
    word = 0
    for i, byte in enumerate(data[full:]):
        word ^= (signed(byte) << (8 * i)) % 2**32
    return to_int32(finish(state ^ mix_word(word), len(data)))


def spark(value: Value, type_name: str, seed: int) -> int:
    if value is None:
        return seed
    if isinstance(value, str):
        data = value.encode()
        full = len(data) - len(data) % 4
        words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, full, 4)]
        words += [signed(byte) % 2**32 for byte in data[full:]]
        length = len(data)
    elif type_name == "bigint":
        unsigned = as_number(value) % 2**64
        words, length = [unsigned % 2**32, unsigned >> 32], 8
    else:
        words, length = [as_number(value) % 2**32], 4
    for word in words:
        seed = mix_state(seed, mix_word(word))
    return finish(seed, length)


def as_number(value: bool | int | datetime.date) -> int:
    return (value - _EPOCH).days if isinstance(value, datetime.date) else int(value)


def rotate(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (32 - bits))) % 2**32


def mix_word(word: int) -> int:
    return rotate(word * 0xCC9E2D51 % 2**32, 15) * 0x1B873593 % 2**32


def mix_state(state: int, word: int) -> int:
    return (rotate(state ^ word, 13) * 5 + 0xE6546B64) % 2**32


def finish(state: int, length: int) -> int:
    state ^= length
    state = (state ^ (state >> 16)) * 0x85EBCA6B % 2**32
    state = (state ^ (state >> 13)) * 0xC2B2AE35 % 2**32
    return state ^ (state >> 16)
