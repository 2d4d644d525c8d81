"""Keep commands working when a standard stream is closed, full or gone, as after `>&-` or a lost terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TextIO

from bucketwheel.errors import OutputError

_STDOUT, _STDERR = 1, 2


class _Result(io.FileIO):
    """Names the stream in errors; a reader that has closed it, as `head` does, stays a BrokenPipeError."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"stdout: cannot write the result: {error.strerror}") from error


class _Messages(io.FileIO):
    """Drops what cannot be written: a command must not fail because nobody can read its progress."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return len(data)


@contextmanager
def usable_streams() -> Iterator[None]:
    """Give the process working standard streams while the block runs.

    A closed stream discards what is written to it. Otherwise the next file that is opened would take its number, and
    a library that prints would write into that file. Streams that the caller has replaced stay as they are.
    """
    for descriptor in (0, _STDOUT, _STDERR):
        _open_missing(descriptor)
    before = sys.stdout, sys.stderr
    if _is_own(sys.stdout, sys.__stdout__):
        sys.stdout = _text(_Result(_STDOUT, "w", closefd=False), before[0], "strict")
    if _is_own(sys.stderr, sys.__stderr__):
        sys.stderr = _text(_Messages(_STDERR, "w", closefd=False), before[1], "backslashreplace")
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream not in before:
                with suppress(OSError, ValueError, OutputError):
                    stream.flush()
        sys.stdout, sys.stderr = before


def _open_missing(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        # The lowest free number, so it is this one.
        os.open(os.devnull, os.O_RDWR)


def _is_own(stream: TextIO | None, original: IO[str] | None) -> bool:
    """Return whether a stream is the one that Python opened; it is None if it was closed."""
    return stream is original


def _text(raw: io.FileIO, like: TextIO | None, errors: str) -> TextIO:
    encoding, errors = getattr(like, "encoding", "utf-8"), getattr(like, "errors", errors)
    lines = isinstance(like, io.TextIOWrapper) and like.line_buffering
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=lines)
