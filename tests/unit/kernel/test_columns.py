from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.settings.types import TypeSettings
from bucketwheel.testing.jobs import KEY, WHOLE, make_job, numbered, read_buckets, rows_of, run_kernel, write_files
from kernel_jobs import people


def test_dictionary_columns_keep_empty_text_and_null_distinct(tmp_path: Path) -> None:
    empty, null = pa.array([""] * 4), pa.nulls(4, pa.string())
    both = pa.array(["", None, "x", None])
    files = write_files(
        tmp_path / "source",
        [
            people(numbered(4, 4 * number), One=one, Other=other)
            for number, (one, other) in enumerate(itertools.product([empty, null, both], repeat=2))
        ],
    )
    names = frozenset(["One", "Other"])
    job = make_job(tmp_path, files, {"t": ["One", "Other"]}, bucket_count=2, dictionary_columns=names)
    run_kernel(job)
    source = pa.concat_tables([pq.read_table(path) for path in files]).select([KEY, "One", "Other"])
    rows = [row for table in read_buckets(job, "t").values() for row in rows_of(table)]
    assert sorted(rows, key=str) == sorted(rows_of(source), key=str)


@pytest.mark.parametrize("distinct", [254, 255, 256, 257, 65_534, 65_536, 70_000])
def test_dictionaries_grow_beyond_one_and_two_byte_codes(tmp_path: Path, distinct: int) -> None:
    values = pa.array([f"v{number}" for number in range(distinct)] + [None])
    first = people(numbered(3), Code=pa.array(["v1", None, "v0"]))
    files = write_files(
        tmp_path / "source",
        [first, people(numbered(distinct + 1, 3), Code=values)],
        distinct,
        dictionary_pagesize_limit=2**25,
    )
    job = make_job(tmp_path, files, {"t": ["Code"]}, bucket_count=2, dictionary_columns=frozenset(["Code"]))
    run_kernel(job)
    source = pa.concat_tables([pq.read_table(path) for path in files]).select([KEY, "Code"])
    written = pa.concat_tables(read_buckets(job, "t").values()).rename_columns([KEY, "Code"])
    assert written.sort_by(KEY).equals(source.sort_by(KEY))


@pytest.mark.parametrize("max_rows", [WHOLE, 3])
def test_unusual_column_names_stay_distinct(tmp_path: Path, max_rows: int) -> None:
    keys = numbered(10)
    columns = {
        "a": pa.array([f"a{n}" for n in range(10)]),
        "a.b": pa.array([f"b{n}" for n in range(10)]),
        "a.b.c": pa.array([f"c{n % 2}" for n in range(10)]),
        "Größe (m²)": pa.array([f"g{n}" for n in range(10)]),
        "s": pa.array([{"b": n, "c": str(n)} for n in range(10)]),
        "s.b": pa.array([f"s{n}" for n in range(10)]),
    }
    files = write_files(tmp_path / "source", [people(keys, **columns)], 4)
    names = ["a", "a.b.c", "Größe (m²)", "s.b"]
    coded = frozenset(["a.b.c", "Größe (m²)", "s.b"])
    job = make_job(tmp_path, files, {"one": names, "two": ["a.b", "s"]}, dictionary_columns=coded)
    run_kernel(job, max_rows)
    one = pa.concat_tables(read_buckets(job, "one").values()).sort_by("customer_user_id")
    two = pa.concat_tables(read_buckets(job, "two").values()).sort_by("customer_user_id")
    expected = people(keys, **columns).sort_by(KEY)
    assert one.column_names == ["customer_user_id", "a", "a_b_c", "gr_e_m", "s_b"]
    for written, name in zip(one.column_names[1:], names, strict=True):
        assert one[written].to_pylist() == expected[name].to_pylist()
    assert two["a_b"].to_pylist() == expected["a.b"].to_pylist()
    assert two["s"].to_pylist() == expected["s"].to_pylist()


def test_files_with_different_arrow_types_are_joined(tmp_path: Path) -> None:
    lists = [["x"], None, ["", "y"]]
    first = people(numbered(3), Text=pa.array(["a", None, ""]), Many=pa.array(lists, pa.list_(pa.string())))
    large = pa.large_list(pa.large_string())
    second = people(
        numbered(3, 3).cast(pa.large_string()),
        Text=pa.array(["b", None, ""], pa.large_string()),
        Many=pa.array(lists, large),
    )
    third = people(
        numbered(3, 6).dictionary_encode(),
        Text=pa.array(["c", None, ""]).dictionary_encode(),
        Many=pa.array(lists, pa.list_(pa.string())),
    )
    files = write_files(tmp_path / "source", [first, second, third])
    job = make_job(tmp_path, files, {"t": ["Text", "Many"]}, bucket_count=1)
    (outcome,) = run_kernel(job)
    (table,) = read_buckets(job, "t").values()
    assert outcome.rows == 9
    source = [row for path in files for row in rows_of(pq.read_table(path).select([KEY, "Text", "Many"]))]
    assert rows_of(table) == sorted(source)


def test_keys_with_invalid_utf8_are_written_and_shown(tmp_path: Path) -> None:
    odd = pa.array([b"\xff\xfe", b"ok"]).view(pa.string())
    files = write_files(tmp_path / "source", [people(odd)], store_schema=False)
    job = make_job(tmp_path, files, {"t": ["Number"]}, bucket_count=1, types=TypeSettings(invalid_text="keep"))
    (outcome,) = run_kernel(replace(job, show_keys=True))
    assert (outcome.smallest_key, outcome.largest_key) == ("ok", "\\xff\\xfe")
