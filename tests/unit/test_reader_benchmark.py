"""The benchmark of readers: rounds within a time, figures of whole rounds only, ratios, facts of plans."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from benchmarks.reader_plans import spark_plan, trino_plan
from benchmarks.reader_results import collected
from benchmarks.reader_rounds import Results, Variant, Work, digest, run_rounds
from benchmarks.reader_table import reader_tables

VARIANTS = [Variant(name, f"layout_{name}") for name in ("unbucketed", "sorted", "spark")]
ROWS = [("a", 1)]
RIGHT = {"look-up": digest(ROWS), "join": digest(ROWS)}


class Reader:
    """A reader that takes `seconds` for each query of each layout."""

    def __init__(self, seconds: float, wrong: str = "", broken: str = "") -> None:
        self.time = 0.0
        self._seconds, self._wrong, self._broken = seconds, wrong, broken
        self.asked: list[str] = []

    def ask(self, variant: Variant, text: str) -> tuple[Sequence[Sequence[Any]], dict[str, float]]:
        self.time += self._seconds
        self.asked.append(f"{text} {variant.name}")
        if variant.name == self._broken:
            raise ValueError("out of memory\nat line 1")
        rows = [("a", 2)] if variant.name == self._wrong else ROWS
        return rows, {"cpu": 2.0 if variant.name == "unbucketed" else 0.5, "wall": self._seconds}


def answers(reader: Reader, rounds: int = 3, seconds: float = 1e6) -> Iterator[dict[str, Any]]:
    work = Work("", rounds, seconds, 4, "", {}, {}, {}, VARIANTS, {"look-up": "q", "join": "j"})
    stream = io.StringIO()
    results = Results(stream)
    results.write(engine="Reader 1.2")
    run_rounds(work, reader.ask, results, now=lambda: reader.time)
    yield from map(json.loads, stream.getvalue().splitlines())


def test_rounds_interleave_layouts_after_a_warm_up() -> None:
    reader = Reader(1)
    list(answers(reader, rounds=1))
    warm_up = ["q unbucketed", "q spark", "j unbucketed", "j spark"]
    assert reader.asked == [*warm_up, *(f"{q} {v.name}" for q in "qj" for v in VARIANTS)]


@pytest.mark.parametrize(("seconds", "rounds"), [(1e6, 5), (27, 3), (21, 2), (1, 1)])
def test_rounds_end_when_another_would_exceed_the_time(seconds: float, rounds: int) -> None:
    # The warm-up takes 4 seconds, every other round 6.
    found = collected("Reader", answers(Reader(1), 5, seconds), RIGHT)
    assert {len(of) for layouts in found.figures.values() for of in layouts.values()} == {rounds}


def test_figures_of_an_incomplete_round_are_left_out() -> None:
    lines = list(answers(Reader(1), rounds=2))
    found = collected("Reader", lines[:-2], RIGHT)
    assert (found.name, found.failed) == ("Reader 1.2", [])
    assert {len(of) for layouts in found.figures.values() for of in layouts.values()} == {1}


def test_reader_without_a_complete_round_fails() -> None:
    assert collected("Reader", [], RIGHT).failed == ["Reader: no round was completed"]


def test_layout_with_wrong_rows_fails_and_others_are_measured() -> None:
    found = collected("Reader", answers(Reader(1, wrong="spark")), RIGHT)
    assert found.failed == [
        f"Reader 1.2: {query}, layout spark: other rows than DuckDB on the source" for query in ("look-up", "join")
    ]
    assert {tuple(layouts) for layouts in found.figures.values()} == {("unbucketed", "sorted")}


def test_query_that_fails_is_named_once_and_not_asked_again() -> None:
    reader = Reader(1, broken="sorted")
    found = collected("Reader", answers(reader), RIGHT)
    assert found.failed[0] == "Reader 1.2: look-up, layout sorted: ValueError: out of memory"
    assert len(found.failed) == reader.asked.count("q sorted") + reader.asked.count("j sorted") == 2
    assert {tuple(layouts) for layouts in found.figures.values()} == {("unbucketed", "spark")}


def test_tables_have_median_ratios_to_the_unbucketed_layout() -> None:
    figures = collected("Reader", answers(Reader(1)), RIGHT).figures
    # A layout that failed in all rounds, and a base too small to compare with.
    del figures["join"]["sorted"]
    for taken in figures["look-up"]["unbucketed"]:
        taken["cpu"] = 0.001
    sizes = {"spark": {"files": 4, "bytes": 4_000_000}}
    (ratios, _, layouts) = reader_tables({"readers": {"Reader 1.2": figures}, "tables": sizes})
    assert ratios == (
        ("Reader 1.2: CPU ÷ unbucketed, medians of 3", "sorted", "spark"),
        [("look-up", "", ""), ("join", "", "0.25")],
    )
    assert layouts[1] == [("spark", "4", "4.00 MB", "1.00 MB")]


def test_digest_ignores_order_and_types_of_readers() -> None:
    ours = [("b", 100, 0.1 + 0.2, None), ("a", 2, 1.0, b"\x01")]
    theirs = [["a", Decimal("2.0"), 1.0000000001, bytearray(b"\x01")], ["b", Decimal("1E+2"), 0.3, None]]
    assert digest(ours) == digest(theirs)
    assert digest(ours) != digest(ours[:1]) != digest([("b", 101, 0.3, None)])


def test_facts_of_a_trino_plan_count_exchanges_by_key() -> None:
    plan = (
        "Fragment 0 [SINGLE]\n Output partitioning: SINGLE []\n"
        "Fragment 1 [hive:HivePartitioningHandle{buckets=4, x}]\n"
        " Output partitioning: HASH [k]\nFragment 2 [SOURCE]\n Output partitioning: HASH [k]\n"
    )
    assert trino_plan(plan) == {"exchanges": 2, "bucketed": 1}


def test_facts_of_a_spark_plan_count_exchanges_sorts_and_buckets() -> None:
    plan = (
        "SortMergeJoin [k], [k]\n:- Sort [k ASC]\n"
        ":  +- Exchange hashpartitioning(k, 4)\n:     +- FileScan parquet [k]\n"
        "+- *(2) Sort [k ASC]\n   +- FileScan parquet [k], Bucketed: true, SelectedBucketsCount: 4 out of 4\n"
    )
    assert spark_plan(plan) == {"exchanges": 1, "sorts": 2, "bucketed": 1}
