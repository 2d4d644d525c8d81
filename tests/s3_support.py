"""A bucket as it is seen from outside, and projects whose input and target are in it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from bucketwheel.sample import Sample
from project import NARROW, WIDE, Project


class Bucket:
    """One bucket and a client of its own for it."""

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
        found: dict[str, Any] = self.client.head_object(Bucket=self.name, Key=key)
        return found

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return sorted(found["Key"] for page in pages for found in page.get("Contents", ()))

    def uploads(self) -> list[str]:
        """Keys of uploads that were begun and neither completed nor abandoned."""
        found = self.client.list_multipart_uploads(Bucket=self.name)
        return [upload["Key"] for upload in found.get("Uploads", ())]

    def take(self, sample: Sample) -> dict[str, Any]:
        """Copy a sample here; return the settings of its datasets, the first by s3a and the second by s3."""
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
        """A project whose input and target are here; its catalog is a local file."""
        made = Project(root, sample)
        made.set(target=self.uri(target), datasets=self.take(sample))
        return made

    def hashes(self, target: str = "out", run_id: str = "") -> dict[str, str]:
        """SHA-256 of every data file below a target, or of one run's there, by table and name."""
        return {
            without_run(key.removeprefix(f"{target}/")): hashlib.sha256(self.get(key)).hexdigest()
            for key in self.keys(f"{target}/")
            if key.endswith(".parquet") and f"/{run_id}" in key
        }


def local_hashes(target: Path) -> dict[str, str]:
    """SHA-256 of every data file below a local target, by table and name."""
    return {
        without_run(str(path.relative_to(target))): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in target.rglob("*.parquet")
    }


def without_run(key: str) -> str:
    dataset, table, _, name = key.split("/")
    return f"{dataset}/{table}/{name}"
