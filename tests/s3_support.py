"""A test bucket, and projects whose input and target are in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bucketwheel.sample import Sample
from project import NARROW, WIDE, Project
from run_output import hash_files


class Bucket:
    """A bucket and an independent client."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name

    def uri(self, key: str, scheme: str = "s3") -> str:
        return f"{scheme}://{self.name}/{key}"

    def put(self, key: str, content: bytes = b"") -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def head(self, key: str) -> dict[str, Any]:
        head: dict[str, Any] = self.client.head_object(Bucket=self.name, Key=key)
        return head

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))

    def uploads(self) -> list[str]:
        """Return the keys of unfinished uploads."""
        page = self.client.list_multipart_uploads(Bucket=self.name)
        return [upload["Key"] for upload in page.get("Uploads", ())]

    def upload(self, sample: Sample) -> dict[str, Any]:
        """Upload a sample and return the settings of its datasets, the first with `s3a://` and the second with `s3://`."""
        for path in sorted(sample.directory.rglob("*")):
            if path.is_file():
                self.put(f"in/{path.relative_to(sample.directory)}", path.read_bytes())

        def location(path: Path, scheme: str) -> str:
            return self.uri(f"in/{Path(path).relative_to(sample.directory)}", scheme)

        common = {"key": "Customer_User_id", "complete_marker": "_SUCCESS"}
        wide = {"source": location(sample.source, "s3a"), "mapping": location(sample.mapping, "s3a")}
        return {
            WIDE: {**common, **wide},
            NARROW: {**common, "source": location(sample.addressable_source, "s3")},
        }

    def project(self, root: Path, sample: Sample, target: str = "out") -> Project:
        """Return a project with input and target in this bucket; its catalog is a local file."""
        project = Project(root, sample)
        project.set(target=self.uri(target), datasets=self.upload(sample))
        return project

    def hashes(self, target: str = "out", run_id: str = "") -> dict[str, str]:
        """Return the SHA-256 of every data file below a target, or of one run, by table and name."""
        keys = [key.removeprefix(f"{target}/") for key in self.keys(f"{target}/")]
        return hash_files(keys, lambda key: self.get(f"{target}/{key}"), run_id)
