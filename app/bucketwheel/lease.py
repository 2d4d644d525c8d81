"""One writer per dataset: a lease on disk that is renewed while its holder lives.

The lease is a small JSON file. Reading and changing it happens under an operating system lock beside it, so
that two writers cannot both take it and none can publish while another takes over. A holder that died is
followed at once on its own machine, elsewhere when the lease has expired.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path

import psutil

from bucketwheel.errors import BucketwheelError, ConfigError, LeaseError
from bucketwheel.storage import is_s3, translated

_POLL_SECONDS = 0.005
# Longer than any honest holder needs; only one that was stopped in mid-publication takes it.
_LOCK_SECONDS = 30


@contextmanager
def file_lock(path: Path, refused: Callable[[], BucketwheelError], seconds: float = _LOCK_SECONDS) -> Iterator[None]:
    """Hold an operating system lock on `path`, which stays as an empty file; the lock ends with its process.

    Raises:
        BucketwheelError: what `refused` returns, where another process or thread kept it for `seconds`.
        StorageError: the file cannot be made.
    """
    with translated(str(path), "lock"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    with lock:
        deadline = time.monotonic() + seconds
        while not _taken(path, lock.fileno()):
            if time.monotonic() >= deadline:
                raise refused()
            time.sleep(_POLL_SECONDS)
        yield


def _taken(path: Path, descriptor: int) -> bool:
    with translated(str(path), "lock"):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, and until when (UTC ISO time)."""

    token: str
    host: str
    pid: int
    process_started: float
    acquired: str
    expires: str

    def is_dead_here(self) -> bool:
        """Return whether the holder ran on this machine and does not any more."""
        return self.host == _host() and _started(self.pid) != self.process_started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition('/')[0]}"


def _host() -> str:
    """Return what tells apart all places whose process ids mean different processes."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    # Containers may share a host's name and its boot, but not its process ids.
    spaces = namespace.readlink().name if namespace.is_symlink() else ""
    return f"{socket.gethostname()}/{boot.read_text().strip() if boot.is_file() else ''}/{spaces}"


def _started(pid: int) -> float | None:
    """Return when a process started, in whatever unit the system keeps unchanged, or None where it is dead."""
    if Path("/proc/self/stat").exists():
        try:
            found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # A time of day made from these ticks would move when the clock is set, and look like another process.
        return None if found[0] in "ZX" else float(found[19])
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


class Lease:
    """The lease of one dataset; use as a context manager for the length of a run.

    A renewal that fails (disk full, say) is tried again sooner than the next one was due, for as long as the
    run lasts: the lease only gets lost when it expires meanwhile and somebody takes it.

    Args:
        directory: where the books of the dataset are.
        ttl_seconds: how long the holder may be silent.
        now: the clock.
        lock_seconds: how long to wait for another process that is publishing.

    Raises:
        LeaseError: on entering, somebody else holds it; names who and until when.
    """

    def __init__(
        self,
        directory: str,
        ttl_seconds: float,
        now: Callable[[], datetime],
        lock_seconds: float = _LOCK_SECONDS,
    ) -> None:
        if is_s3(directory):
            raise ConfigError(f"{directory}: this version writes to local disks only; set target to a local path")
        self._file = Path(directory) / "lease.json"
        self._ttl = ttl_seconds
        self._now = now
        self._lock_seconds = lock_seconds
        self._token = uuid.uuid4().hex
        self._acquired = ""
        self._due = now()
        self._trouble = ""
        self._mutex = threading.RLock()
        self._depth = 0
        self._stop = threading.Event()
        self._renewer = threading.Thread(target=self._renew_until_stopped, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        with self._locked():
            holder = self._read()
            if holder and datetime.fromisoformat(holder.expires) > self._now() and not holder.is_dead_here():
                raise LeaseError(
                    f"another run holds the lease {self._file}: {holder} since {holder.acquired}, renewed until "
                    f"{holder.expires}; wait for it, or end it"
                )
            self._acquired = self._now().isoformat(timespec="seconds")
            self._write()
        self._renewer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._renewer.join()
        try:
            with self._locked():
                holder = self._read()
                if holder and holder.token == self._token:
                    with translated(str(self._file), "delete"):
                        self._file.unlink()
        except BucketwheelError:
            # The run has ended as it has ended; a lease that stays behind is void with this process.
            return

    @contextmanager
    def guard(self) -> Iterator[None]:
        """See `contracts.Fence.guard`."""
        with self._locked():
            holder = self._read()
            if holder is None or holder.token != self._token:
                self._raise_lost(holder)
            try:
                yield
            finally:
                # Nobody could take over until now; after a long block somebody could at once.
                if self._depth == 1 and self._now() >= self._due:
                    self._try_to_renew()

    def renew(self) -> bool:
        """Put off the expiry; return False where somebody else has the lease.

        Raises:
            BucketwheelError: the lease cannot be written; it is worth another try.
        """
        with self._locked():
            holder = self._read()
            if holder is None or holder.token != self._token:
                return False
            self._write()
            self._trouble = ""
            return True

    def _raise_lost(self, holder: Holder | None) -> None:
        why = f"it could not be renewed: {self._trouble}" if self._trouble else "it was silent for too long"
        raise LeaseError(
            f"this run lost the lease {self._file} ({holder or 'nobody'} holds it now) and publishes nothing more; "
            f"{why} (lease.ttl_seconds={self._ttl:g})"
        )

    def _renew_until_stopped(self) -> None:
        held = True
        while held and not self._stop.wait(self._ttl / (12 if self._trouble else 3)):
            held = self._try_to_renew()

    def _try_to_renew(self) -> bool:
        try:
            return self.renew()
        except Exception as error:  # noqa: BLE001 a thread that ends here would lose the lease without a word
            self._trouble = str(error) or type(error).__name__
            return True

    def _read(self) -> Holder | None:
        known = {field.name for field in fields(Holder)}
        try:
            with translated(str(self._file), "read"):
                content = self._file.read_bytes() if self._file.exists() else b""
            return Holder(**{name: value for name, value in json.loads(content).items() if name in known})
        except (ValueError, TypeError, AttributeError):
            return None  # A lease that was never finished holds nothing.

    def _write(self) -> None:
        expires = self._now() + timedelta(seconds=self._ttl)
        holder = Holder(
            self._token,
            _host(),
            os.getpid(),
            _started(os.getpid()) or 0.0,
            self._acquired,
            expires.isoformat(timespec="milliseconds"),
        )
        aside = self._file.with_suffix(".new")
        with translated(str(self._file), "write"):
            aside.write_text(json.dumps(asdict(holder)))
            aside.replace(self._file)
        self._due = self._now() + timedelta(seconds=self._ttl / 3)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Shut out other processes, and other threads of this one; the thread that has it may enter again."""
        with self._mutex:
            self._depth += 1
            try:
                if self._depth > 1:
                    yield
                else:
                    with file_lock(self._file.with_suffix(".lock"), self._refused, self._lock_seconds):
                        yield
            finally:
                self._depth -= 1

    def _refused(self) -> LeaseError:
        return LeaseError(
            f"another run ({self._read() or 'not named'}) has kept {self._file} locked for {self._lock_seconds:g} s: "
            "it is publishing, or was stopped while it was; wait for it, or end it"
        )
