from __future__ import annotations

import sys
from collections.abc import Iterable

import pyarrow as pa
import pytest

from bucketwheel.contracts import BucketJob, Engine
from bucketwheel.engines.spark.engine import SparkEngine
from bucketwheel.settings import Settings
from bucketwheel.testing.engine import EngineContract, MakeEngine
from bucketwheel.testing.engine_jobs import bucket

# One JVM for all of them.
pytestmark = [pytest.mark.spark, pytest.mark.xdist_group("spark")]


@pytest.mark.usefixtures("java")
class TestSparkEngine(EngineContract):
    kills = True

    @pytest.fixture
    def make_engine(self) -> MakeEngine:
        def make(**settings: object) -> Engine:
            return SparkEngine(Settings.model_validate(settings))

        return make

    def test_closing_early_cancels_spark_jobs(self, make_engine: MakeEngine, job: BucketJob) -> None:
        from pyspark import SparkContext

        engine = make_engine()
        outcomes = engine.bucket(job, (), lambda _rows, _size: None)
        next(iter(outcomes))
        outcomes.close()  # type: ignore[attr-defined]
        context = SparkContext._active_spark_context
        assert context
        assert not context.statusTracker().getActiveJobsIds()
        assert len(bucket(engine, job)) == job.bucket_count

    @pytest.mark.parametrize("partitions", [1, 2, 7, 256])
    def test_each_bucket_reaches_its_partition(self, partitions: int) -> None:
        from pyspark.sql import functions as F  # noqa: N812 the name that everybody gives it

        from bucketwheel.engines.spark.engine import _partition_keys
        from bucketwheel.engines.spark.session import spark_session

        rows = [(index, key) for index, key in enumerate(_partition_keys(partitions))]
        frame = spark_session(Settings()).createDataFrame(rows, "meant int, place int")
        placed = frame.repartition(partitions, "place").select("meant", F.spark_partition_id()).collect()
        assert sorted(map(tuple, placed)) == [(index, index) for index in range(partitions)]

    def test_workers_import_only_the_task_module(self, make_engine: MakeEngine, job: BucketJob) -> None:
        from bucketwheel.engines.spark.session import spark_session

        bucket(make_engine(), job)
        session = spark_session(Settings())

        def imported(_batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
            names = [name for name in sys.modules if name.startswith("bucketwheel.engines.")]
            yield pa.RecordBatch.from_pydict({"name": pa.array(names, pa.string())})

        # By workers that have just done the job's tasks.
        modules = {row.name for row in session.range(0, 2, 1, 2).mapInArrow(imported, "name string").collect()}
        package = "bucketwheel.engines.spark"  # Its own module has a docstring only.
        limits = {"bucketwheel.engines.memory", "bucketwheel.engines.spark_sizing"}
        assert modules == {package, f"{package}.shuffle", f"{package}.tasks", *limits}

    @pytest.mark.parametrize(("rows", "partitions"), [(3_000, 2), (3_000_000, 6)])
    def test_task_count_grows_with_data(self, monkeypatch: pytest.MonkeyPatch, rows: int, partitions: int) -> None:
        from bucketwheel.engines import spark_sizing
        from bucketwheel.engines.spark import parallelism
        from bucketwheel.engines.spark.session import spark_session

        context = spark_session(Settings()).sparkContext
        monkeypatch.setattr(spark_sizing, "TASKS_PER_CORE", 2 / parallelism.cores(context))
        assert parallelism.task_count(context, 256, 500 * rows) == partitions
