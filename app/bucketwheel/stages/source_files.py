"""Find the data files of a snapshot by their names; the names of others may hide Parquet files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice

from bucketwheel.contracts import Services
from bucketwheel.errors import SnapshotError
from bucketwheel.formatting import counted, shortened
from bucketwheel.runs.manifest import IgnoredFiles
from bucketwheel.safe_text import one_line
from bucketwheel.stages.source_partitions import directory_values
from bucketwheel.storage import Entry, Storage, join

_SHOWN = 20
_EXAMPLES = 5
# What Spark and Hadoop leave beside the files of each job.
_SPARK_MARKER = "_SUCCESS"
# Files to look into; each costs a request on S3.
_LOOKED_INTO = 100
_PARQUET = (".parquet", ".parq")
_MAGIC = b"PAR1"
# Takes every name; `*` would need quotes in YAML and in shells.
EVERY_FILE = "all"
# Directories of table formats, whose data directories also hold files of earlier versions and of deleted rows.
_FORMATS = {"_delta_log": "Delta", ".hoodie": "Hudi"}
_ICEBERG = ".metadata.json"


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
        _refuse_format(location, below)
        if any(_is_hidden(part) for part in below):
            if not entry.is_directory:
                ignored.setdefault("hidden, with names that begin with . or _", []).append(entry)
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
        hidden = [] if patterns or not files else _parquet_inside(storage, others)
        if hidden:
            raise SnapshotError(
                f"{location}: {counted(len(files), 'file')} named .parquet, and files that are Parquet only by their "
                f"content: {_names(hidden)}; set {setting}={EVERY_FILE} to read all files, or set it to the patterns "
                "to read",
                accept={setting: EVERY_FILE},
            )
        warnings.append(f"{location}: ignored {counted(len(others), 'file')}: {_names(others)}: {unnamed}")
    return files


def ignored_files(ignored: Mapping[str, Sequence[Entry]], marker: str | None) -> tuple[IgnoredFiles, ...]:
    """Return the manifest's record of ignored files; the `marker` of complete snapshots and Spark's are none."""
    markers = {marker, _SPARK_MARKER}
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


def _is_hidden(part: str) -> bool:
    return part.startswith(".") or (part.startswith("_") and "=" not in part)


def refuse_table(storage: Storage, location: str, names: Collection[str]) -> None:
    """Raise SnapshotError if the directory above the snapshots, with these entries, is a table of another format."""
    for name in names:
        _refuse_format(location, [name])
    above, _, last = location.rpartition("/")
    # The data of an Iceberg table lies in `data/`, beside `metadata/`.
    for table in [*([location] if "metadata" in names else []), *([above] if last == "data" else [])]:
        for entry in storage.list(join(table, "metadata")):
            _refuse_format(location, ["metadata", entry.name])


def _refuse_format(location: str, below: Sequence[str]) -> None:
    """Raise SnapshotError if an entry belongs to the metadata of a table format."""
    name = next((_FORMATS[part] for part in below if part in _FORMATS), None)
    if below[-1].endswith(_ICEBERG) and "metadata" in below[:-1]:
        name = "Iceberg"
    if name:
        raise SnapshotError(
            f"{location}: is a table of {name} ({'/'.join(below)}); its directories also hold files of earlier "
            "versions and of deleted rows. Write the version to read as plain Parquet files into a directory of its "
            "own, and set the source to that"
        )


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
    if hidden := _parquet_inside(services.storage, list(islice(found, _LOOKED_INTO))):
        patterns = patterns_of(services)
        expected = f"of the form {', '.join(patterns)}" if patterns else "named .parquet or .parq"
        return SnapshotError(
            f"{location}: no file is {expected}; Parquet by content, as UNLOAD of Athena writes: {_names(hidden)}; "
            f"set {setting}={EVERY_FILE}, or to a pattern of their names",
            accept={setting: EVERY_FILE},
        )
    return SnapshotError(f"{location}: {otherwise}")


def _names(entries: Sequence[Entry]) -> str:
    return shortened([entry.name for entry in entries], _SHOWN)


def _parquet_inside(storage: Storage, entries: Sequence[Entry]) -> list[Entry]:
    """Return those of the first files that begin as Parquet files do."""
    found = []
    for entry in entries[:_LOOKED_INTO]:
        try:
            with storage.open(entry.location) as stream:
                if stream.read(len(_MAGIC)) == _MAGIC:
                    found.append(entry)
        except OSError:
            # Only the advice needs this file.
            continue
    return found
