"""Read and write the metadata of runs below the target."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from pydantic import ValidationError

from bucketwheel.errors import BucketwheelError, ChangedError, LeaseError, SelectionError, StorageError
from bucketwheel.formatting import counted
from bucketwheel.runs.manifest import SCHEMA_VERSION, BucketOutcome, Manifest, layout_table
from bucketwheel.runs.published import PublishedRecord
from bucketwheel.runs.run_id import RUN_ID, did_you_mean_run, matching, started_at
from bucketwheel.runs.summary import Summary
from bucketwheel.settings import Settings
from bucketwheel.storage import Storage, join
from bucketwheel.storage.durable import METADATA
from bucketwheel.system import system

_READERS = 8
_ATTEMPTS = 5
# Maximum number of run ids listed in the error about an ambiguous id.
_SHOWN_RUNS = 5


class RunStore:
    """The runs below one target."""

    def __init__(self, storage: Storage, target: str) -> None:
        self.storage = storage
        self.target = storage.absolute(target)
        # By path: the version last read or written, and the content of a write that got no response.
        self._versions: dict[str, str] = {}
        self._unsure: dict[str, bytes] = {}
        # By path: the version of each claim that this command wrote last; see `claims.py`.
        self.claim_versions: dict[str, str] = {}

    @classmethod
    def of(cls, settings: Settings) -> RunStore:
        """Return the runs below the configured target."""
        return cls(Storage.of(settings), settings.target)

    def summary_path(self, dataset: str, run_id: str) -> str:
        """Return the path of the summary of a run."""
        return join(self.directory(dataset, run_id), "summary.json")

    def save_summary(self, summary: Summary) -> None:
        """Write the summary of a run atomically, over an earlier one.

        Raises:
            StorageError: it cannot be written.
        """
        content = summary.model_dump_json(indent=1) + "\n"
        self.storage.write(self.summary_path(summary.dataset, summary.run), content.encode())

    def summary(self, dataset: str, run_id: str) -> Summary | None:
        """Return the summary of a run, or None if the run has not ended or was killed.

        Raises:
            StorageError: the file cannot be read or is damaged.
        """
        path = self.summary_path(dataset, run_id)
        if not self.storage.exists(path):
            return None
        try:
            return Summary.model_validate_json(self.storage.read(path))
        except ValidationError as error:
            raise StorageError(f"{path}: is not a summary that this version can read: {error}") from error

    def metadata_directory(self, dataset: str) -> str:
        """Return the directory of the run metadata of a dataset."""
        return join(self.target, METADATA, dataset)

    def directory(self, dataset: str, run_id: str) -> str:
        """Return the directory of the metadata of one run."""
        return join(self.metadata_directory(dataset), "runs", run_id)

    def data_directory(self, dataset: str, table: str, run_id: str, layout: str = "") -> str:
        """Return the directory of the files that a run writes for one table.

        `layout` is empty for the first layout.
        """
        return join(self.target, dataset, layout_table(layout, table), run_id)

    def save_data_files(self, dataset: str, run_id: str, layout: str, content: bytes) -> None:
        """Write the records of the data files of an Iceberg layout, from `data_files.encode`, if they changed.

        Raises:
            StorageError: they cannot be written.
        """
        path = self._data_files_path(dataset, run_id, layout)
        if self._content(path)[0] != content:
            self.storage.write(path, content)

    def data_files(self, dataset: str, run_id: str, layout: str) -> tuple[str, bytes]:
        """Return the path and the content of the records that `save_data_files` wrote.

        Raises:
            StorageError: they are missing or cannot be read.
        """
        path = self._data_files_path(dataset, run_id, layout)
        return path, self.storage.read(path)

    def _data_files_path(self, dataset: str, run_id: str, layout: str) -> str:
        return join(
            self.directory(dataset, run_id), f"data_files.{layout}.parquet" if layout else "data_files.parquet"
        )

    def has_data(self, manifest: Manifest) -> bool:
        """Return whether a run has finished a bucket or written a file of a table."""
        directories = [join(self.directory(manifest.dataset, manifest.run_id), "buckets")]
        if "split" in manifest.stages:
            layouts = [layout.id for layout in manifest.size.layouts] if "size" in manifest.stages else [""]
            directories += [
                self.data_directory(manifest.dataset, table.name, manifest.run_id, layout)
                for layout in layouts
                for table in manifest.split.tables
            ]
        return any(self.storage.list(directory) for directory in directories)

    def scratch(self, dataset: str, run_id: str) -> str:
        """Return the directory of unfinished files of a run; it is outside every table."""
        return join(self.directory(dataset, run_id), "unfinished")

    def datasets(self) -> list[str]:
        """Return the names of the datasets that have runs."""
        return [entry.name for entry in self.storage.list(join(self.target, METADATA)) if entry.is_directory]

    def ids(self, dataset: str) -> list[str]:
        """Return the ids of the runs of a dataset that have a manifest, oldest first."""
        return [run_id for run_id in self.all_run_ids(dataset) if self.has_manifest(dataset, run_id)]

    def all_run_ids(self, dataset: str) -> list[str]:
        """Return `ids` and the ids of runs that were killed while they were created or deleted."""
        entries = self.storage.list(join(self.metadata_directory(dataset), "runs"))
        names = [entry.name for entry in entries if entry.is_directory and RUN_ID.fullmatch(entry.name)]
        return sorted(names, key=started_at)

    def has_manifest(self, dataset: str, run_id: str) -> bool:
        """Return whether a run has a manifest; its deletion begins with that of the manifest."""
        return self.storage.exists(self.path(dataset, run_id))

    def path(self, dataset: str, run_id: str) -> str:
        """Return the path of the manifest of a run."""
        return join(self.directory(dataset, run_id), "manifest.json")

    def save(self, manifest: Manifest) -> None:
        """Write the manifest atomically, over the version that this writer last read or wrote.

        Raises:
            LeaseError: another process has written it since (on S3, which has no locks).
            StorageError: it cannot be written.
        """
        path = self.path(manifest.dataset, manifest.run_id)
        self._replace(path, manifest.model_dump_json(indent=1).encode())

    def _replace(self, path: str, content: bytes) -> None:
        try:
            try:
                version = self.storage.replace(path, content, self._versions.get(path))
            except ChangedError:
                current, version = self.storage.read_version(path)
                if current != self._unsure.get(path):
                    raise
                version = self.storage.replace(path, content, version)
        except ChangedError as error:
            raise LeaseError(
                f"{path}: another run has written this manifest, so this run stops; check "
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
            StorageError: the file is missing, damaged, or written by a newer version.
        """
        path = self.path(dataset, run_id)
        content, self._versions[path] = self.storage.read_version(path)
        self._unsure.pop(path, None)
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise StorageError(f"{path}: {_unreadable(content, error)}") from error
        if (manifest.dataset, manifest.run_id) != (dataset, run_id):
            raise StorageError(
                f"{path}: is the manifest of {manifest.dataset} {manifest.run_id}; move it to that run's directory"
            )
        return manifest

    def manifests(self, dataset: str, unreadable: Callable[[str], None] | None = None) -> list[Manifest]:
        """Return all runs of a dataset, oldest first; for `unreadable` see `newest_first`.

        Raises:
            StorageError: a manifest cannot be read.
        """
        return [*self.newest_first(dataset, unreadable=unreadable)][::-1]

    def newest_first(
        self, dataset: str, prefix: str = "", unreadable: Callable[[str], None] | None = None
    ) -> Iterator[Manifest]:
        """Yield the runs whose id begins with `prefix`, newest first; read each manifest lazily.

        Args:
            dataset: name of the dataset.
            prefix: prefix of the run ids.
            unreadable: called with a message for each manifest that cannot be read; None raises the error.

        Raises:
            StorageError: a manifest cannot be read.
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
        """Return the run with this id, in any dataset; `last` is the one that started last.

        A unique prefix of at least four characters, of the id or of its last part, is enough.

        Raises:
            SelectionError: no run has this id, or several ids begin with it; the message lists runs.
        """
        owners = {known: dataset for dataset in datasets or self.datasets() for known in self.ids(dataset)}
        latest = sorted(owners, key=started_at, reverse=True)
        if run_id == "last" and latest:
            run_id = latest[0]
        matches = matching(run_id, owners)
        if len(matches) == 1:
            return self.load(owners[matches[0]], matches[0])
        if matches:
            shown = ", ".join(matches[-_SHOWN_RUNS:])
            raise SelectionError(
                f"run {run_id!r} is ambiguous: it names {counted(len(matches), 'run')} below {self.target}; "
                f"give more characters, or the last part of an id: {shown}"
            )
        recent = ", ".join(latest[:3]) or "none"
        hint = did_you_mean_run(run_id, latest)
        raise SelectionError(f"no run {run_id!r} below {self.target}; {hint}latest: {recent}")

    def record_replaced(self, dataset: str, run_id: str, at: datetime) -> None:
        """Record that tables stop showing a run at this time; the caller must hold the lease.

        On S3, a command that was suspended on the way to this write does not replace the later time of another one.

        Raises:
            LeaseError: other commands write the record all the time.
        """
        path, text = self._replaced_path(dataset, run_id), at.isoformat(timespec="seconds")
        for _ in range(_ATTEMPTS):
            before, version = self._content(path)
            if before and _has_time(before) and before.decode() >= text:
                return
            try:
                self.storage.replace(path, text.encode(), version)
            except ChangedError:
                continue
            return
        raise LeaseError(
            f"{path}: other commands changed this file {counted(_ATTEMPTS, 'time')}; wait for them, then run again"
        )

    def replaced_at(self, dataset: str, run_id: str) -> datetime | None:
        """Return when a run stopped being live; None if it was not recorded, for example by an earlier version.

        Raises:
            StorageError: the record cannot be read or is damaged.
        """
        path = self._replaced_path(dataset, run_id)
        if not self.storage.exists(path):
            return None
        content = self.storage.read(path)
        try:
            moment = datetime.fromisoformat(content.decode())
        except ValueError:
            moment = datetime.min
        # A truncated time has no time zone.
        if moment.tzinfo is None:
            raise StorageError(f"{path}: expected a time with a time zone, found {content[:40]!r}; delete the file")
        return moment

    def _replaced_path(self, dataset: str, run_id: str) -> str:
        return join(self.directory(dataset, run_id), "replaced_at.txt")

    def claim_path(self, dataset: str, run_id: str) -> str:
        """Return the path of the claim of a run; see `claims.py`."""
        return join(self.directory(dataset, run_id), "claim.json")

    def delete_manifest(self, dataset: str, run_id: str) -> None:
        """Delete the manifest of a run; without it, the run no longer exists for Bucketwheel."""
        self.storage.delete(self.path(dataset, run_id))

    def clear(self, dataset: str, run_id: str) -> None:
        """Delete the remaining metadata and unfinished uploads of a run, and its claim last."""
        directory, claim = self.directory(dataset, run_id), self.claim_path(dataset, run_id)
        for entry in self.storage.list(directory):
            if entry.is_directory:
                self.storage.delete_directory(entry.location)
            elif entry.location != claim:
                self.storage.delete(entry.location)
        self.storage.abandon_uploads(join(self.target, dataset), run_id)
        self.storage.delete(claim)
        self.storage.delete_directory(directory)

    def sweep(self, dataset: str) -> None:
        """Delete what killed processes left in the metadata; the caller must hold the lease; see `Storage.sweep`."""
        for directory in (self.metadata_directory(dataset), self.snapshot_file(dataset).rpartition("/")[0]):
            self.storage.sweep(directory)

    def snapshot_file(self, dataset: str) -> str:
        """Return the path of the file that tells other jobs the published snapshot date."""
        return join(self.target, dataset, "metadata", "snapshot_dt.txt")

    def tables_file(self, dataset: str) -> str:
        """Return the path of the file that tells other jobs what each table shows."""
        return join(self.target, dataset, "metadata", "tables.json")

    def write_published(self, record: PublishedRecord) -> None:
        """Write `tables_file`, then `snapshot_file`, each only if its content changed.

        If the second fails, restore the first.

        Raises:
            LeaseError: another run wrote them at the same time.
            StorageError: they cannot be written.
        """
        tables, snapshot = self.tables_file(record.dataset), self.snapshot_file(record.dataset)
        before, _ = self._content(tables)
        self._write_changed(tables, record.document())
        try:
            self._write_changed(snapshot, record.snapshot_dt.encode())
        except BaseException:
            with suppress(BucketwheelError):
                if before is None:
                    self.storage.delete(tables)
                else:
                    self._write_changed(tables, before)
            raise

    def published(self, dataset: str) -> PublishedRecord | None:
        """Return the content of `tables_file`; None if it does not exist or is damaged."""
        content, _ = self._content(self.tables_file(dataset))
        try:
            return None if content is None else PublishedRecord.model_validate_json(content)
        except ValidationError:
            return None

    def published_snapshot(self, dataset: str) -> str | None:
        """Return the content of `snapshot_file`, or None if it does not exist."""
        content, _ = self._content(self.snapshot_file(dataset))
        return None if content is None else content.decode(errors="replace")

    def _write_changed(self, path: str, content: bytes) -> None:
        before, version = self._content(path)
        if before != content:
            try:
                self.storage.replace(path, content, version)
            except ChangedError as error:
                raise LeaseError(f"{path}: another run wrote it at the same time; run again") from error

    def _content(self, path: str) -> tuple[bytes | None, str | None]:
        return self.storage.read_version(path) if self.storage.exists(path) else (None, None)


def _has_time(content: bytes) -> bool:
    """Return whether a file holds a time as `record_replaced` writes it; all are in UTC and sort as texts."""
    try:
        datetime.fromisoformat(content.decode())
    except ValueError:
        return False
    return True


def _unreadable(content: bytes, error: ValidationError) -> str:
    try:
        document = json.loads(content)
        version = document.get("schema_version", SCHEMA_VERSION)
    except (ValueError, AttributeError, RecursionError):
        return "is not a manifest, it may be damaged; restore it, or move its directory away"
    if version != SCHEMA_VERSION:
        return (
            f"was written by another version of Bucketwheel (schema_version {version}, this one reads "
            f"{SCHEMA_VERSION}); use that version"
        )
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"])) or "document"
    return f"is not a manifest ({field}: {first['msg']}), it may be damaged; restore it, or move its directory away"


class BucketCheckpoints:
    """The finished buckets of a run: one small file per bucket while the bucket stage runs."""

    def __init__(self, storage: Storage, store: RunStore, dataset: str, run_id: str) -> None:
        self._storage = storage
        self._directory = join(store.directory(dataset, run_id), "buckets")
        self._data = partial(store.data_directory, dataset, run_id=run_id)
        self._abandon = partial(storage.abandon_uploads, join(store.target, dataset), run_id)

    def load(self) -> list[BucketOutcome]:
        """See `contracts.Checkpoints.load`; a bucket with an incomplete record or file is not finished."""
        sizes: dict[tuple[str, str], dict[str, int]] = {}
        outcomes = []
        paths = [entry.location for entry in self._storage.list(self._directory) if entry.name.endswith(".json")]
        with system().pool(_READERS) as pool:
            contents = list(pool.map(self._storage.read, paths))
        for content in contents:
            try:
                outcome = BucketOutcome.model_validate_json(content)
            except ValidationError:
                # Checkpoints are not flushed to disk, so a power failure may truncate one.
                continue
            for file in outcome.files:
                if (outcome.layout, file.table) not in sizes:
                    listed = self._storage.list(self._data(file.table, layout=outcome.layout))
                    sizes[outcome.layout, file.table] = {data.name: data.bytes for data in listed}
            if all(sizes[outcome.layout, file.table].get(file.name) == file.bytes for file in outcome.files):
                outcomes.append(outcome)
        return outcomes

    def count(self) -> int:
        """Return the number of buckets that have been recorded; reads a listing only."""
        return sum(entry.name.endswith(".json") for entry in self._storage.list(self._directory))

    def save(self, outcome: BucketOutcome) -> None:
        """See `contracts.Checkpoints.save`."""
        name = f"{outcome.layout}.{outcome.bucket:06d}" if outcome.layout else f"{outcome.bucket:06d}"
        path = join(self._directory, f"{name}.json")
        self._storage.write(path, outcome.model_dump_json().encode(), durable=False)

    def clear(self) -> None:
        """Delete all checkpoints and unfinished uploads of killed workers; the manifest has the outcomes now."""
        self._storage.delete_directory(self._directory)
        self._abandon()
