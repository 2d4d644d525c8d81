from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketwheel.errors import VerificationError
from bucketwheel.kernel import layout

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "bucket_filename_vectors.json").read_text(encoding="utf-8")
)
HIVE = ("hive_v1", "hive_v2")
SCHEMES = (*HIVE, "spark", "iceberg")
MEGABYTE = 10**6


@pytest.mark.parametrize("scheme", HIVE)
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_file_names_are_parsed_like_reader_test_vectors(vector: dict[str, object], scheme: str) -> None:
    assert layout.bucket_of_file(str(vector["name"]), scheme) == vector["bucket"]


@pytest.mark.parametrize(
    "name",
    ["part-00007.parquet", "bucket-00007.parquet", "bucket_00007.parquet", "00007.parquet", "x_bucket-00007.parquet"],
)
def test_hive_readers_find_no_bucket_in_other_names(name: str) -> None:
    assert layout.bucket_of_file(name, "hive_v1") is None


@pytest.mark.parametrize(
    ("name", "bucket"),
    [
        ("part-00000-5301a371-01a8-4c5a-b3a2-1d0b9a5b5bd0_00003.c000.snappy.parquet", 3),
        ("part-00000-5301a371_00012", 12),
        ("part-00000.snappy.parquet", None),
        ("part-00000-5301a371_00003-c000.snappy.parquet", None),
    ],
)
def test_spark_names_are_parsed_like_spark(name: str, bucket: int | None) -> None:
    assert layout.bucket_of_file(name, "spark") == bucket


@pytest.mark.parametrize("name", ["٣٣٣٣٣٣_0", "000007_٣", "bucket_٣"])
def test_non_ascii_digits_are_not_parsed(name: str) -> None:
    assert layout.bucket_of_file(name, "hive_v1") is None


@given(st.integers(0, 99_999), st.integers(0, 10_000), st.sampled_from(SCHEMES))
def test_bucket_of_file_inverts_bucket_file_name(bucket: int, copy: int, scheme: str) -> None:
    name = layout.bucket_file_name(bucket, copy, scheme)
    assert layout.bucket_of_file(name, scheme) == bucket
    layout.check_file_name(name, bucket, scheme)
    assert re.fullmatch(r"[a-z0-9][A-Za-z0-9_.-]*\.snappy\.parquet", name)


@given(st.integers(0, 999), st.integers(0, 999), st.sampled_from(SCHEMES))
def test_bucket_file_names_are_unique(one: int, other: int, scheme: str) -> None:
    first = {layout.bucket_file_name(one, copy, scheme) for copy in range(12)}
    assert len(first) == 12
    if one != other:
        assert not first & {layout.bucket_file_name(other, copy, scheme) for copy in range(12)}


def test_hive_file_names_match_hive() -> None:
    assert layout.bucket_file_name(7, 0, "hive_v1") == "000007_0.snappy.parquet"
    assert layout.bucket_file_name(7, 1, "hive_v2") == "000007_0_copy_1.snappy.parquet"


def test_spark_file_names_have_bucket_at_the_end() -> None:
    assert layout.bucket_file_name(7, 2, "spark") == "part-00007-bucketwheel_00007.c002.snappy.parquet"


@given(st.integers(0, 9_999_999), st.integers(0, 9_999))
def test_iceberg_file_names_are_no_buckets_to_other_readers(bucket: int, copy: int) -> None:
    name = layout.bucket_file_name(bucket, copy, "iceberg")
    assert layout.is_bucket_file_name(name)
    assert layout.bucket_of_file(name, "iceberg") == bucket
    assert [layout.bucket_of_file(name, scheme) for scheme in (*HIVE, "spark")] == [None, None, None]


def test_iceberg_file_names_have_bucket_and_number() -> None:
    assert layout.bucket_file_name(7, 2, "iceberg") == "bucket-00007-002.snappy.parquet"


@pytest.mark.parametrize(
    ("name", "said"), [("000008_0.snappy.parquet", "find bucket 8 in"), ("x.snappy.parquet", "no bucket number in")]
)
def test_check_file_name_error_names_path_and_both_buckets(name: str, said: str) -> None:
    with pytest.raises(VerificationError) as caught:
        layout.check_file_name(f"/data/IBE_01/{name}", 7, "hive_v1")
    assert f"/data/IBE_01/{name}" in str(caught.value)
    assert said in str(caught.value)
    assert "holds bucket 7" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        ("Customer_User_id", "customer_user_id"),
        ("IBE8688_Age", "ibe8688_age"),
        ("  Net  Worth ($) ", "net_worth"),
        ("a.b-c/d", "a_b_c_d"),
        ("Größe", "gr_e"),
    ],
)
def test_standard_name_examples(name: str, standard: str) -> None:
    assert layout.standard_name(name) == standard


@given(st.text(max_size=30))
def test_standard_name_is_idempotent_snake_case(name: str) -> None:
    standard = layout.standard_name(name)
    assert re.fullmatch(r"|[a-z0-9]+(_[a-z0-9]+)*", standard)
    assert layout.standard_name(standard) == standard


@given(st.integers(1, 10**14))
def test_automatic_count_gives_files_of_100_to_200_mb(size: int) -> None:
    count = layout.automatic_bucket_count(size)
    assert count.bit_count() == 1
    assert count == 1 or size / count >= 100 * MEGABYTE
    assert size / count < 200 * MEGABYTE


@pytest.mark.parametrize(
    ("size", "count"),
    [(0, 1), (1, 1), (199 * MEGABYTE, 1), (200 * MEGABYTE, 2), (25_600 * MEGABYTE, 256), (34_000 * MEGABYTE, 256)],
)
def test_automatic_count_for_known_sizes(size: int, count: int) -> None:
    assert layout.automatic_bucket_count(size) == count


@given(st.integers(0, 10**14), st.floats(0.01, 100), st.integers(1, 1000))
def test_unbucketed_file_count_is_between_one_and_the_limit(size: int, per_gb: float, most: int) -> None:
    count = layout.unbucketed_file_count(size, per_gb, most)
    assert 1 <= count <= most
    if 1 < count < most:
        assert (count - 1) / per_gb * 2**30 <= size * 1.000001 <= count / per_gb * 2**30 * 1.000002


@pytest.mark.parametrize(("gigabytes", "count"), [(0.1, 1), (0.5, 1), (0.6, 2), (17, 34), (128, 256), (1000, 256)])
def test_two_files_per_gb_up_to_256(gigabytes: float, count: int) -> None:
    assert layout.unbucketed_file_count(int(gigabytes * 2**30), 2, 256) == count


@given(st.floats(0, 10**9), st.integers(1, 2**40), st.integers(1, 2**40))
def test_row_group_has_a_row_and_at_most_a_quarter_of_a_file(
    per_row: float, group_bytes: int, file_bytes: int
) -> None:
    rows = layout.row_group_rows(per_row, group_bytes, file_bytes)
    assert rows >= 1
    assert rows == 1 or rows * per_row <= min(group_bytes, file_bytes / 4)
