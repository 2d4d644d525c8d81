"""Discover: choose the snapshot, list its files and read their footers, but no data page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from datetime import date

import pyarrow as pa

from bucketwheel.contracts import Services
from bucketwheel.errors import SchemaError, SelectionError, SnapshotError, did_you_mean
from bucketwheel.formatting import counted
from bucketwheel.kernel.hashing import key_type_name
from bucketwheel.runs.manifest import DiscoverResult, Manifest
from bucketwheel.stages.footers import Footer, read_footers, source_columns, source_file
from bucketwheel.storage import Entry, Storage, join

_PREFIX = "snapshot_dt="
_SHOWN = 20


class Discover:
    """Finds the requested or the latest complete snapshot and describes it from its footers."""

    name = "discover"
    requires: tuple[str, ...] = ()

    def run(self, manifest: Manifest, services: Services) -> DiscoverResult:
        """See `contracts.Stage.run`.

        Raises:
            SelectionError: the requested snapshot is not a date or does not exist.
            StorageError: permission to read a directory or a file is missing.
            SnapshotError: no complete snapshot, no file or no row.
            UnreadableFilesError: files without a readable footer; the message lists them.
            SchemaError: schemas differ, or the key is missing, ambiguous or of a type without a bucket hash.
        """
        warnings: list[str] = []
        snapshot_dt, location = _choose_snapshot(services, warnings)
        entries = data_files(services.storage, location, warnings)
        if not entries:
            raise SnapshotError(
                f"{location}: contains no Parquet files; load the snapshot again or choose another one"
            )
        footers = read_footers(services.storage, entries)
        _check_schemas(footers)
        rows = sum(footer.metadata.num_rows for footer in footers)
        if rows == 0:
            raise SnapshotError(f"{location}: {counted(len(footers), 'file')}, no rows; load the snapshot again")
        schema = footers[0].schema.remove_metadata()
        keys = tuple(find_key(name, schema.names, services.dataset) for name in services.source.key)
        return DiscoverResult(
            snapshot_dt=snapshot_dt,
            location=location,
            rows=rows,
            bytes=sum(entry.bytes for entry in entries),
            keys=keys,
            key_types=tuple(_key_type(schema.field(key)) for key in keys),
            files=tuple(source_file(footer) for footer in footers),
            columns=source_columns(schema, footers),
            schema_ipc=base64.b64encode(schema.serialize().to_pybytes()).decode(),
            warnings=(*warnings, *_case_warnings(schema.names)),
        )


def _choose_snapshot(services: Services, warnings: list[str]) -> tuple[str, str]:
    source = services.storage.absolute(services.source.source)
    snapshots: dict[str, str] = {}
    invalid: list[str] = []
    for entry in services.storage.list(source):
        if not entry.is_directory or entry.name.startswith((".", "_")):
            continue
        value = entry.name.removeprefix(_PREFIX)
        if entry.name.startswith(_PREFIX) and _is_date(value):
            snapshots[value] = entry.location
        else:
            invalid.append(entry.name)
    if invalid:
        warnings.append(f"{source}: skipped {', '.join(invalid)}: not of the form {_PREFIX}YYYY-MM-DD")
    if services.snapshot_dt is not None:
        return services.snapshot_dt, _requested(services, snapshots, invalid)
    return _latest_complete(services, snapshots, source, warnings)


def _requested(services: Services, snapshots: dict[str, str], invalid: Sequence[str]) -> str:
    requested = services.snapshot_dt or ""
    if not _is_date(requested):
        seen = (
            f"; the directory {_PREFIX}{requested} exists but is not a snapshot"
            if f"{_PREFIX}{requested}" in invalid
            else ""
        )
        raise SelectionError(
            f"snapshot_dt {requested!r} is not a date of the form YYYY-MM-DD{seen}; {_known(snapshots)}"
        )
    if requested not in snapshots:
        raise SelectionError(
            f"snapshot_dt {requested} does not exist in {services.source.source}; {_known(snapshots)}"
        )
    if not _is_complete(services, snapshots[requested]):
        raise SnapshotError(
            f"snapshot_dt {requested} is incomplete: {services.source.complete_marker} is missing in "
            f"{snapshots[requested]}; wait until it is loaded"
        )
    return snapshots[requested]


def _latest_complete(
    services: Services, snapshots: dict[str, str], source: str, warnings: list[str]
) -> tuple[str, str]:
    if not snapshots:
        raise SnapshotError(
            f"{source}: no snapshot; expected directories {_PREFIX}YYYY-MM-DD. Check "
            f"datasets.{services.dataset}.source"
        )
    for value in sorted(snapshots, reverse=True):
        if _is_complete(services, snapshots[value]):
            return value, snapshots[value]
        warnings.append(f"snapshot_dt {value} is incomplete ({services.source.complete_marker} is missing); skipped")
    raise SnapshotError(
        f"{source}: none of {counted(len(snapshots), 'snapshot')} is complete: each lacks "
        f"{services.source.complete_marker} "
        f"(newest: {max(snapshots)}); wait until one is loaded, or change datasets.{services.dataset}.complete_marker"
    )


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


def data_files(storage: Storage, location: str, warnings: list[str] | None = None) -> list[Entry]:
    """Return the Parquet files below a snapshot, sorted; hidden and marker files do not count."""
    files, others = [], []
    for entry in storage.list(location, recursive=True):
        below = entry.location.removeprefix(location).strip("/").split("/")
        if entry.is_directory or any(part.startswith((".", "_")) for part in below):
            continue
        if entry.name.lower().endswith((".parquet", ".parq")):
            files.append(entry)
        elif entry.bytes and not entry.name.endswith(".crc"):
            others.append(entry.name)
    if others and warnings is not None:
        warnings.append(f"{location}: ignored {', '.join(others[:_SHOWN])}: not named .parquet")
    return files


def _check_schemas(footers: Sequence[Footer]) -> None:
    expected = {field.name: field.type for field in footers[0].schema}
    first = footers[0].entry.location
    problems: list[str] = []
    for footer in footers:
        types = {field.name: field.type for field in footer.schema}
        place = footer.entry.location
        repeated = sorted({name for name in footer.schema.names if footer.schema.names.count(name) > 1})
        problems += [f"{place}: column {name!r} appears more than once" for name in repeated]
        problems += [f"{place}: column {name!r} is missing" for name in expected if name not in types]
        problems += [f"{place}: column {name!r} is not in {first}" for name in types if name not in expected]
        problems += [
            f"{place}: column {name!r} has type {types[name]}, in {first} it has type {kind}"
            for name, kind in expected.items()
            if name in types and types[name] != kind
        ]
    if problems:
        more = f"\nand {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        listed = "\n".join(problems[:_SHOWN])
        raise SchemaError(
            f"the files of the snapshot have different schemas:\n{listed}{more}\nWrite them with one schema"
        )


def find_key(name: str, names: Sequence[str], dataset: str) -> str:
    """Return the column `name`: an exact match, otherwise a unique match that ignores case.

    Raises:
        SchemaError: no column matches, or several differ only in case.
    """
    if name in names:
        return name
    close = [column for column in names if column.lower() == name.lower()]
    if len(close) == 1:
        return close[0]
    fix = f"set datasets.{dataset}.key to one of the snapshot's columns"
    if close:
        raise SchemaError(f"key {name!r} of {dataset} matches {' and '.join(map(repr, close))}; {fix}")
    hint = did_you_mean(name, names)
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    raise SchemaError(f"key {name!r} of {dataset} is not in the snapshot; {hint}{fix}: {shown}")


def _key_type(field: pa.Field) -> str:
    name = key_type_name(field.type)
    if name is None:
        raise SchemaError(
            f"key {field.name!r} has type {field.type}, which readers cannot bucket; use a column of type boolean, "
            "tinyint, smallint, int, bigint, string or date, or have the key written as one of these types"
        )
    return name


def _case_warnings(names: Sequence[str]) -> list[str]:
    by_lower: dict[str, list[str]] = {}
    for name in names:
        by_lower.setdefault(name.lower(), []).append(name)
    return [f"columns {' and '.join(same)} differ only in case" for same in by_lower.values() if len(same) > 1]
