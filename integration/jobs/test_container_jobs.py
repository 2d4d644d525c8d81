"""Submit the four previous jobs in four containers that share only S3 and the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from container_jobs import NARROW, WIDE, Site, site
from container_support import Service
from testcontainers.core.network import Network

from bucketwheel.sample import SampleSpec, write_sample

pytestmark = pytest.mark.docker

DATA_STAGES = "discover,split,size,bucket,verify"
SAMPLE = SampleSpec(rows=2_000, tables=3, columns=4, files=3, row_group_rows=250)
DATE = ("--SNAPSHOT_DT", SAMPLE.snapshot_dt)
TABLES = ("ibe_01", "ibe_02", "ibe_04")


def four_jobs(job_site: Site, target: str, *arguments: str) -> None:
    where = ("--TARGET_PATH", f"s3a://{job_site.bucket}/{target}", "--DATABASE", target, *DATE)
    buckets = ("--stages", DATA_STAGES, "--BUCKET_COUNT", "4")
    job_site.run("--DATASET", WIDE, *buckets, *where, *arguments)
    job_site.run("--DATASET", NARROW, *buckets, *where)
    job_site.run("--stages", "register", *where)
    job_site.run("--stages", "ctas", *where)


def meaning(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return columns, buckets, comment and number of changes of each table, without its location."""
    definitions = {}
    for name, table in tables.items():
        place = table["StorageDescriptor"]
        buckets = (place["BucketColumns"], place["NumberOfBuckets"], place["SerdeInfo"])
        definitions[name] = (place["Columns"], buckets, table["Parameters"].get("comment"), table["VersionId"])
    return definitions


def published(*names: str) -> list[str]:
    return sorted(f"{prefix}{name}" for prefix in ("bucketed_", "ext_") for name in names)


def without_lease(objects: Mapping[str, str]) -> dict[str, str]:
    """Return the objects without the lease, which every run changes."""
    return {key: written for key, written in objects.items() if not key.endswith("/lease.json")}


def test_four_jobs_write_the_files_of_one_run(
    localstack: Service, moto: Service, network: Network, glue_image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sample = write_sample(tmp_path_factory.mktemp("sample"), SAMPLE)
    with site("four-jobs", localstack, moto, glue_image, network, sample, buckets={"count": 4}) as job_site:
        job_site.run(*DATE)
        one, whole = job_site.digests("out"), meaning(job_site.tables(job_site.database))
        assert len(one) == 4 * 4
        assert sorted(whole) == published("addressable_ids", *TABLES)

        four_jobs(job_site, "four")
        assert job_site.digests("four") == one
        assert meaning(job_site.tables("four")) == whole
        assert job_site.strays("four") == []

        before = job_site.objects("four")
        four_jobs(job_site, "four")
        assert without_lease(job_site.objects("four")) == without_lease(before)
        assert meaning(job_site.tables("four")) == whole

        four_jobs(job_site, "some", "--TABLES_FILTER", "IBE_01,IBE_04")
        chosen = ("addressable_ids", "ibe_01", "ibe_04")
        assert sorted(job_site.tables("some")) == published(*chosen)
        assert job_site.digests("some") == {name: one[name] for name in one if name.split("/")[1] in chosen}
