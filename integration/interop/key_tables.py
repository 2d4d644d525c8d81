"""Keys of every bucketable type, including values that wrong hashes place wrongly, and Trino's buckets for them."""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from .lake import Lake
from .trino_server import CATALOG, UNLIMITED

KEY, SECOND = "customer_user_id", "region_code"
COUNTS = (1, 10, 32, 100, 256, 1000)
VERSIONS = {"hive_v1": 1, "hive_v2": 2}
# A multiple of every count: what a hash leaves modulo a count can be told from what it leaves modulo this.
MANY = 32_000
# Read as any files: nothing of how a table is laid out may reach what it is compared with.
FREE = {
    f"{catalog}__{name}": False
    for catalog in (CATALOG, UNLIMITED)
    for name in ("bucket_execution_enabled", "validate_bucketing")
}
_SEED = 20251022


def values(kind: str) -> list[Any]:
    """Return distinct keys of a type, NULL among them."""
    chance = random.Random(_SEED)
    if kind == "string":
        return [None, *_texts(chance)]
    if kind == "boolean":
        return [None, False, True]
    if kind == "date":
        days = {-719_162, -1, 0, 1, 20_383, 2_932_896, *(chance.randrange(-30_000, 40_000) for _ in range(50))}
        return [None, *sorted(date(1970, 1, 1) + timedelta(day) for day in days)]
    bits = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}[kind]
    limit = 1 << (bits - 1)
    # Small ones, whose high bytes are all alike, and such with anything in every byte.
    numbers = {0, 1, -1, 42, -42, limit - 1, -limit, 127, -128}
    numbers |= {chance.randrange(-limit, limit) for _ in range(40)} | {chance.randrange(-128, 128) for _ in range(10)}
    return [None, *sorted(numbers)]


def _texts(chance: random.Random) -> list[str]:
    # Every length modulo 4, with and without bytes above 127 in the last word.
    short = [text * times for text in ("a", "é", "天", "😁", "aé", "ÿ", "¡z") for times in (1, 2, 3, 5)]
    named = ["", "U1", "customer_1", "U0000001", "-1", "José", "Nguyễn Văn", "Ω≈ç√∫", "naïve café", "x" * 300]
    mixed = ["".join(chance.choices("abz09-éßøж", k=chance.randrange(1, 25))) for _ in range(25)]
    return sorted({*short, *named, *mixed})


def rows(kind: str) -> pa.Table:
    """Return a snapshot with each key one to three times and a unique number in each row."""
    types = {"string": pa.string(), "boolean": pa.bool_(), "date": pa.date32(), "tinyint": pa.int8()}
    types |= {"smallint": pa.int16(), "int": pa.int32(), "bigint": pa.int64()}
    if kind == "two columns":
        texts, numbers = values("string"), values("int")
        pairs = [(text, numbers[i % len(numbers)]) for i, text in enumerate(texts)] + [(None, 7), ("a", None)]
        repeated = [pair for i, pair in enumerate(pairs) for _ in range(1 + i % 3)]
        keys = {
            KEY: pa.array([pair[0] for pair in repeated], pa.string()),
            SECOND: pa.array([pair[1] for pair in repeated], pa.int32()),
        }
    else:
        keys = {KEY: pa.array([value for i, value in enumerate(values(kind)) for _ in range(1 + i % 3)], types[kind])}
    # In another order than that of the keys.
    order = list(range(len(next(iter(keys.values())))))
    random.Random(_SEED).shuffle(order)
    return pa.table({**keys, "number": pa.array(range(len(order)), pa.int64())}).take(order)


def literal(value: Any) -> str:
    """Return a key as a literal of Trino's SQL."""
    if isinstance(value, date):
        return f"DATE '{value}'"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value).lower()


def key_columns(kind: str) -> list[str]:
    return [KEY, SECOND] if kind == "two columns" else [KEY]


def trinos_buckets(
    lake: Lake, table: str, keys: list[str], version: int, name: str, count: int = MANY
) -> dict[tuple[Any, ...], int]:
    """Return the bucket of each key, out of `count`, when Trino writes the keys itself."""
    columns, listed = ", ".join(keys), ", ".join(f"'{key}'" for key in keys)
    layout = f"bucketed_by = ARRAY[{listed}], bucket_count = {count}, bucketing_version = {version}"
    # On disk, where a file costs less than an object does.
    schema = f"{UNLIMITED}.numbers"
    lake.trino.rows(f"CREATE SCHEMA IF NOT EXISTS {schema} WITH (location = 'local:///numbers/')")
    copy = f"{schema}.{name}"
    lake.trino.rows(f"CREATE TABLE {copy} WITH ({layout}) AS SELECT DISTINCT {columns} FROM {table}", **FREE)
    rows = lake.trino.rows(f'SELECT {columns}, "$bucket" FROM {copy}', **FREE)
    return {tuple(row[:-1]): row[-1] for row in rows}
