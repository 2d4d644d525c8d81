"""Read the content of a lease: its holder, or why it cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bucketwheel.errors import StorageError
from bucketwheel.lease.processes import HostProcesses
from bucketwheel.settings.models import MAX_LEASE_SECONDS
from bucketwheel.storage import Storage, join
from bucketwheel.system import Process, Processes, system


def current_processes() -> Processes:
    """Return this process and the others of its host."""
    return system().processes or HostProcesses()


def _check_time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("has no time zone")
    return text


class Holder(BaseModel):
    """Who holds a lease, and until when (ISO time with a time zone).

    `run_id` is the run that the holder works on, empty if it has not chosen one or works on none, and None if an
    older version wrote the lease. `ttl_seconds` is how long the holder may go without a renewal; None as well.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    token: Annotated[str, Field(min_length=1)]
    host: str
    pid: Annotated[int, Field(gt=0, lt=2**31)]
    process_started: float
    acquired: str
    expires: Annotated[str, AfterValidator(_check_time)]
    run_id: str | None = None
    ttl_seconds: Annotated[float, Field(gt=0, le=MAX_LEASE_SECONDS)] | None = None

    @property
    def expiry(self) -> datetime:
        """The time until which the lease is valid."""
        return datetime.fromisoformat(self.expires)

    def is_alive(self) -> bool | None:
        """Return whether the holder lives; None if it is on another host, or hidden."""
        return current_processes().is_alive(Process(self.host, self.pid, self.process_started))

    def may_work_on(self, run_id: str, now: datetime) -> bool:
        """Return whether the holder may be alive and working on a run.

        Ask the operating system about a process on this host. A process elsewhere, or one that the system hides,
        counts as dead once its lease has expired.
        """
        if self.run_id not in (None, run_id):
            return False
        alive = self.is_alive()
        return self.expiry > now if alive is None else alive

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition('/')[0]}"


@dataclass(frozen=True)
class Damaged:
    """The content of a lease that this version cannot read, and why."""

    problem: str
    token = ""

    def __str__(self) -> str:
        return f"an unknown process, because its content cannot be read: {self.problem}"


def parse(content: bytes) -> Holder | Damaged | None:
    """Return the holder of a lease, why it cannot be read, or None if the lease is free."""
    # A power failure can leave an empty file, or one of zeros.
    if content.strip(b"\0 \t\r\n") in (b"", b"{}"):
        return None
    try:
        return Holder.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] in ("json_invalid", "model_type"):
            return Damaged("it is no JSON object")
        field = ".".join(map(str, first["loc"]))
        return Damaged(f"{field}: {first['msg'].removeprefix('Value error, ')}")


def read_holder(directory: str, storage: Storage) -> Holder | None:
    """Return the holder of the lease in the metadata directory of a dataset; None if it is free or damaged.

    The holder may have died. The holder of a damaged lease has lost it.
    """
    path = join(directory, "lease.json")
    try:
        holder = parse(storage.read(path))
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        return None
    return holder if isinstance(holder, Holder) else None
