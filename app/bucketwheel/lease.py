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
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psutil

from bucketwheel.errors import ConfigError, LeaseError
from bucketwheel.storage import is_s3, translated


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
        if self.host != _host():
            return False
        try:
            return psutil.Process(self.pid).create_time() != self.process_started
        except psutil.NoSuchProcess:
            return True


def _host() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{boot.read_text().strip() if boot.exists() else ''}"


class Lease:
    """The lease of one dataset; use as a context manager for the length of a run.

    Args:
        directory: where the books of the dataset are.
        ttl_seconds: how long the holder may be silent.
        now: the clock.

    Raises:
        LeaseError: on entering, somebody else holds it; names who and until when.
    """

    def __init__(self, directory: str, ttl_seconds: float, now: Callable[[], datetime]) -> None:
        if is_s3(directory):
            raise ConfigError(f"{directory}: this version writes to local disks only; set target to a local path")
        self._file = Path(directory) / "lease.json"
        self._ttl = ttl_seconds
        self._now = now
        self._token = uuid.uuid4().hex
        self._acquired = ""
        self._stop = threading.Event()
        self._renewer = threading.Thread(target=self._renew_until_stopped, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        with self._locked():
            holder = self._read()
            if holder and holder.expires > self._now().isoformat() and not holder.is_dead_here():
                raise LeaseError(
                    f"another run holds the lease {self._file}: process {holder.pid} on "
                    f"{holder.host.partition('/')[0]} since {holder.acquired}, renewed until {holder.expires}; wait "
                    "for it, or end it"
                )
            self._acquired = self._now().isoformat(timespec="seconds")
            self._write()
        self._renewer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._renewer.join()
        with self._locked():
            holder = self._read()
            if holder and holder.token == self._token:
                self._file.unlink()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """See `contracts.Fence.guard`."""
        with self._locked():
            self._check()
            yield

    def _check(self) -> None:
        holder = self._read()
        if holder is None or holder.token != self._token:
            taken = f"process {holder.pid} on {holder.host.partition('/')[0]}" if holder else "nobody"
            raise LeaseError(
                f"this run lost the lease {self._file} ({taken} holds it now) and publishes nothing more; "
                "it was silent for longer than lease.ttl_seconds"
            )

    def _renew_until_stopped(self) -> None:
        while not self._stop.wait(self._ttl / 3):
            with self._locked():
                holder = self._read()
                if holder is None or holder.token != self._token:
                    return
                self._write()

    def _read(self) -> Holder | None:
        try:
            return Holder(**json.loads(self._file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None  # A lease that was never finished holds nothing.

    def _write(self) -> None:
        expires = self._now() + timedelta(seconds=self._ttl)
        started = psutil.Process().create_time()
        holder = Holder(
            self._token,
            _host(),
            os.getpid(),
            started,
            self._acquired,
            expires.isoformat(timespec="milliseconds"),
        )
        aside = self._file.with_suffix(".new")
        aside.write_text(json.dumps(asdict(holder)))
        aside.replace(self._file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with translated(str(self._file), "lock"):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            lock = self._file.with_suffix(".lock").open("w")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
