"""End a command cleanly on SIGTERM, sent by schedulers and containers, and on SIGHUP, sent by a closing terminal."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from bucketwheel.errors import Terminated

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def terminate_cleanly() -> Iterator[None]:
    """Raise `Terminated` in the block on the first SIGTERM or SIGHUP; the second ends the process at once.

    Signals that the process ignores, as under `nohup`, stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        # Python allows only the main thread to change handlers.
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # None is a handler that Python did not install and cannot restore.
    replaced = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def terminate(number: int, _: FrameType | None) -> NoReturn:
        for one in replaced:
            # The first process of a container is immune to the default action of a signal.
            signal.signal(one, _exit if os.getpid() == 1 else signal.SIG_DFL)
        raise Terminated(number)

    try:
        for number in replaced:
            signal.signal(number, terminate)
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C in the block, which tells the user how a command ended."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _exit(number: int, _: FrameType | None) -> NoReturn:
    os._exit(128 + number)
