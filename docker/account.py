"""Create the bucket and sample data that a run needs, unless they exist."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bucketwheel import api
from bucketwheel.aws import clients
from bucketwheel.storage.locations import s3_location


def main() -> None:
    """Create the bucket that the configuration names, and upload sample data."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    rows = parser.parse_args().rows
    settings = api.load("compose", "/opt/bucketwheel/conf").settings
    s3 = clients.client("s3", settings.aws, settings.storage.endpoint_url)
    bucket = s3_location("target", settings.target).bucket
    s3.create_bucket(Bucket=bucket)
    if "Contents" in s3.list_objects_v2(Bucket=bucket, Prefix="opus/", MaxKeys=1):
        return
    with tempfile.TemporaryDirectory(dir="/var/lib/bucketwheel") as directory:
        sample = api.sample(directory, api.SampleSpec(rows=rows, tables=3, columns=6))
        for path in sorted(Path(directory).rglob("*")):
            if path.is_file():
                s3.upload_file(str(path), bucket, path.relative_to(directory).as_posix())
        print(f"s3://{bucket}/opus: {sample.description}")


if __name__ == "__main__":
    main()
