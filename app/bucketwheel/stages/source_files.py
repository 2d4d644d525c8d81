"""Find the data files of a snapshot by their names; the names of others may hide Parquet files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from operator import itemgetter

from bucketwheel.contracts import Services
from bucketwheel.errors import SchemaError, SnapshotError
from bucketwheel.formatting import counted, shortened
from bucketwheel.runs.manifest import IgnoredFiles
from bucketwheel.safe_text import one_line
from bucketwheel.stages.file_kinds import PARQUET, START_BYTES, format_of, is_compressed
from bucketwheel.stages.source_partitions import directory_values
from bucketwheel.stages.table_formats import SPARK_MARKER, is_hidden, refuse_format
from bucketwheel.storage import Entry, Storage

# Reason why hidden files do not count.
HIDDEN_FILES = "hidden, with names that begin with . or _"
_SHOWN = 20
_EXAMPLES = 5
# Files to look into; each costs a request on S3.
_LOOKED_INTO = 100
_PARQUET = (".parquet", ".parq")
# Such as a.parquet.gz.
_MAYBE_COMPRESSED = re.compile(r".*\.parq(uet)?\.\w+", re.IGNORECASE)
# Takes every name; `*` would need quotes in YAML and in shells.
EVERY_FILE = "all"


def patterns_of(services: Services) -> tuple[str, ...]:
    """Return the patterns of the names of data files; empty for names that end in .parquet or .parq."""
    return services.source.files or services.settings.snapshot.files


def is_data_file(entry: Entry, patterns: Sequence[str]) -> bool:
    """Return whether a file that is neither hidden nor a marker is a data file, by its name."""
    if entry.is_directory:
        return False
    named = entry.name.lower().endswith(_PARQUET)
    if not patterns:
        return named
    if EVERY_FILE in patterns:
        return named or entry.bytes > 0
    # Some programs leave empty objects that stand for directories.
    return any(fnmatchcase(entry.name, pattern) for pattern in patterns) and (named or entry.bytes > 0)


def data_files(
    storage: Storage,
    location: str,
    patterns: Sequence[str] = (),
    warnings: list[str] | None = None,
    setting: str = "datasets.NAME.files",
    ignored: dict[str, list[Entry]] | None = None,
) -> list[Entry]:
    """Return the data files below a snapshot, sorted; hidden and marker files do not count.

    A directory `_name=value` is not hidden: Spark reads it, too.

    Args:
        storage: storage of the location.
        location: the snapshot.
        patterns: from `patterns_of`.
        warnings: gets the names of other files, and the `setting` to change if they are Parquet files.
        setting: name of the setting of the patterns.
        ignored: gets the other files by the reason why they do not count.

    Raises:
        SnapshotError: the snapshot is a table of Delta, Iceberg or Hudi, some of its files are Parquet by their
            content only, or an entry is neither a file nor a directory; reading the others would lose rows.
    """
    files, others = [], []
    ignored = {} if ignored is None else ignored
    unnamed = f"not of the form {', '.join(patterns)}" if patterns else "not named .parquet"
    for entry in storage.list(location, recursive=True):
        below = entry.location.removeprefix(location).strip("/").split("/")
        refuse_format(location, below)
        if any(is_hidden(part) for part in below):
            if not entry.is_directory:
                ignored.setdefault(HIDDEN_FILES, []).append(entry)
            continue
        check_readable(entry)
        if entry.is_directory:
            continue
        if is_data_file(entry, patterns):
            files.append(entry)
        elif entry.bytes and not entry.name.endswith(".crc"):
            others.append(entry)
            ignored.setdefault(unnamed, []).append(entry)
        else:
            ignored.setdefault("checksums" if entry.bytes else "empty", []).append(entry)
    if others and warnings is not None:
        starts = {} if patterns or not files else _starts(storage, others)
        _check_others(location, files, others, starts, setting)
        names = shortened([_described(entry, starts) for entry in others], _SHOWN)
        warnings.append(f"{location}: ignored {counted(len(others), 'file')}: {names}: {unnamed}")
    return files


def _check_others(
    location: str, files: Sequence[Entry], others: Sequence[Entry], starts: Mapping[str, bytes], setting: str
) -> None:
    """Refuse files that are not named as data files, but are Parquet files, maybe compressed as a whole."""
    begin = {entry: starts.get(entry.location, b"") for entry in others}
    hidden = [entry for entry, start in begin.items() if start.startswith(PARQUET)]
    if hidden:
        raise SnapshotError(
            f"{location}: {counted(len(files), 'file')} named .parquet, and files that are Parquet only by their "
            f"content: {_names(hidden)}; set {setting}={EVERY_FILE} to read all files, or set it to the patterns "
            "to read",
            accept={setting: EVERY_FILE},
        )
    packed = [
        entry for entry, start in begin.items() if _MAYBE_COMPRESSED.fullmatch(entry.name) and is_compressed(start)
    ]
    if packed:
        raise SnapshotError(
            f"{location}: {counted(len(files), 'file')} named .parquet, and Parquet files that are compressed as a "
            f"whole: {_names(packed)}; decompress them, because their rows would be lost, or move them elsewhere"
        )


def _described(entry: Entry, starts: Mapping[str, bytes]) -> str:
    """Return the name of a file with its format, if it is known."""
    found = format_of(starts.get(entry.location, b""))
    return f"{entry.name} ({found})" if found else entry.name


def ignored_files(ignored: Mapping[str, Sequence[Entry]], marker: str | None) -> tuple[IgnoredFiles, ...]:
    """Return the manifest's record of ignored files; the `marker` of complete snapshots and Spark's are none."""
    markers = {marker, SPARK_MARKER}
    others = {
        reason: [entry for entry in entries if entry.name not in markers] for reason, entries in ignored.items()
    }
    return tuple(
        IgnoredFiles(
            reason=reason,
            files=len(entries),
            bytes=sum(entry.bytes for entry in entries),
            names=tuple(entry.name for entry in entries[:_EXAMPLES]),
        )
        for reason, entries in sorted(others.items())
        if entries
    )


def check_readable(entry: Entry) -> None:
    """Refuse links without a target, link loops, FIFOs, sockets and devices, whose rows would be lost.

    Raises:
        SnapshotError: names the entry and the fix.
    """
    if entry.problem:
        raise SnapshotError(one_line(f"{entry.location}: {entry.problem}"))


def check_partition_columns(location: str, entries: Sequence[Entry], columns: Collection[str], setting: str) -> None:
    """Refuse data files in directories `name=value` whose column is not in the files, because it would be lost.

    Raises:
        SnapshotError: names the column and the `setting` that adds it or leaves it out.
    """
    known = {column.lower() for column in columns}
    for entry in entries:
        for name, value in directory_values(location, entry):
            if name.lower() not in known:
                raise SnapshotError(
                    f"{location}: files lie in directories such as {name}={value}, but have no column {name!r}, so "
                    f"its values would be lost; set {setting}=columns to add the column, or {setting}=ignore to "
                    "leave it out",
                    accept={setting: "columns"},
                )


def check_keys_in_files(
    dataset: str, location: str, entries: Sequence[Entry], columns: Collection[str], keys: Collection[str]
) -> None:
    """Refuse keys whose values are in names of directories `name=value` only, because buckets follow the files.

    Raises:
        SchemaError: names the key and the fix.
    """
    missing = {key.lower() for key in keys}.difference(column.lower() for column in columns)
    for entry in entries if missing else ():
        for name, _ in directory_values(location, entry):
            if name.lower() in missing:
                raise SchemaError(
                    f"{location}: key {name!r} is only in the names of directories ({name}=…), but Bucketwheel takes "
                    "keys from the files; have the snapshot written with this column in its files, or set "
                    f"datasets.{dataset}.key to a column of the files"
                )


def no_data_files(services: Services, location: str, otherwise: str, setting: str = "") -> SnapshotError:
    """Return the error of a snapshot without data files.

    Args:
        services: of the run.
        location: the snapshot.
        otherwise: advice if no file is Parquet by its content.
        setting: name of the setting of the patterns; by default that of the dataset.
    """
    setting = setting or f"datasets.{services.dataset}.files"
    found = (
        entry
        for entry in services.storage.list(location, recursive=True)
        if not entry.is_directory and entry.bytes and not entry.name.startswith((".", "_"))
    )
    others = list(islice(found, _LOOKED_INTO))
    starts = _starts(services.storage, others)
    if hidden := [entry for entry in others if starts.get(entry.location, b"").startswith(PARQUET)]:
        patterns = patterns_of(services)
        expected = f"of the form {', '.join(patterns)}" if patterns else "named .parquet or .parq"
        return SnapshotError(
            f"{location}: no file is {expected}; Parquet by content, as UNLOAD of Athena writes: {_names(hidden)}; "
            f"set {setting}={EVERY_FILE}, or to a pattern of their names",
            accept={setting: EVERY_FILE},
        )
    if others:
        names = shortened([_described(entry, starts) for entry in others], _SHOWN)
        otherwise = f"{otherwise}. Bucketwheel reads Parquet files only; there are others: {names}"
    return SnapshotError(f"{location}: {otherwise}")


def _names(entries: Sequence[Entry]) -> str:
    return shortened([entry.name for entry in entries], _SHOWN)


def _starts(storage: Storage, entries: Sequence[Entry]) -> dict[str, bytes]:
    """Return the first bytes of some files, by location: of the first ones with each suffix."""
    found = {}
    counts: Counter[str] = Counter()
    ranks = []
    for entry in entries:
        suffix = entry.name.rpartition(".")[2] if "." in entry.name else ""
        counts[suffix] += 1
        ranks.append((counts[suffix], entry))
    for _, entry in sorted(ranks, key=itemgetter(0))[:_LOOKED_INTO]:
        try:
            with storage.open(entry.location) as stream:
                found[entry.location] = bytes(stream.read(START_BYTES))
        except OSError:
            # Only the advice needs this file.
            continue
    return found
