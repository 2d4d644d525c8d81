"""Define the shapes of section `spark-shape`: what the tasks of the spark engine read, shuffle and write.

This module imports only the standard library, like everything that the measuring process imports.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SparkShape:
    """A snapshot and its tables.

    Attributes:
        slices: Slices, each a file of one row group.
        rows: Rows of a slice.
        tasks: Scatter tasks, each of the same number of slices.
        tables: Tables, each of the same number of columns.
        columns: Columns of all tables, without the key.
        buckets: Buckets of a table.
        partitions: Partitions of the shuffle.
        gathered: Partitions that are gathered; one scatter task is run.
    """

    slices: int
    rows: int
    tasks: int
    tables: int
    columns: int
    buckets: int
    partitions: int
    gathered: int

    @property
    def slices_per_task(self) -> int:
        """Slices of a scatter task."""
        return self.slices // self.tasks


SPARK_SHAPES = {
    # The month of production in docs/spark.md with an eighth of the rows of a slice. A task orders the same number of
    # rows at a time, those of 16 slices instead of 2, so that blocks are as long.
    "production": SparkShape(
        slices=1024, rows=9_350, tasks=64, tables=25, columns=1250, buckets=256, partitions=256, gathered=4
    ),
    # The data of the other sections, in the tasks and partitions that two cores get.
    "standard": SparkShape(
        slices=16, rows=125_000, tasks=8, tables=8, columns=120, buckets=256, partitions=8, gathered=1
    ),
}
