from __future__ import annotations

import csv
import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.errors import ConfigError, MissingDependencyError
from bucketwheel.sample import DIRTY, WRITERS, Sample, SampleSpec, write_sample
from bucketwheel.sample.columns import KEY, wide_columns

SMALL = SampleSpec(rows=1000, tables=2, columns=5, files=3, row_group_rows=200)
HEADER = ["OMC_FLYWHEEL_TABLE", "OMC_FLYWHEEL_COLUMN"]
FIRST = "IBE8688_Age"


Cannot = Callable[[str], NoReturn]


def need(writer: str, cannot: Cannot) -> None:
    if importlib.util.find_spec(writer) is None:
        cannot(f"there is no {writer}: pip install {writer}")


def digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def parts(snapshot: Path) -> list[Path]:
    return sorted(snapshot.glob("part-*.parquet"))


def read(path: Path) -> Any:
    with pq.ParquetFile(path) as file:
        return file.read()


def keys(snapshot: Path) -> list[str]:
    return [key for path in parts(snapshot) for key in read(path)[KEY].to_pylist()]


def names(path: Path) -> list[str]:
    return list(read(path).column_names)


def mapping(sample: Sample) -> list[list[str]]:
    with sample.mapping.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return write_sample(tmp_path_factory.mktemp("good"), SMALL)


def test_write_sample_depends_on_seed_only(tmp_path: Path, good: Sample) -> None:
    write_sample(tmp_path / "again", SMALL)
    other = write_sample(tmp_path / "other", replace(SMALL, seed=8))
    assert digests(tmp_path / "again") == digests(good.directory)
    assert not set(keys(other.snapshot)) & set(keys(good.snapshot))


def test_write_sample_writes_expected_layout_and_sizes(good: Sample) -> None:
    root = good.directory / "opus"
    assert set(digests(good.directory)) == {
        "conf/base.yaml",
        "opus/infobase_attributes/mapping.csv",
        *(
            f"opus/{dataset}/raw_input/snapshot_dt=2025-10-22/{name}"
            for dataset in ("infobase_attributes", "addressable_ids")
            for name in ("_SUCCESS", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet")
        ),
    }
    assert good.source == root / "infobase_attributes" / "raw_input"
    assert good.bytes == sum(p.stat().st_size for p in parts(good.snapshot))
    assert good.rows == 1000
    assert "1,000 people, 2 tables of 5 columns, 3 files" in good.description
    footer = pq.read_metadata(parts(good.snapshot)[0])
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [200, 133]
    assert b"ARROW:schema" not in (footer.metadata or {})


def test_keys_are_unique_unsorted_and_equal_in_both_datasets(tmp_path: Path, good: Sample) -> None:
    key_column = keys(good.snapshot)
    assert len(set(key_column)) == 1000
    assert key_column != sorted(key_column)
    assert {(len(key), key[:2], key.upper() == key) for key in key_column} == {(19, "CU", True)}
    assert keys(good.addressable_source / "snapshot_dt=2025-10-22") == key_column
    one = write_sample(tmp_path, replace(SMALL, files=1))
    assert keys(one.snapshot) == key_column


def test_mapping_covers_every_table_and_column(good: Sample) -> None:
    header, *lines = mapping(good)
    assert header == HEADER
    assert [table for table, _ in lines] == ["IBE_01"] * 5 + ["IBE_02"] * 5
    mapped = [column for _, column in lines]
    assert [n for n in names(parts(good.snapshot)[0]) if n in mapped] == mapped
    unmapped = set(names(parts(good.snapshot)[0])) - set(mapped)
    assert unmapped == {KEY, "Record_Source", "Batch_Number", "Load_Date"}


def test_column_names_are_unique_in_lower_case() -> None:
    columns = wide_columns(25, 100, 7)
    assert len({c.name.lower() for c in columns}) == len(columns) == 2504
    tables = list(dict.fromkeys(c.table for c in columns if c.table))
    assert tables[:6] == ["IBE_01", "IBE_02", "IBE_04", "MIACS_01", "IBE_05", "IBE_06"]
    assert len(tables) == 25


def test_columns_have_many_types_skewed_codes_and_nulls(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, SampleSpec(rows=2000, files=1))
    table = read(parts(sample.snapshot)[0])
    types = {str(field.type) for field in table.schema}
    assert types >= {
        *("string", "int16", "int32", "int64", "double", "bool"),
        *("date32[day]", "timestamp[us]", "decimal128(10, 2)", "list<element: string>"),
    }
    assert table.num_columns == 1 + 8 * 15 + 3
    shares = [column.null_count / len(column) for column in table.columns]
    assert min(shares) == 0
    assert 0.5 < max(shares) < 0.65
    low = [c for c in table.columns if pa.types.is_string(c.type) and len(c.unique()) <= 501]
    assert len(low) >= 0.6 * 120
    flag = table["IBE8690_Homeowner_Flag"]
    assert set(flag.unique().to_pylist()) <= {"Y", "N", None}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_writes_the_same_people(tmp_path: Path, good: Sample, writer: str, cannot: Cannot) -> None:
    need(writer, cannot)
    wide = SampleSpec(rows=1000, tables=2, columns=18, files=3, writer=writer)
    sample = write_sample(tmp_path, wide)
    assert [pq.read_metadata(p).num_rows for p in parts(sample.snapshot)] == [333, 333, 334]
    assert set(keys(sample.snapshot)) == set(keys(good.snapshot))
    if writer != "pyarrow":
        reference = write_sample(tmp_path / "reference", replace(wide, writer="pyarrow"))
        for ours, theirs in zip(parts(reference.snapshot), parts(sample.snapshot), strict=True):
            assert read(ours).to_pylist() == read(theirs).to_pylist()


@pytest.mark.parametrize(("writer", "extra"), [("duckdb", "duckdb"), ("polars", "bench")])
def test_missing_writer_error_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, writer, None)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'bucketwheel\[{extra}\]'"):
        write_sample(tmp_path / "new", replace(SMALL, writer=writer))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"writer": "pyarow"}, r"writer is 'pyarow'.*did you mean 'pyarrow'\?.*duckdb, polars"),
        ({"dirty": "trunkated_file"}, r"did you mean 'truncated_file'\?.*mapping_bom"),
        ({"dirty": "zzz"}, r"dirty is 'zzz', which is unknown: choose one of: no_snapshot"),
        ({"rows": 0}, "rows is 0"),
        ({"files": -1}, "files is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"snapshot_dt": "2025-13-40"}, "snapshot_dt is '2025-13-40'"),
        ({"snapshot_dt": "20251022"}, "YYYY-MM-DD"),
    ],
)
def test_write_sample_rejects_invalid_values(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_sample(tmp_path, replace(SMALL, **change))


def test_write_sample_rejects_existing_snapshot(tmp_path: Path) -> None:
    write_sample(tmp_path, SMALL)
    with pytest.raises(ConfigError, match="already holds Parquet files"):
        write_sample(tmp_path, replace(SMALL, files=1))
    write_sample(tmp_path, replace(SMALL, snapshot_dt="2025-11-22"))


def test_more_files_than_rows_writes_no_empty_files(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, replace(SMALL, rows=2, files=5))
    assert [len(read(p)) for p in parts(sample.snapshot)] == [1, 1]


# One check for each defect: what distinguishes the sample from a good one. Arguments: the sample, its files.
Check = Callable[[Sample, list[Path]], bool]


def unreadable(path: Path) -> bool:
    try:
        read(path)
    except (OSError, pa.ArrowException):
        return True
    return False


def bad_chunks(path: Path) -> list[tuple[int, str]]:
    problems = []
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            for name in file.schema_arrow.names:
                try:
                    file.read_row_group(group, columns=[name])
                except OSError:
                    problems.append((group, name))
    return problems


def stripped(sample: Sample) -> list[list[str]]:
    lines = [[cell.strip().lstrip("\ufeff") for cell in line] for line in mapping(sample)]
    return [line for line in lines if any(line)]


GOOD_LINES = [HEADER, *([c.table, c.name] for c in wide_columns(2, 5, 7) if c.table)]
CHECKS: dict[str, Check] = {
    "no_snapshot": lambda s, _: not list(s.source.iterdir()),
    "newest_incomplete": lambda s, f: (
        len(f) == 3
        and sorted(p.name for p in s.source.iterdir()) == ["snapshot_dt=2025-10-22", "snapshot_dt=2025-11-21"]
        and len(read(s.source / "snapshot_dt=2025-11-21" / "part-00000.parquet")) == 100
        and not (s.source / "snapshot_dt=2025-11-21" / "_SUCCESS").exists()
    ),
    "odd_directories": lambda s, f: (
        len(f) == 3 and {"snapshot_dt=2025-13-40", "_temporary"} < {p.name for p in s.source.iterdir()}
    ),
    "zero_files": lambda s, f: not f and (s.snapshot / "_SUCCESS").exists(),
    "zero_rows": lambda _, f: [len(read(p)) for p in f] == [0, 0, 0],
    "truncated_file": lambda _, f: [unreadable(p) for p in f] == [False, False, True],
    "text_file": lambda _, f: [unreadable(p) for p in f] == [False, False, False, True],
    "corrupt_page": lambda _, f: [bad_chunks(p) for p in f] == [[], [], [(1, FIRST)]],
    "hidden_files": lambda s, f: (
        len(f) == 3
        and {".part-00000.parquet.crc", "_tmp.parquet", "_SUCCESS"} < {p.name for p in s.snapshot.iterdir()}
    ),
    "type_disagrees": lambda _, f: [str(read(p).schema.field(FIRST).type) for p in f] == ["int16", "int16", "string"],
    "order_differs": lambda _, f: names(f[0]) == names(f[2])[::-1],
    "missing_column": lambda _, f: [FIRST in names(p) for p in f] == [True, True, False],
    "extra_column": lambda _, f: [len(names(p)) for p in f] == [14, 14, 15],
    "key_missing": lambda _, f: not any(KEY in names(p) for p in f),
    "key_wrong_case": lambda _, f: all(KEY.upper() in names(p) and KEY not in names(p) for p in f),
    "columns_differ_in_case": lambda _, f: all({FIRST, FIRST.swapcase()} < set(names(p)) for p in f),
    "float_key": lambda _, f: all(str(read(p).schema.field(KEY).type) == "double" for p in f),
    "null_keys": lambda _, f: [read(p)[KEY].null_count for p in f] == [4, 4, 4],
    "duplicate_keys": lambda s, _: len(set(keys(s.snapshot))) == 1000 - 12,
    "mapping_unknown_column": lambda s, f: {c for _, c in mapping(s)[1:]} - set(names(f[0])) == {"IBE8688_Age_Code2"},
    "mapping_unknown_header": lambda s, _: mapping(s) == [["TABLE_NAME", "COLUMN_NAME"], *GOOD_LINES[1:]],
    "mapping_bom": lambda s, _: s.mapping.read_bytes()[:3] == b"\xef\xbb\xbf" and stripped(s) == GOOD_LINES,
    "mapping_blank_lines": lambda s, _: mapping(s).count([]) > 10 and stripped(s) == GOOD_LINES,
    "mapping_spaces": lambda s, _: mapping(s)[1] == ["  IBE_01", f" {FIRST}\t"] and stripped(s) == GOOD_LINES,
    "mapping_duplicate_rows": lambda s, _: mapping(s) == [*GOOD_LINES, *GOOD_LINES[1:3]],
    "mapping_lists_key": lambda s, _: mapping(s)[1] == ["IBE_01", KEY] and len(mapping(s)) == 12,
    "table_of_101_columns": lambda s, f: len({c for t, c in mapping(s) if t == "IBE_01"} & set(names(f[2]))) == 101,
}


def test_every_defect_has_a_check() -> None:
    assert set(CHECKS) == set(DIRTY)


@pytest.mark.parametrize("name", CHECKS)
def test_dirty_sample_has_its_defect(tmp_path: Path, name: str) -> None:
    sample = write_sample(tmp_path, replace(SMALL, dirty=name))
    assert CHECKS[name](sample, parts(sample.snapshot))
    assert f"; {name}: " in sample.description
    assert len(keys(sample.addressable_source / "snapshot_dt=2025-10-22")) == 1000


@pytest.mark.parametrize("name", ["corrupt_page", "table_of_101_columns", "type_disagrees"])
@pytest.mark.parametrize("writer", ["duckdb", "polars"])
def test_defects_apply_to_files_of_other_writers(tmp_path: Path, name: str, writer: str, cannot: Cannot) -> None:
    need(writer, cannot)
    sample = write_sample(tmp_path, SampleSpec(rows=100, tables=1, columns=3, files=1, dirty=name, writer=writer))
    first, last = parts(sample.snapshot)
    if name == "corrupt_page":
        assert bad_chunks(first) == []
        assert bad_chunks(last) == [(0, FIRST)]
    elif name == "type_disagrees":
        assert read(first).schema.field(FIRST).type != read(last).schema.field(FIRST).type
    else:
        assert len(mapping(sample)) == 102
