"""One writer per dataset: a lease that is renewed while its holder lives.

The lease is a small JSON file. On disk it is read and changed under an operating system lock, so that two writers
cannot both take it and none can publish while another takes over; `s3.py` uses conditional puts instead. If the
holder died, its lease is taken over immediately on the same host, elsewhere after it expires.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn, Protocol

import psutil

from bucketwheel.errors import BucketwheelError, ChangedError, LeaseError, StorageError
from bucketwheel.lease.disk import DiskLeaseFile
from bucketwheel.lease.s3 import ObjectLeaseFile
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage, is_s3, join
from bucketwheel.storage.lock import LOCK_SECONDS

_LOG = logging.getLogger("bucketwheel")


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, and until when (UTC ISO time).

    `run_id` is the run that the holder works on, empty if it has not chosen one or works on none, and None if an
    older version wrote the lease.
    """

    token: str
    host: str
    pid: int
    process_started: float
    acquired: str
    expires: str
    run_id: str | None = None

    def is_dead_here(self) -> bool:
        """Return whether the holder ran on this host and has ended."""
        return self.host == _host() and _started(self.pid) != self.process_started

    def may_work_on(self, run_id: str, now: datetime) -> bool:
        """Return whether the holder may be alive and working on a run.

        Ask the operating system about a process on this host. A process elsewhere counts as dead once its lease has
        expired.
        """
        if self.run_id not in (None, run_id):
            return False
        if self.host == _host():
            return not self.is_dead_here()
        return datetime.fromisoformat(self.expires) > now

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition('/')[0]}"


def _host() -> str:
    """Return the id of this host and of the process id namespace of this process."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    # Containers may share the name and boot id of a host, but not its process ids.
    spaces = namespace.readlink().name if namespace.is_symlink() else ""
    return f"{socket.gethostname()}/{boot.read_text().strip() if boot.is_file() else ''}/{spaces}"


def _started(pid: int) -> float | None:
    """Return the start time of a process, in clock ticks since the boot if `/proc` exists, or None if it is dead."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # Converted to a time of day, the ticks would change with the clock, as if another process had this id.
        return None if stat[0] in "ZX" else float(stat[19])
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def read_holder(directory: str, storage: Storage) -> Holder | None:
    """Return the holder of the lease in the metadata directory of a dataset, or None if it is free.

    The holder may have died.
    """
    path = join(directory, "lease.json")
    try:
        return _parse(storage.read(path))
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        return None


def _parse(content: bytes) -> Holder | None:
    known = {field.name for field in fields(Holder)}
    try:
        return Holder(**{name: value for name, value in json.loads(content).items() if name in known})
    except (ValueError, TypeError, AttributeError):
        return None  # An incomplete lease has no holder.


class LeaseFile(Protocol):
    """File that holds a lease and prevents concurrent changes.

    `excludes` is True if `locked` excludes other writers.
    """

    name: str
    excludes: bool

    def locked(self) -> AbstractContextManager[None]:
        """Exclude other writers while the block runs, if the storage has locks."""
        ...

    def read(self) -> bytes:
        """Return the content, empty if there is no lease."""
        ...

    def write(self, content: bytes) -> None:
        """Replace the content that was read last.

        Raises:
            ChangedError: another writer modified it since.
        """
        ...

    def delete(self) -> None:
        """Release the lease; see `write`."""
        ...


class Lease:
    """The lease of one dataset; use as a context manager for the length of a run.

    A failed renewal (full disk, for example) is retried early, for as long as the run lasts: the lease is lost only
    if it expires and another run takes it.

    Args:
        directory: metadata directory of the dataset.
        ttl_seconds: lifetime of the lease without a renewal, in seconds.
        now: the clock. On S3, the clocks of all writing machines must agree to well within `ttl_seconds`.
        lock_seconds: longest wait for another publishing process, on disk.
        storage: access to S3.

    Raises:
        LeaseError: on entering, another run holds the lease; names the holder and the expiry.
    """

    def __init__(
        self,
        directory: str,
        ttl_seconds: float,
        now: Callable[[], datetime],
        lock_seconds: float = LOCK_SECONDS,
        storage: Storage | None = None,
    ) -> None:
        self._file: LeaseFile
        if is_s3(directory):
            self._file = ObjectLeaseFile(join(directory, "lease.json"), storage or Storage(StorageSettings()))
        else:
            self._file = DiskLeaseFile(Path(directory) / "lease.json", lock_seconds, self._read)
        self._ttl = ttl_seconds
        self._now = now
        self._token = uuid.uuid4().hex
        self._acquired = ""
        self._run_id = ""
        self._due = now()
        self._renewal_error = ""
        self._mutex = threading.RLock()
        self._depth = 0
        self._stop = threading.Event()
        self._renewer = threading.Thread(target=self._renew_until_stopped, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        with self._locked():
            holder = self._read()
            if holder and datetime.fromisoformat(holder.expires) > self._now() and not holder.is_dead_here():
                raise LeaseError(
                    f"another run holds the lease {self._file.name}: {holder} since {holder.acquired}, renewed until "
                    f"{holder.expires}; wait for it to finish, or stop it"
                )
            self._acquired = self._now().isoformat(timespec="seconds")
            try:
                self._write()
            except ChangedError as error:
                raise LeaseError(
                    f"another run took the lease {self._file.name} at the same moment ({self._read() or 'unknown'})"
                    "; wait for it to finish, or stop it"
                ) from error
        if holder:
            why = "which has ended" if holder.is_dead_here() else f"whose lease expired at {holder.expires}"
            _LOG.warning("%s: took over the lease of %s, %s", self._file.name, holder, why)
        self._renewer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._renewer.join()
        try:
            with self._locked():
                if self._is_held(self._read()):
                    self._file.delete()
        except BucketwheelError:
            # This never changes the result of the run; a remaining lease becomes invalid when this process ends.
            return

    @contextmanager
    def guard(self) -> Iterator[None]:
        """See `contracts.Fence.guard`."""
        if not self._file.excludes:
            with self._locked():
                self._check()
            yield
            return
        with self._locked():
            self._check()
            try:
                yield
            finally:
                # Until here the lock excluded others; after a long block the lease may have expired.
                if self._depth == 1 and self._now() >= self._due:
                    self._try_to_renew()

    def _check(self) -> None:
        """Raise LeaseError if the lease is lost; without locks, renew it when due."""
        holder = self._read()
        if not self._is_held(holder):
            self._raise_lost(holder)
        if not self._file.excludes and self._now() >= self._due:
            try:
                self._write()
            except ChangedError:
                self._raise_lost(self._read())

    def works_on(self, run_id: str) -> None:
        """Record the run in the lease, so that other commands know which run is still running.

        Raises:
            LeaseError: another run has the lease.
        """
        self._run_id = run_id
        # If the write fails, the next renewal records the run.
        if not self._try_to_renew():
            self._raise_lost(self._read())

    def renew(self) -> bool:
        """Extend the lease; return False if another run has it.

        Raises:
            BucketwheelError: the lease cannot be written; the caller may retry.
        """
        with self._locked():
            if not self._is_held(self._read()):
                return False
            self._write()
            self._renewal_error = ""
            return True

    def _is_held(self, holder: Holder | None) -> bool:
        return holder is not None and holder.token == self._token

    def _raise_lost(self, holder: Holder | None) -> NoReturn:
        why = (
            f"it could not be renewed: {self._renewal_error}" if self._renewal_error else "it was not renewed in time"
        )
        raise LeaseError(
            f"this run lost the lease {self._file.name} ({holder or 'nobody'} holds it now) and will not "
            f"publish; {why} (lease.ttl_seconds={self._ttl:g})"
        )

    def _renew_until_stopped(self) -> None:
        held = True
        while held and not self._stop.wait(self._ttl / (12 if self._renewal_error else 3)):
            held = self._try_to_renew()

    def _try_to_renew(self) -> bool:
        try:
            return self.renew()
        except Exception as error:  # noqa: BLE001 a thread that ends here would lose the lease silently
            self._renewal_error = str(error) or type(error).__name__
            _LOG.warning("%s: the lease could not be renewed: %s", self._file.name, self._renewal_error)
            return True

    def _read(self) -> Holder | None:
        return _parse(self._file.read())

    def _write(self) -> None:
        expires = self._now() + timedelta(seconds=self._ttl)
        holder = Holder(
            self._token,
            _host(),
            os.getpid(),
            _started(os.getpid()) or 0.0,
            self._acquired,
            expires.isoformat(timespec="milliseconds"),
            self._run_id,
        )
        self._file.write(json.dumps(asdict(holder)).encode())
        self._due = self._now() + timedelta(seconds=self._ttl / 3)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude other processes and threads; reentrant for the thread that holds the lock."""
        with self._mutex:
            self._depth += 1
            try:
                if self._depth > 1:
                    yield
                else:
                    with self._file.locked():
                        yield
            finally:
                self._depth -= 1
