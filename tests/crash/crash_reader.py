"""Read every table of a catalog in a loop until stdin closes; stop at the first error."""

from __future__ import annotations

import json
import os
import select
import sys

import duckdb

from runs_support import read_tables


def check(path: str, names: set[str], rows: int) -> dict[str, str]:
    """Return the snapshot that each table shows."""
    with duckdb.connect(path, read_only=True) as connection:
        tables = read_tables(connection)
    assert set(tables) == names, f"tables: {sorted(tables)}"
    for name, (marks, count) in tables.items():
        assert len(marks) == 1, f"{name} mixes {marks}"
        assert count == rows, f"{name} has {count} rows"
    return {name: next(iter(marks)) for name, (marks, _) in tables.items()}


def main() -> None:
    path, rows, names = sys.argv[1], int(sys.argv[2]), set(sys.argv[3].split(","))
    os.nice(10)
    rounds, seen = 0, set[str]()
    while not select.select([sys.stdin], [], [], 0)[0]:
        seen.update(check(path, names, rows).values())
        rounds += 1
        if rounds == 1:
            print("reading", flush=True)  # noqa: T201
    print(json.dumps({"rounds": rounds, "seen": sorted(seen)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
