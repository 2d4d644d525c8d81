"""A disk that loses at a power cut what was not flushed: contents of files, and names in directories."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from bucketwheel.storage import durable

# In an image: the content of a file, or None for a directory.
Image = dict[str, bytes | None]
_DIRECTORY = -1


class PowerCut(BaseException):
    """The machine loses power; nothing that the command does later reaches the disk."""


class Disk:
    """Records what is durable below a directory, and cuts the power at a flush.

    A name in a directory is durable after the directory was flushed, a content after the file was flushed. At the
    cut, each directory has either its durable or its current names, and each file that was not flushed has its
    durable content, its current content, a part of it, or none.

    Attributes:
        flushes: number of flushes so far.
        cut: number of the flush at which the power is cut, before the flush; 0 for never.
    """

    def __init__(self, root: Path, store: Path, seed: int, cut: int = 0) -> None:
        self._root = root
        self._store = store
        self._random = random.Random(f"{seed} {cut}")
        self._names: dict[str, dict[str, int]] = {}
        self._contents: dict[int, bytes] = {}
        self._image: Image | None = None
        self.flushes = 0
        self.cut = cut
        store.mkdir()
        self._flush_all()

    @contextmanager
    def plugged(self) -> Iterator[None]:
        """Observe the flushes of the block, and survive the power cut; the disk then has what was durable."""
        with (
            mock.patch.object(os, "fsync", self._fsync),
            mock.patch.object(durable, "sync_file_system", self._sync_file_system),
        ):
            try:
                yield
            except PowerCut:
                self._restore()

    @property
    def was_cut(self) -> bool:
        """Return whether the power was cut."""
        return self._image is not None

    def _fsync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not path.is_relative_to(self._root):
            return
        self._tick()
        if path.is_dir():
            self._flush_names(path)
        else:
            self._contents[os.fstat(descriptor).st_ino] = path.read_bytes()

    def _sync_file_system(self, _descriptor: int) -> bool:
        self._tick()
        self._flush_all()
        return True

    def _tick(self) -> None:
        self.flushes += 1
        if self._image is None and self.flushes == self.cut:
            self._image = {}
            self._survive(self._root, self._image)
        if self._image is not None:
            raise PowerCut

    def _flush_all(self) -> None:
        for place, _, names in os.walk(self._root):
            self._flush_names(Path(place))
            for path in (Path(place, name) for name in names):
                self._contents[path.stat().st_ino] = path.read_bytes()

    def _flush_names(self, directory: Path) -> None:
        self._names[str(directory)] = self._current(directory)

    def _current(self, directory: Path) -> dict[str, int]:
        names = {}
        for path in directory.iterdir() if directory.is_dir() else ():
            names[path.name] = _DIRECTORY if path.is_dir() else path.stat().st_ino
            kept = self._store / str(names[path.name])
            if path.is_file() and not kept.exists():
                # Keeps the number of the file from being used again.
                kept.hardlink_to(path)
        return names

    def _survive(self, directory: Path, image: Image) -> None:
        """Add what a directory has after the cut."""
        names = self._random.choice([self._names.get(str(directory), {}), self._current(directory)])
        for name, number in sorted(names.items()):
            path = directory / name
            if number == _DIRECTORY:
                image[str(path)] = None
                self._survive(path, image)
            else:
                image[str(path)] = self._content(number)

    def _content(self, number: int) -> bytes:
        current = (self._store / str(number)).read_bytes()
        before = self._contents.get(number, b"")
        if current == before:
            return current
        return self._random.choice([before, current, current[: len(current) // 2], b""])

    def _restore(self) -> None:
        shutil.rmtree(self._root)
        self._root.mkdir()
        for name, content in (self._image or {}).items():
            if content is None:
                Path(name).mkdir()
            else:
                Path(name).write_bytes(content)
