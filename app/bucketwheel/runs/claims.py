"""The claim of a run: a small file that says whether its tables are published or its files are being deleted.

Publishing and `expire` both write the claim before they start, each over the version that it read last. On S3, which
has no locks, the store therefore refuses the second of two concurrent writers; on disk, the lock of the lease
excludes it. `expire` deletes the manifest first and the claim last. Runs of earlier versions have no claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field, ValidationError

from bucketwheel.errors import BucketwheelError, ChangedError, LeaseError, SelectionError, StorageError
from bucketwheel.formatting import counted
from bucketwheel.runs.record import Record
from bucketwheel.runs.store import RunStore
from bucketwheel.storage import is_s3
from bucketwheel.system import system

_ATTEMPTS = 5
_READERS = 8


def _token() -> str:
    return system().new_id()


class Claim(Record):
    """The content of a claim.

    Attributes:
        state: `shown` once publishing began, `deleting` once `expire` began, `free` if `expire` gave the run up
        at: time of the write, in UTC
        token: different for every write, so that each write has its own version (ETag) on S3
    """

    state: Literal["shown", "deleting", "free"]
    at: datetime
    token: str = Field(default_factory=_token)


@dataclass(frozen=True)
class StoredClaim:
    """A claim and its version in the storage; both are None if the run has no claim."""

    claim: Claim | None = None
    version: str | None = None

    @property
    def deletes(self) -> bool:
        """Return whether `expire` has begun to delete the run."""
        return self.claim is not None and self.claim.state == "deleting"


def read_claim(runs: RunStore, dataset: str, run_id: str) -> StoredClaim:
    """Return the claim of a run.

    Raises:
        StorageError: the claim cannot be read or is damaged.
    """
    path = runs.claim_path(dataset, run_id)
    try:
        content, version = runs.storage.read_version(path)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return StoredClaim()
        raise
    try:
        return StoredClaim(Claim.model_validate_json(content), version)
    except ValidationError as error:
        raise StorageError(
            f"{path}: is not the claim of a run, it may be damaged; delete it while no command works on {dataset}"
        ) from error


def read_claims(runs: RunStore, dataset: str, run_ids: Sequence[str]) -> dict[str, StoredClaim]:
    """Return the claim of each run; see `read_claim`."""
    with system().pool(_READERS) as pool:
        claims = pool.map(lambda run_id: read_claim(runs, dataset, run_id), run_ids)
        return dict(zip(run_ids, claims, strict=True))


def claim_shown(runs: RunStore, dataset: str, run_id: str, at: datetime) -> None:
    """Claim a run for publishing; the caller must hold the lease and change the catalog afterwards.

    Raises:
        SelectionError: `expire` deletes the run, or has deleted it.
        LeaseError: other writers change the claim all the time.
        StorageError: the claim cannot be read or written.
    """
    path = runs.claim_path(dataset, run_id)
    version = runs.claim_versions.get(path)
    if not is_s3(path):
        # Disks do not compare versions; the caller has locked the lease, so an earlier claim is enough.
        stored = _not_deleting(runs, dataset, run_id)
        if stored.claim and stored.claim.state == "shown":
            return
        version = stored.version
    for _ in range(_ATTEMPTS):
        try:
            runs.claim_versions[path] = _write(runs, path, Claim(state="shown", at=at), version)
        except ChangedError:
            version = _not_deleting(runs, dataset, run_id).version
            continue
        # `expire` deletes the manifest before the claim: without a manifest, it has deleted the files too.
        if version is None and not runs.has_manifest(dataset, run_id):
            raise _refusal(f"run {run_id} has been deleted by `bucketwheel expire`", dataset)
        return
    raise LeaseError(
        f"{path}: other commands changed this claim {counted(_ATTEMPTS, 'time')}; wait for them, then run again"
    )


def claim_deleting(runs: RunStore, dataset: str, run_id: str, before: StoredClaim, at: datetime) -> StoredClaim:
    """Claim a run for deletion, over the claim `before`; the caller must hold the lease.

    Raises:
        ChangedError: another command has changed the claim.
        StorageError: the claim cannot be written.
    """
    claim = Claim(state="deleting", at=at)
    return StoredClaim(claim, _write(runs, runs.claim_path(dataset, run_id), claim, before.version))


def give_up_deletion(runs: RunStore, dataset: str, run_id: str, before: StoredClaim, own: StoredClaim) -> None:
    """Write back the claim `before`, after no file was deleted; another command's claim stays.

    An earlier deletion that was broken off also stays: files may be missing.
    """
    if before.deletes:
        return
    path, free = runs.claim_path(dataset, run_id), {"state": "free"}
    claim = before.claim or (own.claim and own.claim.model_copy(update=free))
    if claim is not None:
        with suppress(BucketwheelError):
            _write(runs, path, claim.model_copy(update={"token": _token()}), own.version)


def _write(runs: RunStore, path: str, claim: Claim, version: str | None) -> str:
    return runs.storage.replace(path, claim.model_dump_json().encode(), version)


def _not_deleting(runs: RunStore, dataset: str, run_id: str) -> StoredClaim:
    """Return the claim.

    Raises:
        SelectionError: `expire` deletes the run.
    """
    stored = read_claim(runs, dataset, run_id)
    if stored.claim and stored.deletes:
        raise _refusal(
            f"run {run_id} is being deleted: `bucketwheel expire` began at {stored.claim.at:%Y-%m-%d %H:%M:%S} UTC",
            dataset,
        )
    return stored


def _refusal(what: str, dataset: str) -> SelectionError:
    error = SelectionError(
        f"{what}, so its tables cannot be published; nothing was changed. Finish the deletion with `bucketwheel "
        f"expire {dataset}`, then start a new run with `bucketwheel run {dataset}`",
        fix="Finish the deletion",
    )
    error.resumable = False
    return error
