"""Where runs keep their manifest, and how they are found again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from bucketwheel.errors import SelectionError, StorageError
from bucketwheel.manifest import BucketOutcome, Manifest
from bucketwheel.storage import Storage, join

RUN_ID = re.compile(r"\d{4}-\d{2}-\d{2}-\d{8}T\d{6}Z-[0-9a-f]{6}")
_HOME = "_bucketwheel"


class RunStore:
    """The runs below one target."""

    def __init__(self, storage: Storage, target: str) -> None:
        self._storage = storage
        self.target = storage.absolute(target)

    def home(self, dataset: str) -> str:
        """Where the books of a dataset are."""
        return join(self.target, _HOME, dataset)

    def directory(self, dataset: str, run_id: str) -> str:
        """Where the manifest of a run is."""
        return join(self.home(dataset), "runs", run_id)

    def data_directory(self, dataset: str, table: str, run_id: str) -> str:
        """Where a run writes the files of one table."""
        return join(self.target, dataset, table, run_id)

    def scratch(self, dataset: str, run_id: str) -> str:
        """Where unfinished files of a run are; outside of every table."""
        return join(self.directory(dataset, run_id), "unfinished")

    def datasets(self) -> list[str]:
        """Names of the datasets that have runs."""
        return [entry.name for entry in self._storage.list(join(self.target, _HOME)) if entry.is_directory]

    def ids(self, dataset: str) -> list[str]:
        """Run ids of a dataset, oldest first."""
        found = self._storage.list(join(self.home(dataset), "runs"))
        names = [entry.name for entry in found if entry.is_directory and RUN_ID.fullmatch(entry.name)]
        return sorted(names, key=lambda name: name[11:])

    def save(self, manifest: Manifest) -> None:
        """Write the manifest, atomically."""
        path = join(self.directory(manifest.dataset, manifest.run_id), "manifest.json")
        self._storage.write(path, manifest.model_dump_json(indent=1).encode())

    def load(self, dataset: str, run_id: str) -> Manifest:
        """Return the manifest of a run.

        Raises:
            StorageError: it is not there or not a manifest of this version.
        """
        path = join(self.directory(dataset, run_id), "manifest.json")
        content = self._storage.read(path)
        try:
            return Manifest.model_validate_json(content)
        except ValidationError as error:
            raise StorageError(f"{path}: is not a manifest that this version reads: {error}") from error

    def manifests(self, dataset: str) -> list[Manifest]:
        """Return all runs of a dataset that have a manifest, oldest first."""
        found = []
        for run_id in self.ids(dataset):
            if self._storage.exists(join(self.directory(dataset, run_id), "manifest.json")):
                found.append(self.load(dataset, run_id))
        return found

    def find(self, run_id: str, datasets: Sequence[str] = ()) -> Manifest:
        """Return the run with this id, in any dataset; `last` is the one begun last.

        Raises:
            SelectionError: there is none; names the latest.
        """
        known: list[str] = []
        if run_id == "last":
            ids = [(name[11:], name) for dataset in datasets or self.datasets() for name in self.ids(dataset)]
            run_id = max(ids)[1] if ids else run_id
        for dataset in datasets or self.datasets():
            ids = self.ids(dataset)
            if run_id in ids:
                return self.load(dataset, run_id)
            known += ids[-3:]
        recent = ", ".join(sorted(known, reverse=True)) or "none"
        raise SelectionError(f"no run {run_id!r} below {self.target}; latest: {recent}")

    def forget(self, manifest: Manifest) -> None:
        """Delete the books of a run, the manifest last so that a broken-off deletion can be repeated."""
        directory = self.directory(manifest.dataset, manifest.run_id)
        self._storage.delete_directory(join(directory, "buckets"))
        self._storage.delete_directory(directory)


class BucketCheckpoints:
    """The finished buckets of a run, one small file each, while the bucket stage runs."""

    def __init__(self, storage: Storage, store: RunStore, dataset: str, run_id: str) -> None:
        self._storage = storage
        self._directory = join(store.directory(dataset, run_id), "buckets")
        self._data = lambda table: store.data_directory(dataset, table, run_id)

    def load(self) -> Mapping[int, BucketOutcome]:
        """See `contracts.Checkpoints.load`; a bucket whose files are not all there does not count."""
        sizes: dict[str, dict[str, int]] = {}
        found = {}
        for entry in self._storage.list(self._directory):
            if not entry.name.endswith(".json"):
                continue
            outcome = BucketOutcome.model_validate(json.loads(self._storage.read(entry.location)))
            for file in outcome.files:
                if file.table not in sizes:
                    listed = self._storage.list(self._data(file.table))
                    sizes[file.table] = {data.name: data.bytes for data in listed}
            if all(sizes[file.table].get(file.name) == file.bytes for file in outcome.files):
                found[outcome.bucket] = outcome
        return found

    def save(self, outcome: BucketOutcome) -> None:
        """See `contracts.Checkpoints.save`."""
        path = join(self._directory, f"{outcome.bucket:06d}.json")
        self._storage.write(path, outcome.model_dump_json().encode(), durable=False)

    def clear(self) -> None:
        """Forget all of them; the manifest has them now."""
        self._storage.delete_directory(self._directory)
