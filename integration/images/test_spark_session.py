"""Spark reads, writes and logs events on S3 with only the settings of Bucketwheel's session."""

from __future__ import annotations

import json
from contextlib import closing

import boto3
import pytest
from container_jobs import KEYS
from container_support import SPARK_SUBMIT, Service, application, finish
from testcontainers.core.network import Network

pytestmark = pytest.mark.docker

BUCKET = "own-stages"
OWN_STAGES = """
import sys
from bucketwheel import api
from bucketwheel.engines.spark.session import spark_session

bucket, endpoint = sys.argv[1:]
changes = {"target": f"s3://{bucket}/out", "storage.endpoint_url": endpoint}
session = spark_session(api.load("local", overrides=changes).settings)
session.range(1000).write.parquet(f"s3a://{bucket}/by-s3a")
session.read.parquet(f"s3://{bucket}/by-s3a").where("id >= 600").write.parquet(f"s3://{bucket}/by-s3")
print("rows", session.read.parquet(f"s3a://{bucket}/by-s3").count())
session.stop()
"""


def test_custom_stages_and_event_logs_work_with_both_schemes(
    localstack: Service, network: Network, glue_image: str
) -> None:
    with closing(boto3.client("s3", endpoint_url=localstack.url, **KEYS)) as s3:
        s3.create_bucket(Bucket=BUCKET)
        # Spark makes no directory for its logs.
        s3.put_object(Bucket=BUCKET, Key="events/")
        events = f"--conf spark.eventLog.enabled=true --conf spark.eventLog.dir=s3a://{BUCKET}/events"
        script = f"cat >/tmp/own.py <<'END'\n{OWN_STAGES}END\nexec {SPARK_SUBMIT} --master 'local[2]' {events}"
        words = ["-c", f"{script} /tmp/own.py {BUCKET} {localstack.inside}"]
        done = finish(application(glue_image, words, entrypoint=["/bin/bash"], network=network))
        assert "rows 400" in done.check().splitlines()

        keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
        for place in ("by-s3a", "by-s3"):
            assert f"{place}/_SUCCESS" in keys
            assert [key for key in keys if key.startswith(f"{place}/part-") and key.endswith(".snappy.parquet")]
        (log,) = (key for key in keys if key.startswith("events/local-"))
        lines = s3.get_object(Bucket=BUCKET, Key=log)["Body"].read().decode().splitlines()
        names = [json.loads(line)["Event"] for line in lines]
        # Whole to its last event, under the name that a log has when it is closed.
        assert names[-1] == "SparkListenerApplicationEnd"
        assert not log.endswith(".inprogress")
