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


def four_jobs(made: Site, target: str, *arguments: str) -> None:
    where = ("--TARGET_PATH", f"s3a://{made.bucket}/{target}", "--DATABASE", target, *DATE)
    buckets = ("--stages", DATA_STAGES, "--BUCKET_COUNT", "4")
    made.run("--DATASET", WIDE, *buckets, *where, *arguments)
    made.run("--DATASET", NARROW, *buckets, *where)
    made.run("--stages", "register", *where)
    made.run("--stages", "ctas", *where)


def meaning(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return columns, buckets, comment and number of changes of each table, without its location."""
    found = {}
    for name, table in tables.items():
        place = table["StorageDescriptor"]
        buckets = (place["BucketColumns"], place["NumberOfBuckets"], place["SerdeInfo"])
        found[name] = (place["Columns"], buckets, table["Parameters"].get("comment"), table["VersionId"])
    return found


def published(*names: str) -> list[str]:
    return sorted(f"{prefix}{name}" for prefix in ("bucketed_", "ext_") for name in names)


def without_lease(objects: Mapping[str, str]) -> dict[str, str]:
    """Return the objects without the lease, which every run changes."""
    return {key: written for key, written in objects.items() if not key.endswith("/lease.json")}


def test_four_jobs_write_the_files_of_one_run(
    localstack: Service, moto: Service, network: Network, glue_image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sample = write_sample(tmp_path_factory.mktemp("sample"), SAMPLE)
    with site("four-jobs", localstack, moto, glue_image, network, sample, buckets={"count": 4}) as made:
        made.run(*DATE)
        one, whole = made.digests("out"), meaning(made.tables(made.database))
        assert len(one) == 4 * 4
        assert sorted(whole) == published("addressable_ids", *TABLES)

        four_jobs(made, "four")
        assert made.digests("four") == one
        assert meaning(made.tables("four")) == whole
        assert made.strays("four") == []

        before = made.objects("four")
        four_jobs(made, "four")
        assert without_lease(made.objects("four")) == without_lease(before)
        assert meaning(made.tables("four")) == whole

        four_jobs(made, "some", "--TABLES_FILTER", "IBE_01,IBE_04")
        chosen = ("addressable_ids", "ibe_01", "ibe_04")
        assert sorted(made.tables("some")) == published(*chosen)
        assert made.digests("some") == {name: one[name] for name in one if name.split("/")[1] in chosen}
