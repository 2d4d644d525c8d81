"""Marks of withdrawn runs.

A rollback marks each run that it replaces, so that its data is not published again.

The marks outlive the files of the run: `expire` deletes the run, and its snapshot still counts as withdrawn.
"""

from __future__ import annotations

from pydantic import ValidationError

from bucketwheel.errors import StorageError
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.record import Record
from bucketwheel.runs.store import RunStore
from bucketwheel.storage import join

# Fingerprint entries that identify the data. Settings do not count: a run with other settings would publish the same
# wrong values.
_DATA = ("input files", "content of the mapping", "key")


class Withdrawal(Record):
    """The mark of one run.

    Attributes:
        run_id: the withdrawn run
        dataset: its dataset
        snapshot_dt: its snapshot
        inputs: entries of its fingerprint that stand for the data
        replaced_by: the run that the rollback published instead
        reason: as given to the rollback; may be empty
        by: user and machine of the rollback
        at: time of the rollback, in UTC
    """

    run_id: str
    dataset: str
    snapshot_dt: str
    inputs: dict[str, str]
    replaced_by: str
    reason: str
    by: str
    at: str

    def covers(self, manifest: Manifest) -> bool:
        """Return whether a run is the withdrawn one, or would publish the same data again."""
        same_data = manifest.snapshot_dt == self.snapshot_dt and inputs_of_run(manifest) == self.inputs
        return manifest.run_id == self.run_id or same_data

    @property
    def text(self) -> str:
        """When, by whom and why the run was withdrawn."""
        reason = f": {self.reason}" if self.reason else ""
        return f"run {self.run_id} (snapshot {self.snapshot_dt}) was withdrawn at {self.at} by {self.by}{reason}"


def inputs_of_run(manifest: Manifest) -> dict[str, str]:
    """Return the entries of a run's fingerprint that stand for the data."""
    return {name: manifest.fingerprint[name] for name in _DATA if name in manifest.fingerprint}


def save_withdrawal(runs: RunStore, withdrawal: Withdrawal) -> None:
    """Mark a run; the caller must hold the lease.

    Raises:
        StorageError: the mark cannot be written.
    """
    content = withdrawal.model_dump_json(indent=1) + "\n"
    runs.storage.write(_path(runs, withdrawal.dataset, withdrawal.run_id), content.encode())


def withdrawals(runs: RunStore, dataset: str) -> list[Withdrawal]:
    """Return the marks of a dataset.

    Raises:
        StorageError: a mark cannot be read or is damaged.
    """
    names = [entry.name for entry in runs.storage.list(_directory(runs, dataset)) if entry.name.endswith(".json")]
    return [_load(runs, join(_directory(runs, dataset), name)) for name in sorted(names)]


def remove_withdrawal(runs: RunStore, dataset: str, run_id: str) -> None:
    """Remove the mark of a run, if it has one; the caller must hold the lease."""
    runs.storage.delete(_path(runs, dataset, run_id))


def _load(runs: RunStore, path: str) -> Withdrawal:
    try:
        return Withdrawal.model_validate_json(runs.storage.read(path))
    except ValidationError as error:
        raise StorageError(
            f"{path}: is not the mark of a withdrawn run, it may be damaged; restore it, or delete it to allow that "
            "snapshot again"
        ) from error


def _directory(runs: RunStore, dataset: str) -> str:
    return join(runs.metadata_directory(dataset), "withdrawn")


def _path(runs: RunStore, dataset: str, run_id: str) -> str:
    return join(_directory(runs, dataset), f"{run_id}.json")
