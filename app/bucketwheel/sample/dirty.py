"""Put a defect into sample data: one for every kind of bad input that Bucketwheel handles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bucketwheel.formatting import counted

HEADER = ("OMC_FLYWHEEL_TABLE", "OMC_FLYWHEEL_COLUMN")


@dataclass(frozen=True)
class CleanSample:
    """A clean sample that receives a defect.

    Attributes:
        source: Directory of the snapshots.
        snapshot: Its only snapshot.
        files: Its Parquet files, at least two.
        mapping: Path of the mapping CSV.
        mapped: Its pairs of table and column, in order.
        key: Name of the key column.
        row_group_rows: Rows of a full row group.
    """

    source: Path
    snapshot: Path
    files: tuple[Path, ...]
    mapping: Path
    mapped: tuple[tuple[str, str], ...]
    key: str
    row_group_rows: int

    @property
    def column(self) -> str:
        """Return the mapped column that receives the defects of a column."""
        return self.mapped[0][1]


_Change = Callable[[pa.Table, CleanSample], pa.Table]


def add_defect(name: str, sample: CleanSample) -> str:
    """Put the defect ``name`` into ``sample`` and return its description."""
    if name in _SNAPSHOT_DEFECTS:
        return _SNAPSHOT_DEFECTS[name][1](sample)
    if name in _MAPPING_DEFECTS:
        description, text = _MAPPING_DEFECTS[name]
        sample.mapping.write_text(text(sample), encoding="utf-8")
        return description
    if name in _LAST_FILE_DEFECTS:
        description, change = _LAST_FILE_DEFECTS[name]
        _rewrite(sample, sample.files[-1:], change)
        return f"{description} ({sample.files[-1].name})"
    description, change = _ALL_FILES_DEFECTS[name]
    _rewrite(sample, sample.files, change)
    return description


def mapping_csv(pairs: Iterable[tuple[str, str]], header: tuple[str, str] = HEADER) -> str:
    """Return the mapping CSV, with one line for each pair of table and column."""
    return "".join(f"{table},{column}\n" for table, column in (header, *pairs))


def _rewrite(sample: CleanSample, paths: Iterable[Path], change: _Change) -> None:
    for path in paths:
        with pq.ParquetFile(path) as file:
            table = file.read()
        # Always use pyarrow: other writers reject some defects, such as names that differ only in case.
        pq.write_table(
            change(table, sample),
            path,
            row_group_size=sample.row_group_rows,
            compression="snappy",
            store_schema=False,
        )


def _replace(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def _copy_head(sample: CleanSample, directory: Path) -> None:
    directory.mkdir(parents=True)
    with pq.ParquetFile(sample.files[0]) as file:
        head = next(file.iter_batches(batch_size=100))
    pq.write_table(pa.Table.from_batches([head]), directory / "part-00000.parquet", store_schema=False)


def _no_snapshot(sample: CleanSample) -> str:
    for path in sample.snapshot.iterdir():
        path.unlink()
    sample.snapshot.rmdir()
    return f"{sample.source} is empty"


def _newest_incomplete(sample: CleanSample) -> str:
    good = date.fromisoformat(sample.snapshot.name.removeprefix("snapshot_dt="))
    newer = sample.source / f"snapshot_dt={good + timedelta(days=30)}"
    _copy_head(sample, newer)
    return f"{newer.name} has no _SUCCESS"


def _odd_directories(sample: CleanSample) -> str:
    names = (
        "snapshot_dt=2025-13-40",
        "snapshot_dt=latest",
        "snapshot_dt=",
        "SNAPSHOT_DATE=2099-01-01",
        "backup",
    )
    for name in names:
        _copy_head(sample, sample.source / name)
        (sample.source / name / "_SUCCESS").touch()
    (sample.source / "_temporary").mkdir()
    return f"{', '.join(names)} and _temporary are beside {sample.snapshot.name}"


def _zero_files(sample: CleanSample) -> str:
    for path in sample.files:
        path.unlink()
    return f"{sample.snapshot.name} contains only _SUCCESS"


def _truncated_file(sample: CleanSample) -> str:
    path = sample.files[-1]
    kept = path.stat().st_size * 3 // 5
    with path.open("r+b") as file:
        file.truncate(kept)
    return f"{path.name} ends after {kept:,} bytes"


def _text_file(sample: CleanSample) -> str:
    path = sample.snapshot / f"part-{len(sample.files):05d}.parquet"
    path.write_text(f"{sample.key},{sample.column}\nCU00000000000000000,34\n" * 20, encoding="utf-8")
    return f"{path.name} is a CSV"


def _corrupt_page(sample: CleanSample) -> str:
    path = sample.files[-1]
    with pq.ParquetFile(path) as file:
        footer = file.metadata
    group = footer.num_row_groups - 1
    chunk = next(
        chunk
        for chunk in map(footer.row_group(group).column, range(footer.num_columns))
        if chunk.path_in_schema == sample.column
    )
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    length = start + chunk.total_compressed_size - chunk.data_page_offset
    with path.open("r+b") as file:
        file.seek(chunk.data_page_offset)
        # Zeros, as after a disk failure, never decode; flipped bits could decode to other values.
        file.write(bytes(length))
    return f"{path.name}, row group {group}, column {sample.column}: the data page is overwritten"


def _hidden_files(sample: CleanSample) -> str:
    names = (
        f".{sample.files[0].name}.crc",
        ".DS_Store",
        "_committed_42",
        ".part-00000.parquet",
        "_tmp.parquet",
    )
    for name in names:
        (sample.snapshot / name).write_bytes(b"not Parquet\n")
    hidden = sample.snapshot / "_temporary" / "0"
    hidden.mkdir(parents=True)
    (hidden / "part-00000.parquet").write_bytes(b"not Parquet\n")
    return f"{', '.join(names)} and _temporary/0 are among the files"


def _table_of_101_columns(sample: CleanSample) -> str:
    table = sample.mapped[0][0]
    present = sum(1 for name, _ in sample.mapped if name == table)
    added = [f"IBE{70_000 + i}_Flag" for i in range(101 - present)]

    def widen(wide: pa.Table, _material: CleanSample) -> pa.Table:
        values = pa.array(np.arange(len(wide)) % 2 == 0)
        for name in added:
            wide = wide.append_column(name, values)
        return wide

    _rewrite(sample, sample.files, widen)
    pairs = (*sample.mapped, *((table, name) for name in added))
    sample.mapping.write_text(mapping_csv(pairs), encoding="utf-8")
    return f"{table} has {counted(present + len(added), 'column')}"


def _key_in_capitals(table: pa.Table, sample: CleanSample) -> pa.Table:
    names = [name.upper() if name == sample.key else name for name in table.column_names]
    return table.rename_columns(names)


def _some_null_keys(table: pa.Table, sample: CleanSample) -> pa.Table:
    chosen = pa.array(np.arange(len(table)) % 100 == 0)
    return _replace(table, sample.key, pc.if_else(chosen, None, table[sample.key]))


def _some_duplicate_keys(table: pa.Table, sample: CleanSample) -> pa.Table:
    rows = np.arange(len(table))
    return _replace(table, sample.key, table[sample.key].take(pa.array(rows - (rows % 100 == 1))))


def _blank_lines(sample: CleanSample) -> str:
    return "\n" + mapping_csv(sample.mapped).replace("\n", "\n\n") + "   \n,\n\n"


def _spaces(sample: CleanSample) -> str:
    spaced = [(f"  {table}", f" {column}\t") for table, column in sample.mapped]
    return mapping_csv(spaced, (f"{HEADER[0]} ", f" {HEADER[1]} "))


_SNAPSHOT_DEFECTS: Mapping[str, tuple[str, Callable[[CleanSample], str]]] = {
    "no_snapshot": ("there is no snapshot", _no_snapshot),
    "newest_incomplete": ("a newer snapshot has no _SUCCESS yet", _newest_incomplete),
    "odd_directories": ("directories without a valid date are beside the snapshot", _odd_directories),
    "zero_files": ("the snapshot has no files", _zero_files),
    "truncated_file": ("the last file is cut off", _truncated_file),
    "text_file": ("a text file has the suffix .parquet", _text_file),
    "corrupt_page": ("a page of one column is corrupt, the footer is intact", _corrupt_page),
    "hidden_files": ("hidden and marker files are among the data (to be ignored)", _hidden_files),
    "table_of_101_columns": ("one table has 101 columns", _table_of_101_columns),
}
_LAST_FILE_DEFECTS: Mapping[str, tuple[str, _Change]] = {
    "type_disagrees": (
        "IBE8688_Age is a string in the last file, a number in the others",
        lambda t, m: _replace(t, m.column, t[m.column].cast(pa.string())),
    ),
    "order_differs": (
        "the last file has its columns in reverse order (accepted)",
        lambda t, _: t.select(t.column_names[::-1]),
    ),
    "missing_column": (
        "the last file lacks IBE8688_Age",
        lambda t, m: t.drop_columns([m.column]),
    ),
    "extra_column": (
        "only the last file has a column IBE9999_Pilot",
        lambda t, _: t.append_column("IBE9999_Pilot", pa.nulls(len(t), pa.string())),
    ),
}
_ALL_FILES_DEFECTS: Mapping[str, tuple[str, _Change]] = {
    "zero_rows": ("the files have no rows", lambda t, _: t.slice(0, 0)),
    "key_missing": ("no file has the key", lambda t, m: t.drop_columns([m.key])),
    "key_wrong_case": ("the key column is in capitals", _key_in_capitals),
    "columns_differ_in_case": (
        "IBE8688_Age and ibe8688_aGE differ only in case",
        lambda t, m: t.append_column(m.column.swapcase(), t[m.column]),
    ),
    "float_key": (
        "the key is a floating-point number",
        lambda t, m: _replace(t, m.key, pa.array(np.arange(len(t), dtype=np.float64))),
    ),
    "null_keys": ("one key in a hundred is NULL", _some_null_keys),
    "duplicate_keys": ("one key in a hundred repeats the key of the row before", _some_duplicate_keys),
}
_MAPPING_DEFECTS: Mapping[str, tuple[str, Callable[[CleanSample], str]]] = {
    "mapping_unknown_column": (
        "the mapping lists IBE8688_Age_Code2, which no file has",
        lambda m: mapping_csv((*m.mapped, (m.mapped[0][0], f"{m.column}_Code2"))),
    ),
    "mapping_unknown_header": (
        "the mapping has another header",
        lambda m: mapping_csv(m.mapped, ("TABLE_NAME", "COLUMN_NAME")),
    ),
    "mapping_bom": (
        "the mapping starts with a byte order mark",
        lambda m: "\ufeff" + mapping_csv(m.mapped),
    ),
    "mapping_blank_lines": ("the mapping has blank lines", _blank_lines),
    "mapping_spaces": ("names in the mapping have spaces around them", _spaces),
    "mapping_duplicate_rows": (
        "the mapping repeats its first lines at the end",
        lambda m: mapping_csv((*m.mapped, *m.mapped[:2])),
    ),
    "mapping_lists_key": (
        "the mapping lists the key as a column",
        lambda m: mapping_csv(((m.mapped[0][0], m.key), *m.mapped)),
    ),
}

DIRTY: Mapping[str, str] = {
    **{name: description for name, (description, _) in _SNAPSHOT_DEFECTS.items()},
    **{name: description for name, (description, _) in _LAST_FILE_DEFECTS.items()},
    **{name: description for name, (description, _) in _ALL_FILES_DEFECTS.items()},
    **{name: description for name, (description, _) in _MAPPING_DEFECTS.items()},
}
