"""Snapshots written by other programs give the same tables as the sample itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.sample import Sample
from bucketwheel.settings import Settings
from project import WIDE, Project
from s3_support import Bucket

# Partition values that a path cannot hold as they are.
REGIONS = ("a b", "x/y", "50%", "é=1", "c:d#?")
SEEN = "2024-02-29 23:59:59.123456"


# pandas has integers with missing values only if asked for.
TYPES = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
}


def snapshot(sample: Sample) -> Path:
    (directory,) = sample.source.glob("snapshot_dt=*")
    return directory


def rows(sample: Sample) -> pa.Table:
    return pa.concat_tables(
        pq.read_table(path, partitioning=None) for path in sorted(snapshot(sample).glob("*.parquet"))
    )


def by_duckdb(table: pa.Table, place: Path) -> None:
    place.mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.register("people", table)
        connection.execute(f"COPY people TO '{place}/data_0.parquet' (FORMAT parquet, ROW_GROUP_SIZE 2048)")


def by_polars(table: pa.Table, place: Path) -> None:
    place.mkdir(parents=True)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    frame.write_parquet(place / "00000000.parquet", compression="zstd", row_group_size=500)


def by_pandas(table: pa.Table, place: Path) -> None:
    place.mkdir(parents=True)
    # With an index that is a column of its own in the file, as a filtered frame has.
    frame = table.to_pandas(types_mapper=TYPES.get)
    frame[frame.index % 2 == 0].to_parquet(place / "even.parquet")
    frame[frame.index % 2 == 1].to_parquet(place / "odd.parquet", row_group_size=300)


@pytest.mark.parametrize("write", [by_duckdb, by_polars, by_pandas])
def test_input_of_other_writers_gives_same_tables(
    project: Project, current: Project, clean: Sample, tmp_path: Path, write: Callable[[pa.Table, Path], None]
) -> None:
    write(rows(clean), tmp_path / "in" / snapshot(clean).name)
    project.set(datasets={WIDE: {**project.settings["datasets"][WIDE], "source": str(tmp_path / "in"),
                                 "complete_marker": None}})  # fmt: skip
    project.run()
    assert project.content() == current.content()


@pytest.fixture(scope="module")
def by_spark(tmp_path_factory: pytest.TempPathFactory, clean: Sample) -> Path:
    """The sample written by Spark, with an INT96 time column and one directory per region."""
    from pyspark.sql import functions as F  # noqa: N812 the name that everybody gives it

    from bucketwheel.engines.spark.session import spark_session

    place = tmp_path_factory.mktemp("by-spark")
    session = spark_session(Settings())
    session.conf.set("spark.sql.parquet.outputTimestampType", "INT96")
    session.conf.set("spark.sql.session.timeZone", "UTC")
    regions = F.array(*map(F.lit, REGIONS))
    people = session.read.parquet(str(snapshot(clean))).withColumn("Seen_At", F.lit(SEEN).cast("timestamp"))
    placed = people.withColumn("Region", regions[F.abs(F.hash("Customer_User_id")) % len(REGIONS)])
    written = place / snapshot(clean).name
    placed.repartition(2).write.partitionBy("Region").parquet(str(written))
    assert (written / "_SUCCESS").exists()
    assert len([path for path in written.iterdir() if path.is_dir()]) == len(REGIONS)
    return place


@pytest.fixture
def to_read(java: None, request: pytest.FixtureRequest, project: Project, clean: Sample, tmp_path: Path) -> Project:
    """A project whose input was written by Spark."""
    # Not before it is known that there is a Java.
    source: Path = request.getfixturevalue("by_spark")
    mapping = tmp_path / "mapping.csv"
    mapping.write_text(f"{Path(clean.mapping).read_text().rstrip()}\nSEEN_01,Seen_At\n")
    own = {**project.settings["datasets"][WIDE], "source": str(source), "mapping": str(mapping)}
    own["partitions"] = "ignore"
    project.set(datasets={WIDE: own})
    return project


def check(project: Project, current: Project) -> None:
    """Raise unless the tables equal those of the sample, plus one more."""
    content = project.content()
    with duckdb.connect(str(project.catalog), read_only=True) as connection:
        times = connection.execute("SELECT DISTINCT seen_at FROM omc_flywheel_test.bucketed_seen_01").fetchall()
    assert times == [(datetime.fromisoformat(SEEN),)]
    assert {name: found for name, found in content.items() if "seen" not in name} == current.content()


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.xdist_group("spark")
@pytest.mark.parametrize("engine", ["arrow", "spark"])
def test_nested_spark_input_with_int96_gives_same_tables(to_read: Project, current: Project, engine: str) -> None:
    to_read.set(engine=engine)
    to_read.run()
    check(to_read, current)


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.xdist_group("spark")
@pytest.mark.parametrize("engine", ["arrow", "spark"])
def test_nested_spark_input_is_read_from_s3(
    to_read: Project, current: Project, by_spark: Path, aws: str, engine: str
) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=aws)
    bucket = Bucket(client, f"test-{uuid.uuid4().hex}")
    client.create_bucket(Bucket=bucket.name)
    for path in by_spark.rglob("*"):
        # As consoles and Hadoop do it: an empty object for a directory.
        bucket.put(f"in/{path.relative_to(by_spark)}{'/' if path.is_dir() else ''}",
                   b"" if path.is_dir() else path.read_bytes())  # fmt: skip
    client.close()
    assert sum("Region=a b" in key or "Region=a%20b" in key for key in bucket.keys("in/")) >= 2
    own = {**to_read.settings["datasets"][WIDE], "source": bucket.uri("in", "s3a")}
    to_read.set(datasets={WIDE: own}, engine=engine, storage={"endpoint_url": aws})
    # In a process of its own, whose JVM and workers have the credentials from the start.
    done = to_read.process("run", WIDE)
    assert done.exit_code == 0, done.stderr
    check(to_read, current)
