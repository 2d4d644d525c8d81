"""Ask queries in interleaved rounds, in the process of a reader.

Imports the standard library only: Spark 4 runs it in an environment that has nothing else.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

# Rounds of this number only warm up the reader.
WARM_UP = 0
ICEBERG = "iceberg"
_TICKS = os.sysconf("SC_CLK_TCK")

Row = Sequence[Any]
Figures = dict[str, float]


@dataclass(frozen=True)
class Variant:
    """A layout as one reader sees it: name in the report, schema of its tables, settings of Spark."""

    name: str
    schema: str
    settings: dict[str, str] = field(default_factory=dict)
    spark_only: bool = False

    @property
    def is_iceberg(self) -> bool:
        """Whether the tables are in a catalog of their own."""
        return self.layout == ICEBERG

    @property
    def layout(self) -> str:
        """Name of the layout, which is also read without these settings."""
        return self.schema.rpartition("layout_")[2]


@dataclass(frozen=True)
class Work:
    """What every reader does: `queries` with the schema as `{schema}` and the partner's list as `{partner}`.

    Attributes:
        out: directory of all layouts.
        rounds: rounds after the warm-up.
        seconds: no round begins that would probably end later.
        files: files and buckets of each table.
        partner: directory of the partner's list.
        partner_table: that list in the form of Glue's `TableInput`.
        tables: layout → its tables in the form of Glue's `TableInput`.
        spark_settings: more settings of Spark's session.
        variants: the layouts to read.
        queries: name → SQL.
    """

    out: str
    rounds: int
    seconds: float
    files: int
    partner: str
    partner_table: dict[str, Any]
    tables: dict[str, list[dict[str, Any]]]
    spark_settings: dict[str, str]
    variants: list[Variant]
    queries: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Work:
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "variants": [Variant(**variant) for variant in values["variants"]]})


Ask = Callable[[Variant, str], tuple[Sequence[Row], Figures]]


class Results:
    """A file with one JSON object per line: the reader's name, then one answer after the other."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @classmethod
    @contextmanager
    def at(cls, path: Path) -> Iterator[Results]:
        with path.open("w", encoding="utf-8") as stream:
            yield cls(stream)

    def write(self, **values: Any) -> None:
        self._stream.write(json.dumps(values) + "\n")
        self._stream.flush()


def run_rounds(
    work: Work, ask: Ask, results: Results, now: Callable[[], float] = time.monotonic, started: float | None = None
) -> None:
    """Ask every query of every variant in turns; write result and figures.

    A query that fails is written with its error and not asked again. `started` is when the time of `work` began.
    """
    deadline = (now() if started is None else started) + work.seconds
    broken: set[tuple[str, str]] = set()
    for number in range(work.rounds + 1):
        begun = now()
        for query, text in work.queries.items():
            for variant in _variants(work, number):
                if (query, variant.name) not in broken:
                    answer = _answer(ask, variant, text)
                    if "error" in answer:
                        broken.add((query, variant.name))
                    results.write(round=number, query=query, layout=variant.name, **answer)
        ended = now()
        results.write(ended=number)
        if number != WARM_UP and ended + (ended - begun) > deadline:
            return


def _variants(work: Work, number: int) -> Sequence[Variant]:
    # The plans of the first and the last differ most; the others have little left to compile.
    return work.variants if number != WARM_UP else [work.variants[0], *work.variants[1:][-1:]]


def _answer(ask: Ask, variant: Variant, text: str) -> Mapping[str, Any]:
    try:
        rows, figures = ask(variant, text)
    except Exception as error:  # noqa: BLE001 one query that fails must not end the measurement of others
        return {"error": f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"}
    return {"digest": digest(rows), "rows": len(rows), "figures": figures}


def digest(rows: Sequence[Row]) -> str:
    """Return a hash of the rows in any order: readers differ in types and in the last digits of sums."""
    texts = sorted(json.dumps([_text(value) for value in row]) for row in rows)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _text(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return bytes(value).hex() if isinstance(value, bytes | bytearray) else str(value)


def process_cpu(pid: int) -> float:
    """Return the CPU seconds of a process, of all its threads."""
    # The name of the program, in parentheses, may contain spaces.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
