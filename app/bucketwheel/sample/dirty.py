"""Sample data with one defect each: every kind of bad input that Bucketwheel has an answer to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

HEADER = ("OMC_FLYWHEEL_TABLE", "OMC_FLYWHEEL_COLUMN")


@dataclass(frozen=True)
class Material:
    """The good sample that a defect is put into.

    Attributes:
        source: Directory of the snapshots.
        snapshot: The one good snapshot.
        files: Its Parquet files, at least two.
        mapping: Path of the mapping CSV.
        mapped: Pairs of table and column in it, in order.
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
        """The mapped column that defects of a column befall."""
        return self.mapped[0][1]


_Change = Callable[[pa.Table, Material], pa.Table]


def add_defect(name: str, material: Material) -> str:
    """Put the defect ``name`` into ``material`` and say what was done to what."""
    if name in _SNAPSHOT_DEFECTS:
        return _SNAPSHOT_DEFECTS[name][1](material)
    if name in _MAPPING_DEFECTS:
        description, text = _MAPPING_DEFECTS[name]
        material.mapping.write_text(text(material), encoding="utf-8")
        return description
    if name in _LAST_FILE_DEFECTS:
        description, change = _LAST_FILE_DEFECTS[name]
        _rewrite(material, material.files[-1:], change)
        return f"{description} ({material.files[-1].name})"
    description, change = _ALL_FILES_DEFECTS[name]
    _rewrite(material, material.files, change)
    return description


def mapping_csv(pairs: Iterable[tuple[str, str]], header: tuple[str, str] = HEADER) -> str:
    """Compose the mapping CSV, one line for each pair of table and column."""
    return "".join(f"{table},{column}\n" for table, column in (header, *pairs))


def _rewrite(material: Material, paths: Iterable[Path], change: _Change) -> None:
    for path in paths:
        with pq.ParquetFile(path) as file:
            table = file.read()
        # Always by pyarrow: other writers refuse some of what is broken here, names that differ in case say.
        pq.write_table(
            change(table, material),
            path,
            row_group_size=material.row_group_rows,
            compression="snappy",
            store_schema=False,
        )


def _replace(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def _copy_head(material: Material, directory: Path) -> None:
    directory.mkdir(parents=True)
    with pq.ParquetFile(material.files[0]) as file:
        head = next(file.iter_batches(batch_size=100))
    pq.write_table(pa.Table.from_batches([head]), directory / "part-00000.parquet", store_schema=False)


def _no_snapshot(material: Material) -> str:
    for path in material.snapshot.iterdir():
        path.unlink()
    material.snapshot.rmdir()
    return f"{material.source} is empty"


def _newest_incomplete(material: Material) -> str:
    good = date.fromisoformat(material.snapshot.name.removeprefix("snapshot_dt="))
    newer = material.source / f"snapshot_dt={good + timedelta(days=30)}"
    _copy_head(material, newer)
    return f"{newer.name} has no _SUCCESS"


def _odd_directories(material: Material) -> str:
    names = (
        "snapshot_dt=2025-13-40",
        "snapshot_dt=latest",
        "snapshot_dt=",
        "SNAPSHOT_DATE=2099-01-01",
        "backup",
    )
    for name in names:
        _copy_head(material, material.source / name)
        (material.source / name / "_SUCCESS").touch()
    (material.source / "_temporary").mkdir()
    return f"beside {material.snapshot.name} lie {', '.join(names)} and _temporary"


def _zero_files(material: Material) -> str:
    for path in material.files:
        path.unlink()
    return f"{material.snapshot.name} holds _SUCCESS and nothing else"


def _truncated_file(material: Material) -> str:
    path = material.files[-1]
    kept = path.stat().st_size * 3 // 5
    with path.open("r+b") as file:
        file.truncate(kept)
    return f"{path.name} ends after {kept:,} bytes"


def _text_file(material: Material) -> str:
    path = material.snapshot / f"part-{len(material.files):05d}.parquet"
    path.write_text(f"{material.key},{material.column}\nCU00000000000000000,34\n" * 20, encoding="utf-8")
    return f"{path.name} is a CSV"


def _corrupt_page(material: Material) -> str:
    path = material.files[-1]
    with pq.ParquetFile(path) as file:
        footer = file.metadata
    group = footer.num_row_groups - 1
    chunk = next(
        chunk
        for chunk in map(footer.row_group(group).column, range(footer.num_columns))
        if chunk.path_in_schema == material.column
    )
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    length = start + chunk.total_compressed_size - chunk.data_page_offset
    with path.open("r+b") as file:
        file.seek(chunk.data_page_offset)
        # A block of zeros, as a disk leaves it: flipped bits may decode to other values, this never decodes.
        file.write(bytes(length))
    return f"{path.name}, row group {group}, column {material.column}: the data page is overwritten"


def _hidden_files(material: Material) -> str:
    names = (
        f".{material.files[0].name}.crc",
        ".DS_Store",
        "_committed_42",
        ".part-00000.parquet",
        "_tmp.parquet",
    )
    for name in names:
        (material.snapshot / name).write_bytes(b"not Parquet\n")
    hidden = material.snapshot / "_temporary" / "0"
    hidden.mkdir(parents=True)
    (hidden / "part-00000.parquet").write_bytes(b"not Parquet\n")
    return f"{', '.join(names)} and _temporary/0 lie among the files"


def _table_of_101_columns(material: Material) -> str:
    table = material.mapped[0][0]
    present = sum(1 for name, _ in material.mapped if name == table)
    added = [f"IBE{70_000 + i}_Flag" for i in range(101 - present)]

    def widen(wide: pa.Table, _material: Material) -> pa.Table:
        values = pa.array(np.arange(len(wide)) % 2 == 0)
        for name in added:
            wide = wide.append_column(name, values)
        return wide

    _rewrite(material, material.files, widen)
    pairs = (*material.mapped, *((table, name) for name in added))
    material.mapping.write_text(mapping_csv(pairs), encoding="utf-8")
    return f"{table} has {present + len(added)} columns"


def _key_in_capitals(table: pa.Table, material: Material) -> pa.Table:
    names = [name.upper() if name == material.key else name for name in table.column_names]
    return table.rename_columns(names)


def _some_null_keys(table: pa.Table, material: Material) -> pa.Table:
    chosen = pa.array(np.arange(len(table)) % 100 == 0)
    return _replace(table, material.key, pc.if_else(chosen, None, table[material.key]))


def _some_keys_again(table: pa.Table, material: Material) -> pa.Table:
    rows = np.arange(len(table))
    return _replace(table, material.key, table[material.key].take(pa.array(rows - (rows % 100 == 1))))


def _blank_lines(material: Material) -> str:
    return "\n" + mapping_csv(material.mapped).replace("\n", "\n\n") + "   \n,\n\n"


def _spaces(material: Material) -> str:
    spaced = [(f"  {table}", f" {column}\t") for table, column in material.mapped]
    return mapping_csv(spaced, (f"{HEADER[0]} ", f" {HEADER[1]} "))


_SNAPSHOT_DEFECTS: Mapping[str, tuple[str, Callable[[Material], str]]] = {
    "no_snapshot": ("there is no snapshot at all", _no_snapshot),
    "newest_incomplete": ("a newer snapshot has no _SUCCESS yet", _newest_incomplete),
    "odd_directories": ("directories without a valid date lie beside the snapshot", _odd_directories),
    "zero_files": ("the snapshot has no files", _zero_files),
    "truncated_file": ("the last file is cut off", _truncated_file),
    "text_file": ("a text file is called .parquet", _text_file),
    "corrupt_page": ("a page of one column cannot be read, though the footer can", _corrupt_page),
    "hidden_files": ("hidden and marker files lie among the data (to be ignored)", _hidden_files),
    "table_of_101_columns": ("one table has 101 columns", _table_of_101_columns),
}
_LAST_FILE_DEFECTS: Mapping[str, tuple[str, _Change]] = {
    "type_disagrees": (
        "IBE8688_Age is a string in the last file, a number in the others",
        lambda t, m: _replace(t, m.column, t[m.column].cast(pa.string())),
    ),
    "order_differs": (
        "the last file has its columns in reverse order (fine)",
        lambda t, _: t.select(t.column_names[::-1]),
    ),
    "missing_column": (
        "the last file lacks IBE8688_Age",
        lambda t, m: t.drop_columns([m.column]),
    ),
    "extra_column": (
        "the last file alone has a column IBE9999_Pilot",
        lambda t, _: t.append_column("IBE9999_Pilot", pa.nulls(len(t), pa.string())),
    ),
}
_ALL_FILES_DEFECTS: Mapping[str, tuple[str, _Change]] = {
    "zero_rows": ("the files have no rows", lambda t, _: t.slice(0, 0)),
    "key_missing": ("no file has the key", lambda t, m: t.drop_columns([m.key])),
    "key_wrong_case": ("the key is written in capitals", _key_in_capitals),
    "columns_differ_in_case": (
        "IBE8688_Age and ibe8688_aGE differ only in case",
        lambda t, m: t.append_column(m.column.swapcase(), t[m.column]),
    ),
    "float_key": (
        "the key is a floating-point number",
        lambda t, m: _replace(t, m.key, pa.array(np.arange(len(t), dtype=np.float64))),
    ),
    "null_keys": ("one key in a hundred is null", _some_null_keys),
    "duplicate_keys": ("one key in a hundred is that of the row before", _some_keys_again),
}
_MAPPING_DEFECTS: Mapping[str, tuple[str, Callable[[Material], str]]] = {
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
        "the mapping says its first lines again at the end",
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
