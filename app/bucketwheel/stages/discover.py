"""Discover: choose the snapshot, list its files and read their footers, but no data page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import chain

import pyarrow as pa

from bucketwheel.contracts import Services
from bucketwheel.errors import SchemaError, SnapshotError, did_you_mean
from bucketwheel.formatting import counted, shortened
from bucketwheel.kernel.hashing import key_type_name
from bucketwheel.kernel.written_types import Conversion
from bucketwheel.runs.manifest import DiscoverResult, Manifest, TypeConversion
from bucketwheel.safe_text import one_line
from bucketwheel.stages.footers import ColumnSums, read_footers, source_file
from bucketwheel.stages.iceberg_checks import check_keys
from bucketwheel.stages.snapshots import choose_snapshot
from bucketwheel.stages.source_files import (
    HIDDEN_FILES,
    check_keys_in_files,
    check_partition_columns,
    data_files,
    ignored_files,
    no_data_files,
    patterns_of,
)
from bucketwheel.stages.source_partitions import PartitionColumns, partition_columns
from bucketwheel.stages.source_schema import snapshot_schema, with_binary_columns
from bucketwheel.stages.table_formats import check_finished
from bucketwheel.storage import Entry

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
            SourceChangedError: a file was replaced or deleted after it was listed.
            UnreadableFilesError: files without a readable footer; the message lists them.
            SchemaError: schemas differ, or the key is missing, ambiguous or of a type without a bucket hash.
            ConfigError: the key has several columns, and a layout has buckets of Iceberg; `binary_columns` are no
                text columns of the snapshot.
        """
        warnings: list[str] = []
        ignored: dict[str, list[Entry]] = {}
        snapshot_dt, location = choose_snapshot(services, warnings)
        setting = f"datasets.{services.dataset}.files"
        entries = data_files(services.storage, location, patterns_of(services), warnings, setting, ignored)
        hidden = ignored.get(HIDDEN_FILES, ())
        marker = services.source.complete_marker
        warnings += check_finished(services.storage, location, entries, hidden, marker)
        if not entries:
            text = "contains no Parquet files; load the snapshot again or choose another one"
            raise no_data_files(services, location, text)
        sums = ColumnSums()
        footers = read_footers(services.storage, entries, sums, services.settings.types)
        schema = snapshot_schema(footers, warnings)
        check_keys_in_files(services.dataset, location, entries, schema.names, services.source.key)
        if services.source.partitions == "error":
            setting = f"datasets.{services.dataset}.partitions"
            check_partition_columns(location, entries, schema.names, setting)
        outside = PartitionColumns((), ((),) * len(entries))
        if services.source.partitions == "columns":
            outside = partition_columns(location, entries, schema.names)
        rows = sum(footer.rows for footer in footers)
        if rows == 0:
            raise SnapshotError(f"{location}: {counted(len(footers), 'file')}, no rows; load the snapshot again")
        keys = tuple(find_key(name, schema.names, services.dataset) for name in services.source.key)
        setting = f"datasets.{services.dataset}.binary_columns"
        schema = with_binary_columns(schema, services.source.binary_columns, keys, setting)
        whole = pa.schema([*schema, *outside.fields()]) if outside.names else schema
        check_keys(services.dataset, schema, keys, services.settings)
        return DiscoverResult(
            snapshot_dt=snapshot_dt,
            location=location,
            rows=rows,
            bytes=sum(entry.bytes for entry in entries),
            keys=keys,
            key_types=tuple(_key_type(schema.field(key)) for key in keys),
            files=tuple(map(source_file, footers, outside.values)),
            columns=(*sums.columns(schema), *outside.columns([footer.rows for footer in footers])),
            schema_ipc=base64.b64encode(whole.serialize().to_pybytes()).decode(),
            warnings=(*warnings, *_case_warnings(schema.names)),
            partition_columns=outside.names,
            ignored=ignored_files(ignored, services.source.complete_marker),
            conversions=_conversions(footer.conversions for footer in footers if footer.rows),
            unsupported=_first_reasons(footer.unsupported for footer in footers if footer.rows),
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
    shown = shortened(names, _SHOWN)
    raise SchemaError(f"key {name!r} of {dataset} is not in the snapshot; {hint}{fix}: {shown}")


def _conversions(of_files: Iterable[tuple[Conversion, ...]]) -> tuple[TypeConversion, ...]:
    # Most files have the same ones.
    each = dict.fromkeys(chain.from_iterable(dict.fromkeys(of_files)))
    return tuple(TypeConversion(column=one.column, stored=one.stored, written=one.written) for one in each)


def _first_reasons(of_files: Iterable[tuple[tuple[str, str], ...]]) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for column, reason in chain.from_iterable(of_files):
        reasons.setdefault(column, reason)
    return reasons


def _key_type(field: pa.Field) -> str:
    name = key_type_name(field.type)
    if name is None:
        raise SchemaError(
            f"key {field.name!r} has type {one_line(field.type)}, which readers cannot bucket; use a column of type "
            "boolean, tinyint, smallint, int, bigint, string or date, or ask the supplier of the snapshot for one of "
            "these types"
        )
    return name


def _case_warnings(names: Sequence[str]) -> list[str]:
    by_lower: dict[str, list[str]] = {}
    for name in names:
        by_lower.setdefault(name.lower(), []).append(name)
    return [f"columns {' and '.join(same)} differ only in case" for same in by_lower.values() if len(same) > 1]
