"""The miniature of production on the tasks of the spark engine, at the size of a test."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from benchmarks.measure import Run
from benchmarks.results import Figures, Target, targets
from benchmarks.spark_shapes import SparkShape
from benchmarks.spark_tasks import measure

from bucketwheel.testing.jobs import KEY

SHAPE = SparkShape(slices=6, rows=40, tasks=3, tables=2, columns=7, buckets=4, partitions=4, gathered=4)
RATIO = "CPU of a value on Spark, miniature of production ÷ standard shape"


def values(paths: list[Path], name: str) -> Counter[Any]:
    return Counter(value for path in paths for value in pq.ParquetFile(path).read(columns=[name])[name].to_pylist())


def test_gathered_partitions_have_the_rows_of_all_tasks(tmp_path: Path) -> None:
    figures = measure(SHAPE, tmp_path / "in", tmp_path / "out")
    sources = sorted((tmp_path / "in").glob("*.parquet"))
    assert len(sources) == 2
    for table, names in (("t0", ["n0", "c1", "c2", "c3"]), ("t1", ["c4", "n5", "c6"])):
        written = sorted((tmp_path / "out" / table).glob("*.parquet"))
        assert len(written) == SHAPE.buckets
        for source, name in zip([KEY, *names], [KEY.lower(), *names], strict=True):
            expected = {value: count * SHAPE.tasks for value, count in values(sources, source).items()}
            assert values(written, name) == expected
    # A task orders its two slices at a time.
    assert figures["block_rows"] == [2 * SHAPE.rows / SHAPE.buckets]
    assert min(figures["scatter_nanoseconds"] + figures["gather_nanoseconds"]) > 0


def test_fewer_partitions_are_gathered_in_groups_of_buckets(tmp_path: Path) -> None:
    shape = SparkShape(slices=4, rows=30, tasks=4, tables=1, columns=3, buckets=6, partitions=2, gathered=1)
    figures = measure(shape, tmp_path / "in", tmp_path / "out")
    written = list((tmp_path / "out" / "t0").glob("*.parquet"))
    assert len(written) == 3
    gathered = sum(pq.read_metadata(path).num_rows for path in written)
    # One block for each task.
    assert figures["block_rows"] == [gathered / shape.tasks]


@pytest.mark.parametrize(("nanoseconds", "seen", "met"), [(60.0, "1.20", True), (80.0, "1.60", False)])
def test_target_is_the_ratio_of_both_shapes(nanoseconds: float, seen: str, met: bool) -> None:
    figures = Figures([run("production", nanoseconds), run("standard", 50.0)])
    found = {target.what: target for target in targets(figures, (1,), (), "")}
    assert found[RATIO] == Target("spark-shape", RATIO, "at most 1.5", seen, met)
    assert found["Rows of a shuffle block, miniature of production"].seen == "584"


def run(name: str, nanoseconds: float) -> Run:
    report = {"nanoseconds": [nanoseconds], "block_rows": [584.4]}
    return Run("spark-shape", name, 1, 1000, 1.0, 1.0, 1, 1, 1, report, None)
