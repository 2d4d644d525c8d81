"""Starts the session of the spark engine and one Python worker, and nothing else: what a run pays before it works."""

from __future__ import annotations

from bucketwheel.engines.spark_session import spark_session
from bucketwheel.settings import Settings


def main() -> None:
    session = spark_session(Settings())
    session.range(1).mapInArrow(lambda batches: batches, "id bigint").collect()
    session.stop()


if __name__ == "__main__":
    main()
