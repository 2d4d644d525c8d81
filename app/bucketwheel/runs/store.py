"""Read and write the metadata of runs below the target."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pydantic import ValidationError

from bucketwheel.errors import ChangedError, LeaseError, SelectionError, StorageError
from bucketwheel.runs.manifest import SCHEMA_VERSION, BucketOutcome, Manifest
from bucketwheel.runs.summary import Summary
from bucketwheel.settings import Settings
from bucketwheel.storage import Storage, join

RUN_ID = re.compile(r"\d{4}-\d{2}-\d{2}-\d{8}T\d{6}Z-[0-9a-f]{6}")
_HOME = "_bucketwheel"
_READERS = 8


class RunStore:
    """The runs below one target."""

    def __init__(self, storage: Storage, target: str) -> None:
        self.storage = storage
        self.target = storage.absolute(target)
        # Of each manifest, the version last seen, and what was written of which no answer came.
        self._versions: dict[str, str] = {}
        self._unsure: dict[str, bytes] = {}

    @classmethod
    def of(cls, settings: Settings) -> RunStore:
        """Return the runs below the configured target."""
        return cls(Storage.of(settings), settings.target)

    def summary_path(self, dataset: str, run_id: str) -> str:
        """Where the summary of a run is."""
        return join(self.directory(dataset, run_id), "summary.json")

    def save_summary(self, summary: Summary) -> None:
        """Write the summary of a run over an earlier one, atomically.

        Raises:
            StorageError: it cannot be written.
        """
        content = summary.model_dump_json(indent=1) + "\n"
        self.storage.write(self.summary_path(summary.dataset, summary.run), content.encode())

    def summary(self, dataset: str, run_id: str) -> Summary | None:
        """Return the summary of a run, or None where it has none: it still runs, or was killed.

        Raises:
            StorageError: it cannot be read, or is damaged; names the file.
        """
        path = self.summary_path(dataset, run_id)
        if not self.storage.exists(path):
            return None
        try:
            return Summary.model_validate_json(self.storage.read(path))
        except ValidationError as error:
            raise StorageError(f"{path}: is no summary that this version reads: {error}") from error

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
        return [entry.name for entry in self.storage.list(join(self.target, _HOME)) if entry.is_directory]

    def ids(self, dataset: str) -> list[str]:
        """Return the ids of all runs of a dataset that were begun and not deleted, oldest first."""
        return [run_id for run_id in self.traces(dataset) if self.storage.exists(self.path(dataset, run_id))]

    def traces(self, dataset: str) -> list[str]:
        """Return `ids` and those of runs that were killed while they were begun or deleted."""
        found = self.storage.list(join(self.home(dataset), "runs"))
        names = [entry.name for entry in found if entry.is_directory and RUN_ID.fullmatch(entry.name)]
        return sorted(names, key=begun_at)

    def path(self, dataset: str, run_id: str) -> str:
        """Where the manifest of a run is."""
        return join(self.directory(dataset, run_id), "manifest.json")

    def save(self, manifest: Manifest) -> None:
        """Write the manifest, atomically, over what this writer last read or wrote of it.

        Raises:
            LeaseError: somebody else has written it since; on S3, where nothing else keeps writers apart.
            StorageError: it cannot be written.
        """
        path = self.path(manifest.dataset, manifest.run_id)
        self._replace(path, manifest.model_dump_json(indent=1).encode())

    def _replace(self, path: str, content: bytes) -> None:
        try:
            try:
                version = self.storage.replace(path, content, self._versions.get(path))
            except ChangedError:
                found, version = self.storage.read_version(path)
                if found != self._unsure.get(path):
                    raise
                version = self.storage.replace(path, content, version)
        except ChangedError as error:
            raise LeaseError(
                f"{path}: another run has written this manifest, so this one publishes nothing more; look at "
                "`bucketwheel runs`, then run again"
            ) from error
        except StorageError:
            self._unsure[path] = content
            raise
        self._versions[path] = version
        self._unsure.pop(path, None)

    def load(self, dataset: str, run_id: str) -> Manifest:
        """Return the manifest of a run.

        Raises:
            StorageError: it is not there, damaged, or written by a newer version; names the file.
        """
        path = self.path(dataset, run_id)
        content, self._versions[path] = self.storage.read_version(path)
        self._unsure.pop(path, None)
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise StorageError(f"{path}: {_unreadable(content, error)}") from error
        if (manifest.dataset, manifest.run_id) != (dataset, run_id):
            raise StorageError(f"{path}: is the manifest of {manifest.dataset} {manifest.run_id}; move it back there")
        return manifest

    def manifests(self, dataset: str, unreadable: Callable[[str], None] | None = None) -> list[Manifest]:
        """Return all runs of a dataset, oldest first; for `unreadable` see `newest_first`.

        Raises:
            StorageError: a manifest cannot be read; names the file.
        """
        return [*self.newest_first(dataset, unreadable=unreadable)][::-1]

    def newest_first(
        self, dataset: str, prefix: str = "", unreadable: Callable[[str], None] | None = None
    ) -> Iterator[Manifest]:
        """Yield the runs whose id begins with `prefix`, the newest first, each read when it is asked for.

        Args:
            dataset: its name.
            prefix: what the ids begin with.
            unreadable: called with a text for each manifest that cannot be read; None raises instead.

        Raises:
            StorageError: a manifest cannot be read; names the file.
        """
        for run_id in reversed(self.ids(dataset)):
            if run_id.startswith(prefix):
                try:
                    yield self.load(dataset, run_id)
                except StorageError as error:
                    if unreadable is None:
                        raise
                    unreadable(str(error))

    def find(self, run_id: str, datasets: Sequence[str] = ()) -> Manifest:
        """Return the run with this id, in any dataset; `last` is the one begun last.

        Raises:
            SelectionError: there is none; names the latest.
        """
        owners = {known: dataset for dataset in datasets or self.datasets() for known in self.ids(dataset)}
        latest = sorted(owners, key=begun_at, reverse=True)
        if run_id == "last" and latest:
            run_id = latest[0]
        if run_id in owners:
            return self.load(owners[run_id], run_id)
        recent = ", ".join(latest[:3]) or "none"
        raise SelectionError(f"no run {run_id!r} below {self.target}; latest: {recent}")

    def forget(self, dataset: str, run_id: str) -> None:
        """Delete the manifest of a run: from here on it is no run, whatever is left of it."""
        self.storage.delete(self.path(dataset, run_id))

    def clear(self, dataset: str, run_id: str) -> None:
        """Delete all that is left of the books of a run."""
        self.storage.delete_directory(self.directory(dataset, run_id))
        self.storage.abandon_uploads(join(self.target, dataset), run_id)

    def sweep(self, dataset: str, run_id: str | None = None) -> None:
        """Delete what killed writers left of the notes on a dataset and of the books of a run; needs the lease."""
        for path in (self.note(dataset), *([self.path(dataset, run_id)] if run_id else [])):
            self.storage.sweep(path.rpartition("/")[0])

    def note(self, dataset: str) -> str:
        """Where the published snapshot date is noted for other jobs."""
        return join(self.target, dataset, "metadata", "snapshot_dt.txt")

    def note_published(self, manifest: Manifest) -> None:
        """Note the snapshot date of a run that was published."""
        content, version = self._noted(manifest.dataset)
        wanted = (manifest.snapshot_dt or "").encode()
        if content != wanted:
            path = self.note(manifest.dataset)
            try:
                self.storage.replace(path, wanted, version)
            except ChangedError as error:
                raise LeaseError(f"{path}: another run has written it at the same moment; run again") from error

    def is_noted(self, manifest: Manifest) -> bool:
        """Return whether the snapshot date of this run is the one noted."""
        return self._noted(manifest.dataset)[0] == (manifest.snapshot_dt or "").encode()

    def _noted(self, dataset: str) -> tuple[bytes | None, str | None]:
        path = self.note(dataset)
        return self.storage.read_version(path) if self.storage.exists(path) else (None, None)


def begun_at(run_id: str) -> str:
    """Return the part of a run id by which runs are in order."""
    return run_id[11:]


def _unreadable(content: bytes, error: ValidationError) -> str:
    try:
        found = json.loads(content)
        version = found.get("schema_version", SCHEMA_VERSION)
    except (ValueError, AttributeError):
        return "is not a manifest, it may be damaged; restore it, or move the directory it is in away"
    if version != SCHEMA_VERSION:
        return (
            f"was written by another version of Bucketwheel (schema_version {version}, this one reads "
            f"{SCHEMA_VERSION}); use that version"
        )
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "the whole"
    return f"is not a manifest ({place}: {first['msg']}), it may be damaged; restore it, or move its directory away"


class BucketCheckpoints:
    """The finished buckets of a run, one small file each, while the bucket stage runs."""

    def __init__(self, storage: Storage, store: RunStore, dataset: str, run_id: str) -> None:
        self._storage = storage
        self._directory = join(store.directory(dataset, run_id), "buckets")
        self._data = partial(store.data_directory, dataset, run_id=run_id)
        self._abandon = partial(storage.abandon_uploads, join(store.target, dataset), run_id)

    def load(self) -> Mapping[int, BucketOutcome]:
        """See `contracts.Checkpoints.load`; a bucket whose record or files are not whole does not count."""
        sizes: dict[str, dict[str, int]] = {}
        found = {}
        noted = [entry.location for entry in self._storage.list(self._directory) if entry.name.endswith(".json")]
        with ThreadPoolExecutor(_READERS) as pool:
            contents = list(pool.map(self._storage.read, noted))
        for content in contents:
            try:
                outcome = BucketOutcome.model_validate_json(content)
            except ValidationError:
                # Not flushed to disk when power failed, as checkpoints are not.
                continue
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
        """Forget all of them, and what killed workers left of uploads; the manifest has them now."""
        self._storage.delete_directory(self._directory)
        self._abandon()
