from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.errors import SnapshotError
from s3_support import Bucket


def put(bucket: Bucket, *keys: str) -> None:
    content = io.BytesIO()
    pq.write_table(pa.table({"person_id": [1, 2], "age": [3, 4]}), content)
    for key in keys:
        bucket.put(key, content.getvalue())


def test_init_finds_nested_snapshots_on_s3(bucket: Bucket, tmp_path: Path) -> None:
    put(bucket, "in/people/year=2025/month=12/a.parquet", "in/people/year=2026/month=2/a.parquet")
    source = bucket.uri("in/people/")
    project = api.init(tmp_path / "new", source, "person_id")
    assert (project.dataset, project.snapshot_dt, project.partition) == ("people", "2026-02-01", "year=YYYY/month=MM")
    config = api.load("local", tmp_path / "new" / "conf")
    values = config.settings.datasets["people"]
    assert (values.source, values.partition) == (source.rstrip("/"), "year=YYYY/month=MM")
    plan = api.plan(
        api.load(
            "local", tmp_path / "new" / "conf", {"datasets.people.mapping": str(tmp_path / "new" / "mapping.csv")}
        ),
        "people",
    )
    assert (plan.discover.snapshot_dt, plan.discover.rows) == ("2026-02-01", 2)


def test_init_on_one_snapshot_on_s3_takes_the_directory_above(bucket: Bucket, tmp_path: Path) -> None:
    put(bucket, "people/dt=20260131/a.parquet", "people/dt=20260228/a.parquet")
    project = api.init(tmp_path, bucket.uri("people/dt=20260131"), "person_id")
    assert (project.source, project.snapshot_dt) == (bucket.uri("people"), "2026-02-28")


def test_init_on_empty_prefix_names_the_expected_layout(bucket: Bucket, tmp_path: Path) -> None:
    source = bucket.uri("nothing")
    with pytest.raises(
        SnapshotError, match=f"{source}: no Parquet files; put them into {source}/snapshot_dt=YYYY-MM"
    ):
        api.init(tmp_path, source, "person_id")
    assert list(tmp_path.iterdir()) == []
