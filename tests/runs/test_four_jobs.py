"""The four previous jobs as four processes that share only S3 and the catalog.

integration/jobs runs them on Spark, in containers; the order of jobs and what they share do not depend on the engine.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aws_server import CREDENTIALS, plain_client, served
from bucketwheel.sample import Sample
from project import APP, NARROW, WIDE, environment
from run_output import hash_files

# All servers of one process show the same account, and the tests of `deploy` empty it: stay together.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("four_jobs"),
]

BUCKET = "omc-flywheel-data-us-east-1-prod"
DATABASE = "omc_flywheel_prod"
DATA_STAGES = "discover,split,size,bucket,verify"


class Site:
    """A bucket, a Glue catalog and their configuration; each job is a separate process."""

    def __init__(self, endpoint: str, conf: Path, sample: Sample) -> None:
        self.endpoint, self.conf = endpoint, conf
        self.s3, self.glue = plain_client("s3", endpoint), plain_client("glue", endpoint)
        self.s3.create_bucket(Bucket=BUCKET)
        for path in (file for file in sample.directory.rglob("*") if file.is_file()):
            self.s3.upload_file(str(path), BUCKET, str(path.relative_to(sample.directory)))
        settings: dict[str, Any] = {
            "engine": "arrow",
            "target": f"s3://{BUCKET}/omc_cleanroom_data",
            "buckets": {"count": 4},
            "catalog": {"kind": "glue", "path": None, "database": DATABASE},
            "datasets": {
                WIDE: {
                    "source": f"s3://{BUCKET}/opus/infobase_attributes/raw_input",
                    "mapping": f"s3://{BUCKET}/opus/infobase_attributes/mapping.csv",
                    "key": "Customer_User_id",
                },
                NARROW: {"source": f"s3://{BUCKET}/opus/addressable_ids/raw_input", "key": "Customer_User_id"},
            },
        }
        conf.mkdir()
        (conf / "base.yaml").write_text(yaml.safe_dump(settings))
        (conf / "prod.yaml").write_text("{}")

    def job(self, *arguments: str) -> str:
        """Submit one job as Glue would, with Glue's own arguments added; return its output."""
        glue = ("--JOB_NAME", "etl", "--JOB_RUN_ID", "jr_1", "--job-language", "python", "--enable-metrics", "true")
        done = subprocess.run(
            [sys.executable, str(APP / "job.py"), *glue, "--env", "prod", "--config-dir", str(self.conf), *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            # A job on Glue refuses the arrow engine.
            env=environment(AWS_ENDPOINT_URL=self.endpoint, BUCKETWHEEL_RUNTIME="container", **CREDENTIALS),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def four_jobs(self, target: str) -> None:
        where = ("--TARGET_PATH", f"s3a://{BUCKET}/{target}", "--DATABASE", target)
        self.job("--DATASET", WIDE, "--stages", DATA_STAGES, "--BUCKET_COUNT", "4", *where)
        self.job(
            "--DATASET", NARROW, "--stages", DATA_STAGES, "--BUCKET_COUNT", "4", "--SNAPSHOT_DT", "_NONE_", *where
        )
        self.job("--stages", "register", *where)
        self.job("--stages", "ctas", *where)

    def digests(self, target: str) -> dict[str, str]:
        """Return the SHA-256 of every data file by dataset, table and name."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{target}/")
        keys = [entry["Key"].removeprefix(f"{target}/") for page in pages for entry in page.get("Contents", ())]
        return hash_files(keys, lambda key: self.s3.get_object(Bucket=BUCKET, Key=f"{target}/{key}")["Body"].read())

    def tables(self, database: str) -> dict[str, Any]:
        """Return names, columns, types, comments, buckets and number of changes of all tables."""
        definitions = {}
        pages = self.glue.get_paginator("get_tables").paginate(DatabaseName=database)
        for table in (entry for page in pages for entry in page["TableList"]):
            place = table["StorageDescriptor"]
            columns = [(column["Name"], column["Type"], column.get("Comment")) for column in place["Columns"]]
            buckets = (place["BucketColumns"], place["NumberOfBuckets"], place["SerdeInfo"])
            definitions[table["Name"]] = (columns, buckets, table.get("Description"), table["VersionId"])
        return definitions


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, clean: Sample) -> Iterator[Site]:
    with served() as endpoint:
        job_site = Site(endpoint, tmp_path_factory.mktemp("site") / "conf", clean)
        yield job_site
        job_site.s3.close()
        job_site.glue.close()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def test_four_jobs_write_the_files_of_one_run(site: Site) -> None:
    site.job()
    one = site.digests("omc_cleanroom_data")
    assert len(one) == 4 * 3 + 4
    site.four_jobs("four")
    assert site.digests("four") == one
    whole = site.tables(DATABASE)
    assert sorted(whole) == sorted(f"{prefix}{name}" for prefix in ("bucketed_", "ext_") for name in
                                   ("addressable_ids", "ibe_01", "ibe_02", "ibe_04"))  # fmt: skip
    assert site.tables("four") == whole
