from __future__ import annotations

import pytest
from engine_contract import EngineContract, MakeEngine

from bucketwheel.contracts import BucketJob, Engine
from bucketwheel.engines.spark import SparkEngine
from bucketwheel.settings import Settings
from engine_jobs import bucket

# One JVM for all of them.
pytestmark = [pytest.mark.spark, pytest.mark.xdist_group("spark")]


@pytest.mark.usefixtures("java")
class TestSparkEngine(EngineContract):
    @pytest.fixture
    def make_engine(self) -> MakeEngine:
        def make(**settings: object) -> Engine:
            return SparkEngine(Settings.model_validate(settings))

        return make

    def test_closing_it_early_ends_the_work_of_spark(self, make_engine: MakeEngine, job: BucketJob) -> None:
        from pyspark import SparkContext

        engine = make_engine()
        outcomes = engine.bucket(job, (), lambda _rows, _size: None)
        next(iter(outcomes))
        outcomes.close()  # type: ignore[attr-defined]
        context = SparkContext._active_spark_context
        assert context
        assert not context.statusTracker().getActiveJobsIds()
        assert len(bucket(engine, job)) == job.bucket_count
