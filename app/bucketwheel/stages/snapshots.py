"""Find the snapshots of a source by the date in their directories, and choose one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from bucketwheel.contracts import Services
from bucketwheel.errors import SelectionError, SnapshotError
from bucketwheel.formatting import counted, shortened
from bucketwheel.settings.partition import FLAT, Partition, dated_pattern, numbered_pattern
from bucketwheel.stages.source_files import (
    check_readable,
    data_files,
    is_data_file,
    no_data_files,
    patterns_of,
)
from bucketwheel.stages.table_formats import refuse_table, refuse_table_above
from bucketwheel.storage import Storage, join, name_of

_SHOWN = 20
_FIX_OPTION = "Fix --snapshot-dt"


@dataclass
class _Snapshots:
    """Directories below a source: snapshots by date, other directories, and whether it holds Parquet files itself."""

    by_date: dict[str, list[str]] = field(default_factory=dict)
    invalid: list[str] = field(default_factory=list)
    files: bool = False


def choose_snapshot(services: Services, warnings: list[str]) -> tuple[str, str]:
    """Return the date and the location of the requested or the latest complete snapshot.

    Raises:
        SelectionError: the requested snapshot is not a date or does not exist.
        SnapshotError: no complete snapshot, or two directories with its date.
    """
    source = services.storage.absolute(services.source.source)
    refuse_table_above(services.storage, source)
    partition = Partition.parse(services.source.partition or services.settings.snapshot.partition)
    if partition.text == FLAT:
        return _flat(services, source)
    snapshots = _find(services.storage, source, partition, patterns_of(services))
    if snapshots.invalid:
        names = shortened(snapshots.invalid, _SHOWN)
        warnings.append(f"{source}: skipped {names}: not of the form {partition.text}")
    if services.snapshot_dt is not None:
        return services.snapshot_dt, _requested(services, snapshots, partition)
    return _latest_complete(services, snapshots, source, partition, warnings)


def detect_partition(storage: Storage, source: str, patterns: Sequence[str] = ()) -> str | None:
    """Return the most frequent pattern of the snapshot directories below a source.

    Without such directories, return the pattern `none` if the source holds Parquet files, otherwise None.
    """
    names, files = _listed(storage, source, patterns)
    dated = Counter(pattern for name in names if (pattern := dated_pattern(name)))
    if not dated:
        return FLAT if files else None
    pattern = max(dated, key=lambda text: (dated[text], text))
    newest = join(source, max(name for name in names if dated_pattern(name) == pattern))
    # A year alone is the first of two or three levels: year=2025/month=10/day=22.
    for token in ("MM", "DD") if pattern.endswith("YYYY") else ():
        below, _ = _listed(storage, newest)
        numbered = sorted(name for name in below if numbered_pattern(name, token))
        if not numbered:
            break
        pattern = f"{pattern}/{numbered_pattern(numbered[-1], token)}"
        newest = join(newest, numbered[-1])
    return pattern


def _listed(storage: Storage, location: str, patterns: Sequence[str] = ()) -> tuple[list[str], bool]:
    """Return the names of the directories at a location, and whether it holds data files."""
    listed = storage.list(location)
    refuse_table(storage, location, {entry.name for entry in listed if entry.is_directory})
    entries = [entry for entry in listed if not entry.name.startswith((".", "_"))]
    for entry in entries:
        # A snapshot behind a link without a target must not be skipped.
        check_readable(entry)
    files = any(is_data_file(entry, patterns) for entry in entries)
    return [entry.name for entry in entries if entry.is_directory], files


def _find(storage: Storage, source: str, partition: Partition, patterns: Sequence[str]) -> _Snapshots:
    snapshots = _Snapshots()
    level: list[tuple[str, ...]] = [()]
    for depth in range(len(partition.segments)):
        below: list[tuple[str, ...]] = []
        for path in level:
            names, files = _listed(storage, join(source, *path), patterns)
            snapshots.files |= files and not path
            matching = [name for name in names if partition.segments[depth].fullmatch(name)]
            below += [(*path, name) for name in matching]
            snapshots.invalid += ["/".join((*path, name)) for name in names if name not in matching]
        level = below
    for path in level:
        value = partition.date_of(path)
        if value is None:
            snapshots.invalid.append("/".join(path))
        else:
            snapshots.by_date.setdefault(value, []).append(join(source, *path))
    snapshots.invalid.sort()
    return snapshots


def _flat(services: Services, source: str) -> tuple[str, str]:
    """Return the source itself and its date: the requested one, or the day of its newest file."""
    storage = services.storage
    names, _ = _listed(storage, source)
    dated = [name for name in names if dated_pattern(name)]
    if dated:
        # Reading several snapshots as one would repeat every key.
        raise SnapshotError(
            f"{source}: datasets.{services.dataset}.partition is none, but the source contains snapshot directories: "
            f"{', '.join(dated[:3])}; set it to {detect_partition(storage, source)}"
        )
    value = services.snapshot_dt
    if value is not None and not _is_date(value):
        raise SelectionError(f"snapshot_dt {value!r} is not a date of the form YYYY-MM-DD", fix=_FIX_OPTION)
    files = data_files(storage, source, patterns_of(services))
    if not files:
        raise no_data_files(services, source, f"no Parquet files. Check datasets.{services.dataset}.source")
    if not _is_complete(services, source):
        raise SnapshotError(
            f"{source}: incomplete: {services.source.complete_marker} is missing; "
            "wait until the snapshot is completely loaded"
        )
    return value or max(file.modified for file in files)[:10], source


def _requested(services: Services, snapshots: _Snapshots, partition: Partition) -> str:
    requested = services.snapshot_dt or ""
    if not _is_date(requested):
        name = partition.text.replace("YYYY-MM-DD", requested)
        seen = f"; the directory {name} exists but is not a snapshot" if name in snapshots.invalid else ""
        raise SelectionError(
            f"snapshot_dt {requested!r} is not a date of the form YYYY-MM-DD{seen}; {_known(snapshots.by_date)}",
            fix=_FIX_OPTION,
        )
    if requested not in snapshots.by_date:
        raise SelectionError(
            f"snapshot_dt {requested} does not exist in {services.source.source}; {_known(snapshots.by_date)}",
            fix=_FIX_OPTION,
        )
    location = _only(requested, snapshots.by_date[requested])
    if not _is_complete(services, location):
        raise SnapshotError(
            f"snapshot_dt {requested} is incomplete: {services.source.complete_marker} is missing in "
            f"{location}; wait until the snapshot is completely loaded"
        )
    return location


def _latest_complete(
    services: Services, snapshots: _Snapshots, source: str, partition: Partition, warnings: list[str]
) -> tuple[str, str]:
    if not snapshots.by_date:
        fix = _fix(services, source, snapshots.files)
        raise SnapshotError(f"{source}: no snapshot; expected directories {partition.text}. {fix}")
    for value in sorted(snapshots.by_date, reverse=True):
        location = _only(value, snapshots.by_date[value])
        if _is_complete(services, location):
            return value, location
        warnings.append(f"snapshot_dt {value} is incomplete ({services.source.complete_marker} is missing); skipped")
    raise SnapshotError(
        f"{source}: none of {counted(len(snapshots.by_date), 'snapshot')} is complete: each lacks "
        f"{services.source.complete_marker} (newest: {max(snapshots.by_date)}); wait until one is loaded, or change "
        f"datasets.{services.dataset}.complete_marker"
    )


def _fix(services: Services, source: str, files: bool) -> str:
    """Return advice for a source without snapshots of the configured form."""
    setting = f"datasets.{services.dataset}"
    if files and dated_pattern(name_of(source)):
        return f"It is a snapshot itself: set {setting}.source to the directory above it"
    detected = detect_partition(services.storage, source, patterns_of(services))
    if detected == FLAT:
        return f"It holds Parquet files itself: set {setting}.partition to none, or move them to such a directory"
    return f"Set {setting}.partition to {detected}" if detected else f"Check {setting}.source"


def _only(value: str, locations: Sequence[str]) -> str:
    if len(locations) > 1:
        raise SnapshotError(f"{' and '.join(sorted(locations))} are both the snapshot {value}; remove one of them")
    return locations[0]


def _is_complete(services: Services, location: str) -> bool:
    marker = services.source.complete_marker
    return not marker or services.storage.exists(join(location, marker))


def _known(snapshots: Iterable[str]) -> str:
    newest = sorted(snapshots, reverse=True)[:5]
    return f"available: {', '.join(newest)}" if newest else "there are no snapshots"


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
