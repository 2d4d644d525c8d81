from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketwheel.runs.manifest import SizeResult, TypeConversion
from bucketwheel.stages.decoded_bytes import decoded_bytes
from bucketwheel.stages.written_bytes import Estimate
from stage_support import column, discovered, size

GB = 2**30

row_groups = st.lists(st.integers(0, 400_000), min_size=1, max_size=12)


def sized(table_bytes: int, rows: int = 1_000_000, **overrides: Any) -> SizeResult:
    """Size one table of `table_bytes`, key included."""
    columns = [column("Key", table_bytes // 4), column("A", table_bytes - table_bytes // 4)]
    return size(discovered(columns, [[rows]]), **overrides)


def test_table_bytes_are_sum_of_columns_and_key() -> None:
    result = size(discovered([column("Key", 10), column("A", 200), column("B", 3000)]))
    assert [(table.name, table.bytes, table.columns) for table in result.tables] == [("addressable_ids", 3210, 2)]
    assert result.bytes_to_read == 3210


def test_sample_changes_estimated_bytes_but_no_layout() -> None:
    snapshot = discovered([column("Key", 10**8), column("A", 10**9)], [[10**6]])
    footers = size(snapshot)
    sampled = size(snapshot, Estimate({"Key": 2 * 10**8, "A": 10**10}, ("a warning",)))
    assert [(table.bytes, table.files) for table in footers.tables] == [(11 * 10**8, 8)]
    assert [(table.bytes, table.files) for table in sampled.tables] == [(102 * 10**8, 16)]
    assert sampled.warnings == ("a warning",)
    shown = {"tables": (), "warnings": ()}
    assert sampled.model_copy(update=shown) == footers.model_copy(update=shown)
    assert sampled.tables[0].row_group_rows == footers.tables[0].row_group_rows


def test_layout_settings_are_copied_to_result() -> None:
    result = sized(GB, buckets={"count": 64, "hash": "spark", "sort": False, "max_file_bytes": "10MB"})
    assert (result.bucket_count, result.hash, result.sort, result.max_file_bytes) == (64, "spark", False, 10_000_000)
    assert result.bucketed
    assert (result.page_bytes, result.warnings) == (256 * 2**10, ())


@given(st.integers(100_000_000, 10**14))
def test_automatic_count_is_power_of_two_for_100_mb_files(table_bytes: int) -> None:
    count = sized(table_bytes, buckets__count="auto").bucket_count
    assert count & (count - 1) == 0
    assert 100 * 10**6 <= table_bytes / count <= 10**9
    # The next power of two would make files below 100 MB.
    assert table_bytes / (2 * count) < 100 * 10**6


@given(st.integers(2, 99_999_999))
def test_small_table_gets_one_bucket(table_bytes: int) -> None:
    assert sized(table_bytes, buckets__count="auto").bucket_count == 1


def test_bucket_count_is_automatic_by_default() -> None:
    assert sized(99_999_999).bucket_count == 1
    assert sized(26 * 10**9).bucket_count == 256


def test_automatic_count_is_set_by_largest_table() -> None:
    columns = [column("Key", 10**8), *(column(f"c{number}", 10**9) for number in range(6))]
    limits: dict[str, Any] = {"split__columns_over_limit": "parts", "split__column_limit": 4}
    result = size(discovered(columns), buckets__count="auto", **limits)
    assert [table.bytes for table in result.tables] == [31 * 10**8] * 2
    assert result.bucket_count == 16


@given(st.integers(2, 10**13), st.integers(1, 8), st.integers(1, 1000))
def test_unbucketed_files_per_gigabyte_have_limit(table_bytes: int, files_per_gb: int, most: int) -> None:
    limits = {"size__files_per_gb": files_per_gb, "size__max_files": most}
    result = sized(table_bytes, buckets__count="none", **limits)
    assert not result.bucketed
    assert result.bucket_count == max(1, min(most, math.ceil(table_bytes / GB * files_per_gb)))


def test_default_is_two_files_per_gigabyte_up_to_256() -> None:
    assert sized(17 * GB, buckets__count="none").bucket_count == 34
    assert sized(500 * GB, buckets__count="none").bucket_count == 256
    assert sized(1000, buckets__count="none").bucket_count == 1


def test_file_count_includes_split_buckets() -> None:
    assert sized(4 * GB, buckets={"count": 4, "max_file_bytes": "1GiB"}).tables[0].files == 4
    assert sized(4 * GB + 5, buckets={"count": 4, "max_file_bytes": "1GiB"}).tables[0].files == 8
    # No more files than rows.
    assert sized(4 * GB, rows=3).tables[0].files == 3


def test_row_group_size_is_at_most_a_quarter_of_file() -> None:
    assert sized(GB, rows=2**20, size__row_group_bytes="1MiB").tables[0].row_group_rows == 1024
    assert sized(GB, rows=2**20, buckets__max_file_bytes="2MiB").tables[0].row_group_rows == 512
    assert sized(GB, rows=1, size__row_group_bytes="1MiB").tables[0].row_group_rows == 1


@given(
    st.lists(row_groups, min_size=1, max_size=5).filter(lambda files: sum(map(sum, files)) > 0), st.integers(1, 40)
)
def test_slices_cover_every_row_group_once_and_in_order(files: list[list[int]], width: int) -> None:
    columns = [column("Key"), *(column(f"c{n}", 10**8) for n in range(width))]
    result = size(discovered(columns, files, types=dict.fromkeys((c.name for c in columns[1:]), pa.float64())))
    assert [part.index for part in result.slices] == list(range(len(result.slices)))
    covered: list[tuple[int, int]] = []
    for part in result.slices:
        groups = range(part.first_row_group, part.first_row_group + part.row_groups)
        rows = [files[part.file][group] for group in groups]
        assert part.rows == sum(rows) > 0
        covered += [(part.file, group) for group in groups]
        # A slice of several row groups with rows is far smaller than the memory.
        filled = [count for count in rows if count]
        assert len(filled) == 1 or part.rows * result.decoded_bytes_per_row <= 64 * 2**20
    every = [(file, group) for file, groups in enumerate(files) for group in range(len(groups))]
    assert covered == sorted(set(covered))
    assert all(files[file][group] == 0 for file, group in set(every) - set(covered))
    assert sum(part.rows for part in result.slices) == sum(map(sum, files))


@pytest.mark.parametrize(
    ("kind", "dictionary_bytes", "coded"),
    [
        (pa.string(), 32 * 2**10, True),
        (pa.string(), 32 * 2**10 + 1, False),
        (pa.string(), None, False),
        (pa.int64(), 100, True),
        (pa.bool_(), 100, False),
        (pa.list_(pa.string()), 100, False),
        (pa.struct([("a", pa.string())]), 100, False),
    ],
    ids=str,
)
def test_small_dictionary_columns_stay_dictionaries(
    kind: pa.DataType, dictionary_bytes: int | None, coded: bool
) -> None:
    columns = [column("Key", dictionary_bytes=10), column("A", dictionary_bytes=dictionary_bytes)]
    result = size(discovered(columns, types={"A": kind}))
    assert result.dictionary_columns == (("A",) if coded else ())


def test_row_bytes_are_sum_of_decoded_columns() -> None:
    columns = [column("Key", uncompressed_bytes=20_000), column("A"), column("B", uncompressed_bytes=30_000)]
    result = size(discovered(columns, types={"A": pa.int64()}))
    # 20 and 30 bytes of text a row with 4 bytes of offset each; 8 bytes of number and its validity bit.
    assert result.decoded_bytes_per_row == 24 + 34 + 8


@pytest.mark.parametrize(
    ("kind", "conversion", "in_file", "dictionary_bytes", "decoded"),
    [
        # Half of the values are NULL.
        (pa.string(), ("A", "UUID", "string"), 8, None, 4 + 36 / 2),
        (pa.string(), ("A", "time64[us]", "string"), 4, 100, 4 + 15 / 2),
        (pa.string(), ("A", "JSON", "string"), 50, None, 50 + 4 - 1 / 8),
        (pa.string(), ("A", "JSON", "string"), 50, 100, 4),
        (pa.binary(16), ("A", "UUID", "fixed_size_binary[16]"), 8, None, 16),
        (pa.float32(), ("A", "halffloat", "float"), 2, None, 4),
        (pa.decimal128(20), ("A", "uint64", "decimal128(20, 0)"), 1, 100, 16),
        (pa.list_(pa.string()), ("A.list.element", "UUID", "string"), 50, None, 50 * 40 / 16 + 4 - 1 / 8),
        (pa.list_(pa.uint32()), ("A.list.element", "time32[ms]", "time32[ms]"), 50, None, 54 - 1 / 8),
        (pa.list_(pa.int64()), ("A.list.element", "uint32", "int64"), 50, None, 104 - 1 / 8),
        (pa.struct({"a": pa.int64(), "b": pa.string()}), None, 2, None, 8 + 4 + 2 / 8),
        (pa.list_(pa.int64(), 10), None, 3, None, 10 * (8 + 1 / 8)),
        (pa.dictionary(pa.int8(), pa.string()), None, 30, None, 34 - 1 / 8),
        (pa.dictionary(pa.int8(), pa.string()), None, 30, 100, 4),
    ],
    ids=str,
)
def test_decoded_bytes_follow_the_written_type(
    kind: pa.DataType,
    conversion: tuple[str, str, str] | None,
    in_file: int,
    dictionary_bytes: int | None,
    decoded: float,
) -> None:
    found: dict[str, Any] = {
        "uncompressed_bytes": 1000 * in_file,
        "dictionary_bytes": dictionary_bytes,
        "null_count": 500,
    }
    snapshot = discovered([column("Key"), column("A", **found)], types={"A": kind})
    if conversion:
        names = dict(zip(("column", "stored", "written"), conversion, strict=True))
        snapshot = snapshot.model_copy(update={"conversions": (TypeConversion(**names),)})
    assert decoded_bytes(snapshot)["A"] == decoded + 1 / 8


def test_conversion_counts_for_its_own_column_if_names_have_dots() -> None:
    types = {
        "a": pa.struct({"b": pa.int64(), "c": pa.string()}),
        "a.b": pa.string(),
        "a.d": pa.string(),
        "l": pa.list_(pa.string()),
        "l.x": pa.string(),
    }
    columns = [column("Key"), *(column(name, uncompressed_bytes=50_000) for name in types)]
    snapshot = discovered(columns, types=types)

    def with_conversions(*paths: str) -> dict[str, float]:
        parts = tuple(TypeConversion(column=path, stored="UUID", written="string") for path in paths)
        return decoded_bytes(snapshot.model_copy(update={"conversions": parts}))

    plain = with_conversions()
    dotted = with_conversions("a.b", "a.d", "l.x")
    assert {name for name in types if dotted[name] != plain[name]} == {"a.b", "a.d", "l.x"}
    nested = with_conversions("a.c", "l.list.element")
    assert {name for name in types if nested[name] != plain[name]} == {"a", "l"}
    of_struct = TypeConversion(column="a.b", stored="uint32", written="int64")
    wider = decoded_bytes(snapshot.model_copy(update={"conversions": (of_struct,)}))
    assert {name for name in types if wider[name] != plain[name]} == {"a"}


def test_many_small_files_give_warning_unless_automatic() -> None:
    (warning,) = sized(10**6, buckets__count=256).warnings
    assert warning == (
        "with 256 buckets, files of the largest table average 3.9 kB; joins are faster with files of 100 MB to "
        "1 GB; set buckets.count=auto"
    )
    assert sized(10**6, buckets__count="auto").warnings == ()
    assert sized(10**6, buckets__count="none").warnings == ()
    assert sized(10**6, buckets__count=1).warnings == ()


def test_warning_about_several_layouts_is_given_once() -> None:
    layouts = [{"name": "a"}, {"name": "b", "hash": "spark"}, {"name": "c", "buckets": 128}]
    both, own = sized(10**6, buckets__count=256, layouts=layouts).warnings
    assert both.startswith("layouts a and b: with 256 buckets, files of the largest table average")
    assert own.startswith("layout c: with 128 buckets, ")
    assert own.endswith("set layouts.2.buckets=auto")


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({"memory": "100MB", "buckets__count": 1}, True),
        ({"memory": "100MB", "buckets__count": 64}, False),
        ({"memory": "8GiB", "buckets__count": 1}, False),
        ({"memory": "100MB", "buckets__count": 1, "engine": "spark"}, False),
    ],
)
def test_bucket_larger_than_memory_gives_warning(changes: dict[str, Any], warned: bool) -> None:
    warnings = sized(400 * 10**6, **changes).warnings
    memory_warnings = [
        text for text in warnings if text.startswith("gathering one bucket of 1,000,000 rows takes about ")
    ]
    assert bool(memory_warnings) is warned
    if warned:
        assert memory_warnings[0].endswith("memory=100000000 allows only 40 MB for it; raise buckets.count or memory")
