"""Read files with mutated footers; fails if data changes without an error. Arguments: directory, seed, mutations.

Run in a process of its own, because a footer that gets past the checks may abort it. The last line of stderr then
says which one.
"""

from __future__ import annotations

import pickle
import random
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.errors import UnreadableFilesError
from bucketwheel.kernel.scatter import PAGE_OPTIONS, chunk_ranges
from bucketwheel.settings import StorageSettings
from bucketwheel.stages.footers import Footer, examine_footers
from bucketwheel.storage import Storage
from compact_thrift import (
    BINARY,
    BYTE,
    FALSE,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Field,
    Items,
    Struct,
    parse,
    serialize,
    split_footer,
    with_footer,
)

ROWS = 60
BATCH = 50
WRITERS: tuple[dict[str, Any], ...] = (
    {"row_group_size": 30},
    {"compression": "none", "use_dictionary": False},
    {"data_page_version": "2.0", "write_page_index": True, "store_schema": False, "compression": "zstd"},
)


def people() -> pa.Table:
    """Return columns of many kinds; the two integers and the two texts have different values."""
    numbers = range(ROWS)
    return pa.table(
        {
            "id": [f"P{number:05d}" for number in numbers],
            "small": pa.array([None if number % 7 == 0 else number for number in numbers], pa.int32()),
            "large": pa.array([number * 1000 for number in numbers], pa.int64()),
            "other": pa.array([-number for number in numbers], pa.int64()),
            "ratio": [number / 7 for number in numbers],
            "text": [f"value {number % 5}" for number in numbers],
            "flag": [number % 2 == 0 for number in numbers],
            "time": pa.array([number * 10**6 for number in numbers], pa.timestamp("us", "UTC")),
            "day": pa.array(numbers, pa.date32()),
            "price": pa.array([Decimal(number) / 100 for number in numbers], pa.decimal128(9, 2)),
            "list": [[number, number + 1] for number in numbers],
            "struct": [{"x": number, "y": str(number)} for number in numbers],
        }
    )


def places(value: Any) -> Iterator[tuple[Struct, Field] | tuple[Items, None]]:
    """Yield every field of a struct with its struct, and every list, at any depth."""
    if isinstance(value, Struct):
        for field in value:
            yield value, field
            yield from places(field.value)
    elif isinstance(value, Items):
        yield value, None
        for item in value.values:
            yield from places(item)


def mutate_field(chance: random.Random, metadata: Struct) -> str:
    """Change one field, or one list; return what was done."""
    container, field = chance.choice(list(places(metadata)))
    if isinstance(container, Items):
        return mutate_items(chance, container)
    assert field is not None
    how = chance.randrange(10)
    if how == 0:
        container.remove(field)
        return f"field {field.number} removed"
    if how == 1:
        field.number = chance.choice([field.number + 1, 15, field.number + 16])
        return f"field renumbered to {field.number}"
    old = field.value
    if field.kind in (I16, I32, I64):
        flipped = old ^ (1 << chance.randrange(40))
        limits = [2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63)]
        field.value = chance.choice([0, -1, 1, 2, old + 1, old - 1, old * 2, flipped, *limits, chance.randrange(64)])
    elif field.kind == BINARY:
        noise = bytes(chance.randrange(256) for _ in old)
        field.value = chance.choice([b"", old[:-1], old + b"x", b"\xff" + old[1:], noise, bytes(len(old))])
    elif field.kind in (TRUE, FALSE):
        field.value = not old
    elif field.kind == BYTE:
        field.value = chance.randrange(256)
    elif field.kind == STRUCT:
        field.value = Struct()
    elif field.kind == LIST:
        field.value = Items(old.kind, [])
    return f"field {field.number} changed"


def mutate_items(chance: random.Random, items: Items) -> str:
    """Change the elements of a list; return what was done."""
    how = chance.choice(["removed", "repeated", "cleared", "shuffled", "replaced"])
    values = items.values
    if how == "cleared" or not values:
        values.clear()
    elif how == "removed":
        del values[chance.randrange(len(values))]
    elif how == "repeated":
        values.append(chance.choice(values))
    elif how == "shuffled":
        chance.shuffle(values)
    elif items.kind in (I16, I32, I64):
        values[0] = chance.choice([-1, 0, 99, 2**31 - 1])
    elif items.kind == BINARY:
        values[0] = chance.choice([b"", b"\xff\xfe"])
    return f"element of a list {how}"


def mutate_bytes(chance: random.Random, footer: bytes) -> tuple[bytes, str]:
    """Return the footer with one byte changed, inserted or removed, or cut off."""
    changed, at = bytearray(footer), chance.randrange(len(footer))
    how = chance.choice(["flipped", "replaced", "inserted", "removed", "cut"])
    if how == "flipped":
        changed[at] ^= 1 << chance.randrange(8)
    elif how == "replaced":
        changed[at] = chance.randrange(256)
    elif how == "inserted":
        changed.insert(at, chance.randrange(256))
    elif how == "removed":
        del changed[at]
    else:
        del changed[at:]
    return bytes(changed), f"byte {at} {how}"


def written(directory: Path) -> list[tuple[bytes, bytes]]:
    """Return the body and the footer of the file of each writer, and of one without lists and structs."""
    files = []
    # The parser has a short way for known schemas without groups.
    flat = people().drop_columns(["list", "struct"])
    for table, options in [*((people(), options) for options in WRITERS), (flat, {})]:
        pq.write_table(table, directory / "base", **options)
        files.append(split_footer((directory / "base").read_bytes()))
    (directory / "base").unlink()
    return files


def mutations(directory: Path, chance: random.Random, count: int) -> Iterator[dict[str, str]]:
    """Write files with mutated footers; yield the name of each file of a batch, with what was done to it."""
    files = written(directory)
    structs = [pickle.dumps(parse(footer)) for _, footer in files]
    for first in range(0, count, BATCH):
        batch = {}
        for number in range(first, min(first + BATCH, count)):
            writer = chance.randrange(len(files))
            body, footer = files[writer]
            if chance.random() < 0.6:
                metadata = pickle.loads(structs[writer])
                what = mutate_field(chance, metadata)
                footer = serialize(metadata)
            else:
                footer, what = mutate_bytes(chance, footer)
            path = directory / f"{number:06d}.parquet"
            path.write_bytes(with_footer(body, footer))
            batch[str(path)] = f"writer {writer}, {what}"
        yield batch


def differing(path: str, footer: Footer, original: pa.Table) -> list[str] | None:
    """Return the columns that have other values than the original, with its name and type; None if unreadable."""
    with pq.ParquetFile(path, pre_buffer=False, **PAGE_OPTIONS) as file:
        groups = range(file.num_row_groups)
        assert list(chunk_ranges(file.metadata, groups, original.column_names)) is not None
        try:
            table = file.read_row_groups(list(groups), use_threads=False)
        except (pa.ArrowException, OSError):
            return None
    assert table.num_rows == footer.rows, f"{path}: {table.num_rows} rows, {footer.rows} in the footer"
    fields = {str(field) for field in original.schema}
    names = [
        field.name for field in table.schema if str(field) in fields and table.column_names.count(field.name) == 1
    ]
    return [name for name in names if table[name].to_pylist() != original[name].to_pylist()]


def main(directory: Path, seed: int, count: int) -> Counter[str]:
    """Read `count` files, then plan and run those that are readable and as before."""
    results: Counter[str] = Counter()
    original, storage, good, refused = people(), Storage(StorageSettings()), [], []
    snapshot = directory / "in" / "snapshot_dt=2026-01-31"
    snapshot.mkdir(parents=True)
    for batch in mutations(snapshot, random.Random(seed), count):
        entries = [entry for entry in storage.list(str(snapshot)) if entry.location in batch]
        for entry, footer in zip(entries, examine_footers(storage, entries), strict=True):
            sys.stderr.write(f"reading {entry.name}: {batch[entry.location]}\n")
            changed = differing(entry.location, footer, original) if isinstance(footer, Footer) else None
            assert not changed, f"{entry.name}: {batch[entry.location]} changes {changed}"
            if isinstance(footer, str):
                assert footer.startswith(f"{entry.location}: "), footer
                results["refused"] += 1
                refused.append(entry.location)
            else:
                results["unreadable page" if changed is None else "read"] += 1
                if changed is not None and footer.schema.equals(original.schema):
                    good.append(entry.location)
        for path in set(batch).difference(good, refused[:BATCH]):
            Path(path).unlink()
    run(directory, good, refused[:BATCH])
    return results


def run(directory: Path, good: list[str], refused: list[str]) -> None:
    """Plan a snapshot with refused files: all are named. Without them, publish every row of the others."""
    config = api.load(
        "local",
        None,
        {
            "target": str(directory / "out"),
            "catalog.path": str(directory / "catalog.duckdb"),
            "datasets.people": {"source": str(directory / "in"), "key": "id"},
            "buckets.count": 2,
        },
        {},
    )
    with pytest.raises(UnreadableFilesError) as error:
        api.plan(config, "people")
    assert all(f"\n{path}: " in str(error.value) for path in refused), error.value
    for path in refused:
        Path(path).unlink()
    manifest = api.run(config, "people").manifest
    rows = sum(
        pq.read_metadata(path).num_rows
        for path in (directory / "out" / "people").rglob(f"{manifest.run_id}/*.parquet")
    )
    assert rows == ROWS * len(good), f"{rows} rows of {len(good)} files"


if __name__ == "__main__":
    sys.stdout.write(f"{dict(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))}\n")
