"""Spark without Bucketwheel, tuned for this machine: the previous pipeline, and Spark's own Hive buckets.

python -m integration.benchmarks.spark_peers replaced|hive DATA OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 the name that everybody gives it

from .work import BUCKETS, KEY, Work, load

_FILES_PER_GB = 2
# A few buckets each, so that no core idles for long.
_PARTITIONS = 8
# Makes Spark's own writer place rows by Hive's hash and name files as Hive does.
_HIVE_BUCKETS = "__hive_compatible_bucketed_table_insertion__"


def session(warehouse: Path) -> SparkSession:
    """Return a session that writes as fast as Spark does here."""
    return (
        SparkSession.builder.master("local[*]")
        .config("spark.driver.memory", "6g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.extraJavaOptions", "-XX:+UseParallelGC")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", str(_PARTITIONS))
        .config("spark.sql.warehouse.dir", str(warehouse))
        .config("spark.sql.parquet.compression.codec", "snappy")
        .config("spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version", "2")
        .getOrCreate()
    )


def replaced(spark: SparkSession, work: Work, out: Path) -> None:
    """Run the previous pipeline: write each table to measure its size, repartition it by that, then bucket it.

    Small tables get one file per core, so that no step runs as a single task.
    """
    source = spark.read.parquet(*work.files)
    cores = spark.sparkContext.defaultParallelism
    for name, columns in work.tables.items():
        measured, staged = out / "measured" / name, out / "staged" / name
        source.select(KEY, *columns).write.parquet(str(measured))
        size = sum(path.stat().st_size for path in measured.glob("*.parquet"))
        files = max(cores, round(size / 2**30 * _FILES_PER_GB))
        spark.read.parquet(str(measured)).repartition(KEY).coalesce(files).write.parquet(str(staged))
    for name in work.tables:
        _bucketed(spark, spark.read.parquet(str(out / "staged" / name)), name, out)


def hive(spark: SparkSession, work: Work, out: Path) -> None:
    """Write each table with one shuffle into sorted Hive buckets."""
    source = spark.read.parquet(*work.files)
    for name, columns in work.tables.items():
        _bucketed(spark, source.select(KEY, *columns), name, out)


def _bucketed(spark: SparkSession, rows: DataFrame, name: str, out: Path) -> None:
    placed = rows.repartition(_PARTITIONS, _hive_bucket(spark, F.col(KEY)))
    writer = placed.write.option(_HIVE_BUCKETS, "true").option("path", str(out / "final" / name))
    writer.bucketBy(BUCKETS, KEY).sortBy(KEY).format("parquet").saveAsTable(f"t_{name}")


def _hive_bucket(spark: SparkSession, key: Column) -> Column:
    """Return the bucket of a row, so that the shuffle brings all rows of a bucket to one task."""
    jvm = spark.sparkContext._jvm
    hashed = jvm.org.apache.spark.sql.catalyst.expressions.HiveHash(jvm.PythonUtils.toSeq([key._jc.expr()]))
    return F.pmod(Column(jvm.org.apache.spark.sql.Column(hashed)).bitwiseAND(2**31 - 1), F.lit(BUCKETS))


def main() -> None:
    method, data, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    spark = session(out / "warehouse")
    {"replaced": replaced, "hive": hive}[method](spark, load(data), out)
    spark.stop()


if __name__ == "__main__":
    main()
