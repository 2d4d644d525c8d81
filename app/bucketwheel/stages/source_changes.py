"""Find source files that were added, deleted or replaced since `discover`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bucketwheel.contracts import Services
from bucketwheel.errors import SourceChangedError
from bucketwheel.formatting import counted
from bucketwheel.runs.manifest import DiscoverResult
from bucketwheel.safe_text import one_line
from bucketwheel.stages.source_files import data_files, patterns_of
from bucketwheel.storage import Entry

_SHOWN = 5


@dataclass(frozen=True)
class _Stamp:
    bytes: int
    modified: str
    version: str


def check_source(discovered: DiscoverResult, services: Services) -> None:
    """List the snapshot again and compare it with `discover`.

    Raises:
        SourceChangedError: files were added, deleted or replaced; the message names them.
    """
    entries = data_files(services.storage, discovered.location, patterns_of(services))
    if changed := source_changes(discovered, entries):
        raise SourceChangedError(
            f"{discovered.location}: the snapshot changed during the run, nothing was published: {'; '.join(changed)}"
        )


def source_changes(discovered: DiscoverResult, entries: Sequence[Entry], versions: bool = True) -> list[str]:
    """Return a text for each data file that differs from `discover`, at most a few.

    Args:
        discovered: result of `discover`.
        entries: the data files now.
        versions: whether a file of the same size and time counts as changed if its version differs.
    """
    was = {file.path: _Stamp(file.bytes, file.modified, file.version) for file in discovered.files}
    now = {entry.location: _Stamp(entry.bytes, entry.modified, entry.version) for entry in entries}
    texts = list(_differences(was, now, versions))
    return texts[:_SHOWN] + ([f"and {counted(len(texts) - _SHOWN, 'more file')}"] if len(texts) > _SHOWN else [])


def _differences(was: Mapping[str, _Stamp], now: Mapping[str, _Stamp], versions: bool) -> Iterator[str]:
    for path in sorted({*was, *now}):
        name = one_line(path)
        if path not in now:
            yield f"{name} was deleted"
        elif path not in was:
            yield f"{name} was added"
        else:
            old, new = was[path], now[path]
            if (old.bytes, old.modified) != (new.bytes, new.modified):
                text = f"{old.bytes} bytes of {old.modified}, now {new.bytes} bytes of {new.modified}"
                yield f"{name} was changed: {text}"
            # Earlier versions of Bucketwheel recorded no version.
            elif versions and old.version and old.version != new.version:
                yield f"{name} was replaced by a file of the same size and time"
