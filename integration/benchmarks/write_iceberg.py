"""Write Parquet tables as bucketed, sorted Iceberg tables with Spark: write_iceberg QUESTION.

QUESTION is JSON: `settings` of the session, `schema`, `key`, `buckets`, and `tables` (name → directory).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession


def main() -> None:
    question = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    builder: Any = SparkSession.builder.master("local[*]")
    for name, value in question["settings"].items():
        builder = builder.config(name, value)
    session: SparkSession = builder.getOrCreate()
    key = question["key"]
    session.sql(f"CREATE NAMESPACE {question['schema']}")
    for name, directory in question["tables"].items():
        table = f"{question['schema']}.{name}"
        session.read.parquet(directory).createOrReplaceTempView("rows")
        session.sql(
            f"CREATE TABLE {table} USING iceberg PARTITIONED BY (bucket({question['buckets']}, {key})) "
            "TBLPROPERTIES ('write.parquet.compression-codec' = 'snappy') AS SELECT * FROM rows WHERE false"
        )
        session.sql(f"ALTER TABLE {table} WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY {key}")
        session.sql(f"INSERT INTO {table} SELECT * FROM rows")
    session.stop()


if __name__ == "__main__":
    main()
