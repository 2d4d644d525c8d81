"""Miniatures of the benchmark's data sets: a run has the rows of a plain copy, whatever the shape and the writer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import pyarrow.parquet as pq
import pytest
from benchmarks import peer_copy
from benchmarks.bench import Bench, run_task
from benchmarks.data import Data
from benchmarks.data_set_table import HEAD, data_set_rows
from benchmarks.data_sets import BUDGET, LARGE_FILES, SMALL_FILES, missing_tool, shape
from benchmarks.foreign_data import write_foreign
from benchmarks.measure import OUT
from benchmarks.results import Figures, targets
from benchmarks.shape_data import write_shape
from benchmarks.shapes import FOREIGN, SHAPES
from benchmarks.work import load

from bucketwheel import cli

ROOT = Path(__file__).parents[2]
ROWS = {"wide": 600, "files": 4_000, "groups": 4_000, "group": 2_000, "tables": 400, "strings": 600, "skew": 4_000}
# So that each of 8 files has more text than the megabyte after which its writer gives up a dictionary.
ROWS |= {"urls": 80_000, "plain-urls": 80_000}
# The number of columns takes time, and no code here depends on it.
COLUMNS = {"wide": 6, "tables": 1}
DATASET = "infobase_attributes"


def copied_and_run(directory: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Yield the files of a copy and of a run for each table."""
    copies, out = directory.parent / "copies", directory.parent / "out"
    copies.mkdir()
    monkeypatch.setattr(sys, "argv", ["peer_copy", str(directory), str(copies)])
    peer_copy.main()
    command = run_task("run", Data(str(directory), rows, 0, 0), **{"buckets.count": 4}).command
    words = [str(word).replace(OUT, str(out)) for word in command]
    cli.main(words[words.index("run") :])
    for name in load(directory).tables:
        yield f"{copies}/{name}.parquet", f"{out}/{DATASET}/{name.lower()}/*/*.parquet"


def assert_same_rows(copy: str, files: str) -> None:
    for one, other in ((copy, files), (files, copy)):
        query = f"SELECT * FROM read_parquet('{one}') EXCEPT ALL SELECT * FROM read_parquet('{other}')"
        assert duckdb.execute(query).fetchall() == []


def footers(directory: Path) -> list[Any]:
    return [pq.read_metadata(path) for path in load(directory).files]


@pytest.mark.parametrize("name", SHAPES)
def test_run_on_each_shape_has_the_rows_of_a_copy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, whole = tmp_path / "data", SHAPES[name]
    write_shape(replace(whole, columns=COLUMNS.get(name, whole.columns)), ROWS[name], data)
    pairs = list(copied_and_run(data, ROWS[name], monkeypatch))
    assert len(pairs) == whole.tables
    # Tables differ in their columns only; the first and the last one are enough.
    for pair in (pairs[0], pairs[-1]):
        assert_same_rows(*pair)


@pytest.mark.parametrize(
    ("name", "files", "groups"), [("files", 10, 10), ("groups", 1, 4), ("group", 1, 1), ("skew", 8, 8)]
)
def test_shape_has_its_files_and_row_groups(name: str, files: int, groups: int, tmp_path: Path) -> None:
    write_shape(SHAPES[name], ROWS[name], tmp_path)
    found = footers(tmp_path)
    assert (len(found), sum(footer.num_row_groups for footer in found)) == (files, groups)
    assert sum(footer.num_rows for footer in found) == ROWS[name]


def test_skew_gives_one_key_to_three_of_ten_rows(tmp_path: Path) -> None:
    write_shape(SHAPES["skew"], 4_000, tmp_path)
    query = f'SELECT count(*) AS rows FROM read_parquet({list(load(tmp_path).files)}) GROUP BY "Customer_User_id"'
    largest, others = duckdb.execute(f"SELECT max(rows), count(*) - 1 FROM ({query})").fetchall()[0]
    assert largest == pytest.approx(1_200, rel=0.1)
    assert others == 4_000 - largest


@pytest.mark.parametrize(
    ("name", "encodings"), [("urls", {"PLAIN", "RLE_DICTIONARY", "RLE"}), ("plain-urls", {"PLAIN", "RLE"})]
)
def test_urls_have_a_dictionary_that_their_writer_gave_up(name: str, encodings: set[str], tmp_path: Path) -> None:
    write_shape(SHAPES[name], ROWS[name], tmp_path)
    chunk = footers(tmp_path)[0].row_group(0).column(1)
    assert set(chunk.encodings) == encodings
    # The dictionary ends at a megabyte, and plain pages follow it.
    assert chunk.total_uncompressed_size > 1.1 * 2**20


@pytest.mark.parametrize("name", FOREIGN)
def test_run_on_foreign_data_has_the_rows_of_a_copy(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cannot: Callable[[str], NoReturn],
) -> None:
    if missing := missing_tool(name):
        cannot(f"{missing} is not installed: make venv")
    data = tmp_path / "data"
    write_foreign(name, 1_000, data)
    for pair in copied_and_run(data, 1_000, monkeypatch):
        assert_same_rows(*pair)


def test_pyarrow_data_has_dictionaries_of_all_but_wide_columns(tmp_path: Path) -> None:
    write_foreign("pyarrow", 8_000, tmp_path)
    group = footers(tmp_path)[0].row_group(0)
    chunks = {chunk.path_in_schema: chunk for chunk in map(group.column, range(group.num_columns))}
    assert all(chunk.has_dictionary_page for chunk in chunks.values())
    few = [name for name in chunks if "_count_" in name or "_amount_" in name]
    wide = [name for name in chunks if name[0] == "t" and name.endswith(("_id", "_balance", "_score", "_price"))]
    assert len(few) == len(wide) == 8 * 4
    assert all(chunks[name].statistics.null_count == pytest.approx(300, abs=60) for name in (*few, *wide))


def test_section_shape_measures_the_copy_and_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "integration"))
    bench = Bench(Data("", 800, 0, 0), tmp_path, tmp_path, 1, 120, (1,), shapes=("strings",))
    shape(bench)
    assert [(run.name, run.error) for run in bench.runs] == [
        (name, None) for name in ("copy", LARGE_FILES, BUDGET, SMALL_FILES)
    ]
    assert [run.files_written for run in bench.runs[:3]] == [4, 4, 4]
    figures = Figures(bench.runs)
    rows = list(data_set_rows({"medians": figures.medians(), "ratios": figures.ratios()}))
    assert {len(row) for row in rows} == {len(HEAD)}
    assert len(rows) == 4
    seen = {target.what: target.seen for target in targets(figures, (1,), (1,), "512MB")}
    assert seen["CPU ÷ copy, files of 50,000 rows or more, strings of 200 bytes"] != "not measured"
    assert seen["Peak memory ÷ memory, strings of 200 bytes"] != "not measured"
    assert seen["CPU ÷ copy, files of 50,000 rows or more, 1 row group"] == "not measured"
