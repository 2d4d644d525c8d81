"""Iceberg tables whose files are on S3 and whose catalog is a SQLite file."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bucketwheel.catalogs.example_query import example_query
from runs_support import JANUARY, Case
from s3_support import Bucket


def test_example_query_of_iceberg_tables_on_s3_works(bucket: Bucket, tmp_path: Path) -> None:
    changes = {
        "buckets__hash": "iceberg",
        "catalog__kind": "iceberg",
        "iceberg__uri": f"sqlite:///{tmp_path}/iceberg.db",
        "target": f"s3://{bucket.name}/out",
    }
    case = Case(tmp_path, rows=60, changes=changes)
    case.snapshot(JANUARY)
    case.run()
    (january,) = case.manifests()
    command = example_query(case.settings(), january)
    assert command is not None
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("'customer_user_id'")) == (0, 5), done.stderr
