from __future__ import annotations

from typing import Any

import pytest

from bucketwheel.errors import ConfigError
from bucketwheel.runs.manifest import LayoutSize, SizeResult
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import Layout, Settings, loading, resolved_layouts

TWO = [{"name": "athena"}, {"name": "fast", "hash": "spark", "buckets": 8, "sort": False, "max_file_bytes": "1MB"}]
SIZE: dict[str, Any] = {
    "bucket_count": 4,
    "bucketed": True,
    "hash": "hive_v1",
    "sort": True,
    "max_file_bytes": 9,
    "page_bytes": 1,
    "bytes_to_read": 1,
    "decoded_bytes_per_row": 1,
    "dictionary_columns": [],
    "tables": [],
    "slices": [],
}
LAYOUT = {name: SIZE[name] for name in ("bucketed", "sort", "max_file_bytes", "tables")}


def layouts(**settings: Any) -> tuple[Layout, ...]:
    return resolved_layouts(Settings.model_validate(settings))


def problem(*flags: tuple[str, Any]) -> str:
    with pytest.raises(ConfigError) as refused:
        loading.load(overrides=[(name, value, "--set") for name, value in flags], read_files=False)
    return str(refused.value)


def test_without_layouts_buckets_are_the_only_layout() -> None:
    assert layouts(buckets={"count": 3, "hash": "iceberg"}, catalog={"final_prefix": "f_"}) == (
        Layout("", "iceberg", 3, True, 2**30, "f_"),
    )


def test_layouts_take_omitted_values_from_buckets() -> None:
    athena, fast = layouts(buckets={"count": 16}, layouts=TWO)
    assert athena == Layout("athena", "hive_v1", 16, True, 2**30, "bucketed_")
    assert fast == Layout("fast", "spark", 8, False, 10**6, "fast_")
    assert [layout.bucketed for layout in layouts(layouts=[{"name": "a", "buckets": "none"}])] == [False]


@pytest.mark.parametrize(
    ("readers", "hash_of_buckets", "expected"),
    [
        (["duckdb"], "spark", [("", "spark")]),
        (["athena"], "hive_v1", [("hive", "hive_v1")]),
        ("trino,duckdb", "hive_v2", [("hive", "hive_v2")]),
        (["clean_rooms"], "hive_v1", [("spark", "spark")]),
        (["glue", "athena", "emr"], "hive_v1", [("hive", "hive_v1"), ("spark", "spark")]),
        (["spark", "trino"], "spark", [("hive", "hive_v1"), ("spark", "spark")]),
        (["spark", "trino"], "iceberg", [("", "iceberg")]),
    ],
)
def test_readers_decide_on_layouts(readers: Any, hash_of_buckets: str, expected: list[tuple[str, str]]) -> None:
    found = layouts(readers=readers, buckets={"hash": hash_of_buckets})
    assert [(layout.name, layout.hash) for layout in found] == expected
    assert [layout.prefix for layout in found] == ["bucketed_", "spark_"][: len(found)]


def test_layouts_override_readers() -> None:
    assert [layout.name for layout in layouts(readers=["athena", "spark"], layouts=TWO[1:])] == ["fast"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[{name: a}, {name: a}]", "layouts (--set): two layouts are called 'a'; rename one"),
        (
            "[{name: a}, {name: b, prefix: Bucketed_}]",
            "layouts (--set): layout 'b' has the prefix 'Bucketed_', like layout 'a'; set another prefix for it",
        ),
        (
            "[{name: a}, {name: ext}]",
            "layouts (--set): layout 'ext' has the prefix 'ext_', like catalog.staged_prefix; "
            "set another prefix for it",
        ),
        ("{name: a}", "layouts (--set): expected a list"),
        ("spark", "layouts (--set): expected a list, not 'spark'"),
        (
            "[{name: a, hsh: spark}]",
            "layouts.0.hsh (--set): unknown setting; did you mean 'hash'? (known: buckets, hash, max_file_bytes, "
            "name, prefix, sort)",
        ),
        ("[{hash: spark}]", "layouts.0.name (--set): is missing"),
        (
            "[{name: a, hash: md5}]",
            "layouts.0.hash (--set): should be 'hive_v1', 'hive_v2', 'spark' or 'iceberg', not 'md5'",
        ),
    ],
)
def test_bad_layouts_are_refused(given: str, message: str) -> None:
    assert problem(("layouts", given)) == message


@pytest.mark.parametrize("name", ["", "A", "a.b", "a/b", "1a", "a" * 33])
def test_layout_names_are_parts_of_paths(name: str) -> None:
    assert problem(("layouts", [{"name": name}])).startswith("layouts.0.name (--set): ")


def test_layouts_of_readers_need_different_prefixes() -> None:
    flags = (("catalog.final_prefix", "Spark_"), ("readers", "athena,spark"))
    assert problem(*flags) == (
        "readers (--set): layout 'spark' has the prefix 'spark_', like layout 'hive'; set another prefix for it, "
        "not 'athena,spark'"
    )
    assert "'athena', 'trino'" in problem(("readers", "presto"))


def test_first_layout_of_manifest_is_that_of_older_ones() -> None:
    (only,) = SizeResult.model_validate(SIZE).layouts
    assert (only.id, only.prefix, only.bucket_count) == ("", None, 4)
    second = {**LAYOUT, "name": "fast", "prefix": "fast_", "hash": "spark", "bucket_count": 8}
    size = SizeResult.model_validate({**SIZE, "name": "athena", "prefix": "bucketed_", "other_layouts": [second]})
    assert [(layout.id, layout.name, layout.prefix) for layout in size.layouts] == [
        ("", "athena", "bucketed_"),
        ("fast", "fast", "fast_"),
    ]
    assert size.layouts[1] == LayoutSize.model_validate(second)
    assert SizeResult.model_validate_json(size.model_dump_json()).layouts == size.layouts


def test_other_layouts_have_their_own_directories(tmp_path: Any) -> None:
    store = RunStore.of(Settings(target=str(tmp_path)))
    assert store.data_directory("people", "t", "r") == f"{tmp_path}/people/t/r"
    assert store.data_directory("people", "t", "r", "fast") == f"{tmp_path}/people/fast.t/r"
