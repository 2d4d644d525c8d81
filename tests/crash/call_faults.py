"""Build the library that strikes at exact calls (`call_faults.c`), and read what it recorded."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")
_RECORD = struct.Struct("qq32s2104s")


class Mode(IntEnum):
    """What happens at the n-th call: FAIL_ON fails it and all later calls, SHORT writes half of the data."""

    COUNT = 0
    KILL = 1
    FAIL = 2
    FAIL_ON = 3
    SHORT = 4
    INTERRUPT = 5


class Calls(IntFlag):
    """Which calls count; CHANGE changes names: open for writing, rename, link, unlink, mkdir, truncate."""

    CHANGE = 1
    WRITE = 2
    SYNC = 4
    CLOSE = 8
    READ = 16


CHANGES = Calls.CHANGE | Calls.WRITE | Calls.SYNC


@dataclass(frozen=True)
class Record:
    """Number of calls, which of them was struck (0 for none), its name and its file."""

    count: int
    struck: int
    call: str
    path: str

    def __str__(self) -> str:
        return f"call {self.struck}, {self.call} of {self.path}" if self.struck else f"none of {self.count} calls"


def build(directory: Path) -> Path:
    """Return the library, or raise FileNotFoundError if there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("there is no C compiler (cc, gcc)")
    library = directory / "call_faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", library, _SOURCE, "-ldl"], check=True)
    return library


def arm(below: str, record: str, at: int, mode: int, error: int, calls: int) -> None:
    """Strike in this process from now on; it must have been started with the library in LD_PRELOAD."""
    if ctypes.CDLL(None).faults_arm(below.encode(), record.encode(), ctypes.c_long(at), mode, error, calls):
        raise OSError(f"{record}: cannot be mapped")


def empty_record(path: Path) -> None:
    path.write_bytes(bytes(_RECORD.size))


def read_record(path: Path) -> Record:
    count, struck, call, name = _RECORD.unpack(path.read_bytes())
    return Record(count, struck, os.fsdecode(call.rstrip(b"\0")), os.fsdecode(name.rstrip(b"\0")))
