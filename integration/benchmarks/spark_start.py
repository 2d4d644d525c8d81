"""Start an engine and do nothing else: for Spark the session and one Python worker.

python -m integration.benchmarks.spark_start spark|arrow
"""

from __future__ import annotations

import sys

from bucketwheel.settings import Settings


def main() -> None:
    if sys.argv[1] == "arrow":
        from bucketwheel.engines.arrow import ArrowEngine

        ArrowEngine(Settings())
        return
    from bucketwheel.engines.spark.engine import SparkEngine
    from bucketwheel.engines.spark.session import spark_session

    SparkEngine(Settings())
    session = spark_session(Settings())
    session.range(1).mapInArrow(lambda batches: batches, "id bigint").collect()
    session.stop()


if __name__ == "__main__":
    main()
