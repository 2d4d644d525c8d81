"""One writer per dataset: a lease that is renewed while its holder lives.

The lease is a small JSON file. On disk it is read and changed under an operating system lock, so that two writers
cannot both take it and none can publish while another takes over; `s3.py` uses conditional puts instead. If the
holder died, its lease is taken over immediately on the same host, elsewhere after it expires.

A lease that is valid for longer than any holder asks for was written with a wrong clock, and a damaged one has no
expiry. Both are taken over if nothing changes them for as long as a holder may go without a renewal, by the own
monotonic clock.
"""

from __future__ import annotations

import logging
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, Protocol

from bucketwheel.errors import BucketwheelError, ChangedError, LeaseError
from bucketwheel.lease.disk import DiskLeaseFile
from bucketwheel.lease.holder import Damaged, Holder, current_processes, parse, read_holder
from bucketwheel.lease.s3 import ObjectLeaseFile
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage, is_s3, join
from bucketwheel.storage.lock import LOCK_SECONDS
from bucketwheel.system import Clock, system

__all__ = ["Holder", "Lease", "LeaseFile", "read_holder"]

_LOG = logging.getLogger("bucketwheel")
# Tolerated difference of two clocks, and of two intervals, as a share of the time to live of a lease.
_MARGIN = 0.25
# Number of looks at a lease during its time to live, while nobody renews it.
_LOOKS = 30


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
        clock: the clock; None takes that of `system()`. The clocks of all writing machines should agree to well
            within `ttl_seconds`.
        lock_seconds: longest wait for another publishing process, on disk.
        storage: access to S3.
        file: the file of the lease; None opens the usual one.
        warn: called with the reason why taking the lease takes a while.

    Raises:
        LeaseError: on entering, another run holds the lease; names the holder and the expiry.
    """

    def __init__(
        self,
        directory: str,
        ttl_seconds: float,
        clock: Clock | None = None,
        lock_seconds: float = LOCK_SECONDS,
        storage: Storage | None = None,
        file: LeaseFile | None = None,
        warn: Callable[[str], None] = _LOG.warning,
    ) -> None:
        surroundings = system()
        self._file = file or self._open(directory, lock_seconds, storage)
        self._ttl = ttl_seconds
        self._clock = clock or surroundings.clock
        self._warn = warn
        self._repeat = surroundings.repeat
        self._own = current_processes().own()
        self._token = surroundings.new_id()
        self._acquired = ""
        self._run_id = ""
        self._due = self._clock.monotonic()
        self._renewal_error = ""
        self._mutex = threading.RLock()
        self._depth = 0
        self._stop_renewing: Callable[[], None] = lambda: None

    def _open(self, directory: str, lock_seconds: float, storage: Storage | None) -> LeaseFile:
        if chosen := system().lease_file:
            file: LeaseFile = chosen(directory)
            return file
        if is_s3(directory):
            return ObjectLeaseFile(join(directory, "lease.json"), storage or Storage(StorageSettings()))
        return DiskLeaseFile(Path(directory) / "lease.json", lock_seconds, self._read)

    def __enter__(self) -> Lease:
        watch: _Watch | None = None
        while True:
            with self._locked():
                content = self._file.read()
                holder = parse(content)
                if holder is None or self._has_ended(holder) or (watch and watch.is_over(content)):
                    self._take(holder)
                    break
            if watch and content != watch.content:
                raise self._held(holder)
            if not watch:
                watch = self._watch(content, holder)
            self._clock.sleep(watch.seconds / _LOOKS)
        self._stop_renewing = self._repeat(self._renew_in_background, self._ttl / 3, "lease")
        return self

    def _has_ended(self, holder: Holder | Damaged) -> bool:
        return isinstance(holder, Holder) and (holder.expiry <= self._clock.now() or holder.is_alive() is False)

    def _watch(self, content: bytes, holder: Holder | Damaged) -> _Watch:
        """Start to watch an odd lease.

        Raises:
            LeaseError: the lease is not odd, and its holder has it.
        """
        if not self._is_odd(holder):
            raise self._held(holder)
        seconds = self._longest(holder)
        self._warn(
            f"{self._state(holder)}; this command waits {seconds:g} s for a renewal, then takes it over; to take it "
            f"over immediately, make sure that no process works on the dataset, and delete the file: "
            f"{_delete_command(self._file.name)}"
        )
        return _Watch(self._clock, content, seconds)

    def _longest(self, holder: Holder | Damaged) -> float:
        """Return the longest time that a living holder lets pass between renewals, with a margin."""
        theirs = holder.ttl_seconds if isinstance(holder, Holder) else None
        return max(self._ttl, theirs or 0) * (1 + _MARGIN)

    def _is_odd(self, holder: Holder | Damaged) -> bool:
        """Return whether neither the content of a lease nor the system tells whether its holder lives."""
        if isinstance(holder, Damaged):
            return True
        return self._ahead(holder) > self._longest(holder) and not holder.is_alive()

    def _ahead(self, holder: Holder) -> float:
        return (holder.expiry - self._clock.now()).total_seconds()

    def _state(self, holder: Holder | Damaged) -> str:
        if isinstance(holder, Damaged):
            return f"the lease {self._file.name} is held by {holder}"
        return (
            f"the lease {self._file.name} of {holder} is valid until {holder.expires}, {self._ahead(holder):,.0f} s "
            f"from now, but leases last {self._longest(holder) / (1 + _MARGIN):g} s: the clock of that machine or of "
            "this one is wrong; set it"
        )

    def _held(self, holder: Holder | Damaged) -> LeaseError:
        if self._is_odd(holder):
            return LeaseError(
                f"{self._state(holder)}; another process renewed it just now; wait for it to finish, or stop it"
            )
        assert isinstance(holder, Holder)
        return LeaseError(
            f"another run holds the lease {self._file.name}: {holder} since {holder.acquired}, renewed until "
            f"{holder.expires}; wait for it to finish, or stop it"
        )

    def _take(self, before: Holder | Damaged | None) -> None:
        """Write the lease; the caller has decided that it is free."""
        self._acquired = self._clock.now().isoformat(timespec="seconds")
        try:
            self._write()
        except ChangedError as error:
            raise LeaseError(
                f"another run took the lease {self._file.name} at the same moment ({self._read() or 'unknown'})"
                "; wait for it to finish, or stop it"
            ) from error
        if isinstance(before, Damaged):
            _LOG.warning("%s: took over a damaged lease (%s)", self._file.name, before.problem)
        elif before:
            _LOG.warning("%s: took over the lease of %s, %s", self._file.name, before, self._ending(before))

    def _ending(self, holder: Holder) -> str:
        if holder.is_alive() is False:
            return "which has ended"
        if holder.expiry > self._clock.now():
            return f"which did not renew it for {self._longest(holder):g} s"
        return f"whose lease expired at {holder.expires}"

    def __exit__(self, *_: object) -> None:
        self._stop_renewing()
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
                if self._depth == 1 and self._clock.monotonic() >= self._due:
                    self._try_to_renew()

    def _check(self) -> None:
        """Raise LeaseError if the lease is lost; without locks, renew it when due."""
        holder = self._read()
        if not self._is_held(holder):
            self._raise_lost(holder)
        if not self._file.excludes and self._clock.monotonic() >= self._due:
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

    def _is_held(self, holder: Holder | Damaged | None) -> bool:
        return holder is not None and holder.token == self._token

    def _raise_lost(self, holder: Holder | Damaged | None) -> NoReturn:
        why = (
            f"it could not be renewed: {self._renewal_error}" if self._renewal_error else "it was not renewed in time"
        )
        raise LeaseError(
            f"this run lost the lease {self._file.name} ({holder or 'nobody'} holds it now) and will not "
            f"publish; {why} (lease.ttl_seconds={self._ttl:g})"
        )

    def _renew_in_background(self) -> float | None:
        """Renew the lease; return the seconds until the next renewal, or None if another run has the lease."""
        if not self._try_to_renew():
            return None
        return self._ttl / (12 if self._renewal_error else 3)

    def _try_to_renew(self) -> bool:
        try:
            return self.renew()
        except Exception as error:  # noqa: BLE001 a thread that ends here would lose the lease silently
            self._renewal_error = str(error) or type(error).__name__
            _LOG.warning("%s: the lease could not be renewed: %s", self._file.name, self._renewal_error)
            return True

    def _read(self) -> Holder | Damaged | None:
        return parse(self._file.read())

    def _write(self) -> None:
        holder = Holder(
            token=self._token,
            host=self._own.host,
            pid=self._own.pid,
            process_started=self._own.started,
            acquired=self._acquired,
            expires=(self._clock.now() + timedelta(seconds=self._ttl)).isoformat(timespec="milliseconds"),
            run_id=self._run_id,
            ttl_seconds=self._ttl,
        )
        self._file.write(holder.model_dump_json().encode())
        self._due = self._clock.monotonic() + self._ttl / 3

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


def _delete_command(path: str) -> str:
    return f"aws s3 rm {shlex.quote(path)}" if is_s3(path) else f"rm {shlex.quote(path)}"


class _Watch:
    """Watches whether a lease changes for as long as its holder may go without a renewal."""

    def __init__(self, clock: Clock, content: bytes, seconds: float) -> None:
        self.content = content
        self.seconds = seconds
        self._clock = clock
        self._end = clock.monotonic() + seconds

    def is_over(self, content: bytes) -> bool:
        """Return whether the time is over and the lease has not changed."""
        return content == self.content and self._clock.monotonic() >= self._end
