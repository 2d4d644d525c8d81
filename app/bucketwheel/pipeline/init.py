"""Create the configuration of a new project, proposed from its source."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bucketwheel.errors import ConfigError, SchemaError, SelectionError, SnapshotError, did_you_mean
from bucketwheel.formatting import shortened
from bucketwheel.kernel.hashing import key_type_name
from bucketwheel.kernel.layout import standard_name
from bucketwheel.pipeline.propose import mapping_text, propose_tables
from bucketwheel.pipeline.services import RunRequest, make_services
from bucketwheel.settings import DatasetSettings, Layout, Settings, resolved_layouts
from bucketwheel.settings.layouts import Reader
from bucketwheel.settings.names import name_problem
from bucketwheel.settings.partition import DEFAULT, FLAT, Partition, dated_pattern
from bucketwheel.settings.writing import BASE, base_text, nested, write_new
from bucketwheel.stages.footers import read_footers
from bucketwheel.stages.snapshots import choose_snapshot, detect_partition
from bucketwheel.stages.source_files import data_files, no_data_files, patterns_of
from bucketwheel.storage import Storage, is_s3, join, name_of, wrap_os_errors

_MAPPING = "mapping.csv"
_MARKER = "_SUCCESS"
_SHOWN = 20
# Directories whose names say nothing about the data.
_GENERIC = ("data", "in", "input", "parquet", "raw", "raw_input", "snapshots", "source")
_COMMENTS = """\
# Settings of this project: only those that differ from the defaults. `bucketwheel config` prints all of them.
# Relative paths start at the directory in which bucketwheel runs. Settings that projects often change:
#
# target: s3://bucket/prefix       # tables and run metadata (default: ./out)
# catalog: {kind: glue, path: null, database: analytics}
# buckets: {count: 256}            # files per table, the same in every dataset and month (default: by size)
#
# `readers` names the services that query the tables, such as athena or clean_rooms; they decide the layouts.
#
"""
# Readers of the tables of a catalog, unless the configuration names its readers or its layouts.
_READERS: Mapping[str, tuple[Reader, ...]] = {"duckdb": ("duckdb",), "glue": ("athena",)}
_LAYOUTS = ("readers", "layouts", "buckets.hash")


@dataclass(frozen=True)
class NewProject:
    """The files of a new project, and the properties of the source that they are based on.

    Attributes:
        directory: The project.
        dataset: Name of its dataset.
        source: Location of the snapshots.
        partition: Directory of a snapshot below the source.
        snapshot_dt: Date of the newest snapshot.
        keys: The key columns.
        readers: Services that query the tables.
        layouts: Layouts that serve the readers.
        tables: Columns of each proposed table.
        refused: Columns outside of the mapping, with the reason.
        files: The written files.
    """

    directory: Path
    dataset: str
    source: str
    partition: str
    snapshot_dt: str
    keys: tuple[str, ...]
    readers: tuple[str, ...]
    layouts: tuple[Layout, ...]
    tables: Mapping[str, Sequence[str]]
    refused: Mapping[str, str]
    files: tuple[Path, ...]


def init(
    settings: Settings,
    given: Mapping[str, Any],
    directory: Path,
    source: str | None,
    key: str | None,
    dataset: str | None = None,
) -> NewProject:
    """Write `conf/base.yaml` and `mapping.csv` of a new project.

    Args:
        settings: for the access to the source.
        given: settings by dotted name, to write to `base.yaml`.
        directory: the project; created if it does not exist.
        source: directory of the snapshots; if None, the only one below `directory`.
        key: the key column, or several, separated by commas.
        dataset: name of the dataset; if None, derived from the source.

    Raises:
        ConfigError: files of a configuration exist, or an argument is missing.
        SelectionError: the source or the key column does not exist.
        SnapshotError: the source has no Parquet files.
        SchemaError: the key is of a type without a bucket hash.
    """
    base, mapping = directory / BASE, directory / _MAPPING
    _check_absent(base.parent, mapping)
    storage = Storage.of(settings)
    patterns = settings.snapshot.files
    location, partition = _layout(storage, source or _only_source(storage, directory, patterns), patterns)
    name = dataset or _dataset_name(storage.absolute(location))
    if problem := name_problem(name):
        raise ConfigError(f"--dataset {name!r}: the name {problem}")
    if not standard_name(name):
        raise ConfigError(
            f"--dataset {name!r} needs a letter or digit in its name, because tables are named after it"
        )
    target = settings.target if is_s3(settings.target) else str(directory / settings.target)
    values = DatasetSettings(source=location, key=("-",), partition=partition)
    looked = settings.model_copy(update={"datasets": {name: values}, "target": target})
    services = make_services(looked, RunRequest(name), lambda _: None)
    snapshot_dt, snapshot = choose_snapshot(services, [])
    files = data_files(storage, snapshot, patterns_of(services))
    if not files:
        text = "holds no Parquet file; load the snapshot again or choose another source"
        raise no_data_files(services, snapshot, text, setting="snapshot.files")
    footer = read_footers(storage, files[:1], types=settings.types)[0]
    schema = footer.schema
    keys = _keys(schema, key)
    tables, refused = propose_tables(schema, keys, standard_name(name), dict(footer.unsupported))
    entry = {"source": _from(directory, location), "key": ",".join(keys)}
    texts = {}
    # An empty mapping is an error. Without a mapping, a run writes one table with the key alone.
    if tables:
        entry["mapping"] = _MAPPING
        texts[mapping] = mapping_text(tables)
    if Partition.parse(partition) != Partition.parse(DEFAULT):
        entry["partition"] = partition
    if storage.exists(join(snapshot, _MARKER)):
        entry["complete_marker"] = _MARKER
    readers = settings.readers
    if not given.keys() & _LAYOUTS:
        readers = _READERS.get(settings.catalog.kind, ())
    document = nested({**given, "readers": list(readers)})
    document["datasets"] = {**document.get("datasets", {}), name: entry}
    texts[base] = base_text(document, _COMMENTS)
    with wrap_os_errors(str(directory), "write to"):
        write_new(texts)
    return NewProject(
        directory=directory,
        dataset=name,
        source=location,
        partition=Partition.parse(partition).text,
        snapshot_dt=snapshot_dt,
        keys=keys,
        readers=readers,
        layouts=resolved_layouts(settings.model_copy(update={"readers": readers})),
        tables=tables,
        refused=refused,
        files=tuple(texts),
    )


def _check_absent(conf: Path, mapping: Path) -> None:
    with wrap_os_errors(str(conf.parent), "read"):
        empty = conf.is_dir() and not any(conf.iterdir())
        present = [path for path in (conf, mapping) if os.path.lexists(path) and not (path == conf and empty)]
    if present:
        raise ConfigError(
            f"{present[0]} already exists, and init overwrites nothing; edit it, or choose another directory: "
            "bucketwheel init DIR"
        )


def _only_source(storage: Storage, directory: Path, patterns: Sequence[str]) -> str:
    """Return the only directory with snapshots in a new project."""
    locations = [str(directory), *(str(path) for path in sorted(directory.glob("*")) if path.is_dir())]
    sources = [location for location in locations if detect_partition(storage, location, patterns)]
    if len(sources) != 1:
        seen = (
            f"several directories hold snapshots: {', '.join(sources)}"
            if sources
            else f"{directory} holds no snapshots"
        )
        raise ConfigError(f"{seen}; name the source: --source PATH, or --source s3://bucket/prefix")
    return sources[0]


def _layout(storage: Storage, source: str, patterns: Sequence[str]) -> tuple[str, str]:
    """Return the location of the snapshots and the pattern of their directories.

    If the source is a single dated snapshot, return the directory above it.
    """
    location = source.rstrip("/") or "/"
    absolute = storage.absolute(location)
    if os.path.isfile(absolute):  # noqa: PTH113
        raise ConfigError(f"--source {source} is a file; name the directory that holds it")
    if not is_s3(absolute) and not os.path.lexists(absolute):
        siblings = [entry.name for entry in storage.list(absolute.rpartition("/")[0] or "/") if entry.is_directory]
        hint = did_you_mean(name_of(absolute), siblings)
        raise SelectionError(f"--source {source}: no such directory; {hint}name the directory of the snapshots")
    partition = detect_partition(storage, absolute, patterns)
    if partition == FLAT and (pattern := dated_pattern(name_of(absolute))):
        above = absolute.rpartition("/")[0]
        return above if is_s3(location) else os.path.dirname(location) or ".", pattern  # noqa: PTH120
    if partition is None:
        directories = [entry.name for entry in storage.list(absolute) if entry.is_directory]
        if directories:
            names = shortened(directories, _SHOWN)
            raise SnapshotError(
                f"{absolute}: no Parquet files and no directories with a date in their name, only {names}; give the "
                f"directory that contains the snapshots, such as --source {join(source, directories[0])}"
            )
        raise SnapshotError(
            f"{absolute}: no Parquet files; put them into {join(absolute, 'snapshot_dt=YYYY-MM-DD')}/, or name "
            "another directory with --source"
        )
    return location, partition


def _dataset_name(location: str) -> str:
    for part in reversed(location.partition("://")[2].split("/") if is_s3(location) else location.split("/")):
        name = standard_name(part)
        if name and name not in _GENERIC and not dated_pattern(part):
            return name
    return "people"


def _keys(schema: pa.Schema, key: str | None) -> tuple[str, ...]:
    """Return the key columns as the source spells them."""
    possible = [field.name for field in schema if key_type_name(field.type)]
    # List columns with `id` in their name first, because most keys have it.
    ordered = sorted(possible, key=lambda name: "id" not in standard_name(name).split("_"))
    shown = shortened(ordered, _SHOWN)
    names = [name.strip() for name in (key or "").split(",") if name.strip()]
    if not names:
        raise ConfigError(f"--key is missing: give the column by which rows are bucketed (columns: {shown})")
    keys = []
    for name in names:
        exact = [column for column in schema.names if column == name]
        close = exact or [column for column in schema.names if column.lower() == name.lower()]
        if len(close) != 1:
            fault = f"matches {' and '.join(map(repr, close))}" if close else "is not in the source"
            hint = did_you_mean(name, schema.names)
            raise SelectionError(f"--key {name!r} {fault}; {hint}choose a column of the source: {shown}")
        kind = schema.field(close[0]).type
        if key_type_name(kind) is None:
            raise SchemaError(
                f"--key {name!r} has type {kind}, which readers cannot bucket; choose a column of boolean, tinyint, "
                f"smallint, int, bigint, string or date: {shown}"
            )
        keys.append(close[0])
    return tuple(keys)


def _from(directory: Path, location: str) -> str:
    """Return a location relative to the project if it is a relative local path, otherwise unchanged."""
    if is_s3(location) or os.path.isabs(location) or "://" in location:  # noqa: PTH117  also for file://
        return location
    return os.path.relpath(location, directory)
