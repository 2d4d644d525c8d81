"""Parse footers in forked processes: a footer that aborts its process costs that process, not the run.

pyarrow lets C++ exceptions of its accessors end the process. A fork takes 4 ms and shares the loaded libraries; a new
interpreter would take 150 ms, more than reading the footers of 200 small files.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import pickle
import re
import resource
import select
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import IO

import pyarrow as pa

from bucketwheel.errors import EngineError
from bucketwheel.host import available_threads
from bucketwheel.kernel.footers import FooterParser, FooterSummary, reason
from bucketwheel.settings import TypeSettings

# Footers of this many bytes take about as long as ten forks.
_BYTES_PER_PROCESS = 2**21
# A footer of 100 MB takes about 3 seconds.
_TIMEOUT_SECONDS = 120.0
_SHOWN = 300
# Numbers of files to close if the system does not list those that are open.
_FILES = 4096
File = tuple[bytes, int]


class _EndedError(Exception):
    """The process ended or was stopped before it answered; the argument says how."""


class FooterProcesses:
    """Parses footers in as many processes as there are processors; starts the second one after 2 MB of footers.

    Args:
        types: see `FooterParser`.
    """

    def __init__(self, types: TypeSettings | None = None) -> None:
        self._types = types
        self._changed = threading.Condition()
        self._idle: list[_ParserProcess] = []
        self._started = 0
        self._bytes = 0

    def __enter__(self) -> FooterProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._idle:
            self._idle.pop().stop()

    def parse(self, files: Sequence[File]) -> list[FooterSummary | str]:
        """Return the summary of each footer, or why there is none; any thread may call it.

        Args:
            files: last bytes and size of each file; see `FooterParser.parse`.
        """
        try:
            return self._ask(files, statistics=True)
        except _EndedError:
            # One of them is to blame.
            return [self._parse_one(file) for file in files]

    def _parse_one(self, file: File) -> FooterSummary | str:
        try:
            return self._ask([file], statistics=True)[0]
        except _EndedError as error:
            how = str(error)
        try:
            # pyarrow aborts if a minimum or maximum is too short for its type; the data is readable.
            return self._ask([file], statistics=False)[0]
        except _EndedError:
            return how

    def _ask(self, files: Sequence[File], statistics: bool) -> list[FooterSummary | str]:
        process = self._take(sum(len(footer) for footer, _ in files))
        try:
            answers = process.ask(files, statistics)
        except BaseException:
            process.stop()
            self._forget_one()
            raise
        with self._changed:
            self._idle.append(process)
            self._changed.notify()
        return answers

    def _take(self, size: int) -> _ParserProcess:
        with self._changed:
            self._bytes += size
            most = min(available_threads(), 1 + self._bytes // _BYTES_PER_PROCESS)
            self._changed.wait_for(lambda: self._idle or self._started < most)
            if self._idle:
                return self._idle.pop()
            self._started += 1
        try:
            return _ParserProcess(self._types)
        except BaseException:
            self._forget_one()
            raise

    def _forget_one(self) -> None:
        with self._changed:
            self._started -= 1
            self._changed.notify()


class _ParserProcess:
    """A forked process that answers one request at a time."""

    def __init__(self, types: TypeSettings | None) -> None:
        answers, write_answer = os.pipe()
        read_request, requests = os.pipe()
        self._answers = open(answers, "rb")  # noqa: PTH123, SIM115
        self._requests = open(requests, "wb")  # noqa: PTH123, SIM115
        # What C++ prints before it aborts.
        self._printed = _memory_file()
        self._pid = 0
        try:
            self._pid = _fork()
            if not self._pid:
                pipes = (read_request, write_answer)
                _become(lambda: _serve(*pipes, FooterParser(types)), pipes, self._printed)
        except OSError as error:
            self.stop()
            raise EngineError(
                f"cannot start a process that parses footers: {error.strerror}; free memory, or raise the limit of "
                "processes"
            ) from error
        finally:
            os.close(write_answer)
            os.close(read_request)

    def ask(self, files: Sequence[File], statistics: bool) -> list[FooterSummary | str]:
        """Return the answers of the process; raise _EndedError if it ends."""
        try:
            pickle.dump((files, statistics), self._requests, pickle.HIGHEST_PROTOCOL)
            self._requests.flush()
            poll = select.poll()
            poll.register(self._answers, select.POLLIN)
            if not poll.poll(_TIMEOUT_SECONDS * 1000):
                raise _EndedError(f"reading the footer took longer than {_TIMEOUT_SECONDS:.0f} s")
            answers: list[FooterSummary | str] = pickle.load(self._answers)  # noqa: S301 our own process
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise _EndedError(self._reason()) from None
        return answers

    def stop(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self._answers.close()
        self._printed.close()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def _reason(self) -> str:
        # A process that ended by itself keeps its status.
        os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        self._printed.seek(0)
        printed = self._printed.read().decode(errors="backslashreplace")
        if what := re.search(r"what\(\): *(.+)", printed):
            return reason(ValueError(what[1][:_SHOWN]))
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            # The parser turns every exception into an answer, so no file is to blame.
            raise EngineError(f"the process that parses footers failed: {printed[-_SHOWN:].strip() or code}")
        return f"reading its footer ends the process with {signal.Signals(-code).name}"


def _memory_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("footers"), "w+b")  # noqa: PTH123
    return tempfile.TemporaryFile()


def _fork() -> int:
    """Fork; the child must use no lock that another thread could hold: no logging, imports or sockets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _become(work: Callable[[], None], kept: Collection[int], printed: IO[bytes]) -> None:
    """Do the work of the forked process, and end it."""
    try:
        # Objects that the copy of the parent's memory holds must not be finalized twice.
        gc.freeze()
        gc.disable()
        os.dup2(printed.fileno(), 2)
        _close_others({0, 1, 2, *kept})
        faulthandler.disable()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Other allocators may have been locked by a thread during the fork.
        pa.set_memory_pool(pa.system_memory_pool())
        work()
    except BaseException as error:  # noqa: BLE001 nothing may leave the forked process
        os.write(2, f"{type(error).__name__}: {error}".encode(errors="backslashreplace"))
    finally:
        os._exit(1)


def _close_others(kept: Collection[int]) -> None:
    """Close the files of the parent: its locks, and its pipes to other processes, must end with it."""
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]  # noqa: PTH208
    except OSError:
        numbers = list(range(_FILES))
    for number in numbers:
        if number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)


def _serve(requests: int, answers: int, parser: FooterParser) -> None:
    with open(requests, "rb") as incoming, open(answers, "wb") as outgoing:
        while True:
            try:
                files, statistics = pickle.load(incoming)  # noqa: S301 our own process
            except EOFError:
                return
            parsed = [parser.parse(footer, size, statistics) for footer, size in files]
            # Once for many files: searching for cycles while thousands of column chunks exist takes long.
            gc.collect()
            pickle.dump(parsed, outgoing, pickle.HIGHEST_PROTOCOL)
            outgoing.flush()
