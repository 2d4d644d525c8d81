"""Conflicting schemas; missing, ambiguous and wrongly typed keys and columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.advice import is_advice
from bucketwheel.sample import Sample
from project import NARROW, Project, Result

Dirty = Callable[..., Sample]
Refused = Callable[..., Result]

KEY = "Customer_User_id"
AGE = "IBE8688_Age"
TWIN = "ibe8688_aGE"


def rewrite(snapshot: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    for path in snapshot.glob("part-*.parquet"):
        with pq.ParquetFile(path) as file:
            table = file.read()
        pq.write_table(change(table), path, store_schema=False)


@pytest.mark.parametrize(
    ("defect", "problem"),
    [
        ("type_disagrees", "{last}: column 'IBE8688_Age' has type string, in {first} it has type int16"),
        ("missing_column", "{last}: column 'IBE8688_Age' is missing"),
        ("extra_column", "{last}: column 'IBE9999_Pilot' is not in {first}"),
    ],
)
def test_schema_conflict_error_names_file_and_column(
    published: Project, dirty: Dirty, refused: Refused, defect: str, problem: str
) -> None:
    sample = dirty(defect)
    published.use(sample)
    result = refused(published, 3)
    first, last = (f"{sample.snapshot}/part-0000{number}.parquet" for number in (0, 2))
    *lines, advice = result.stderr.splitlines()
    assert is_advice(advice)
    assert lines == [
        "error: the files of the snapshot have different schemas:",
        problem.format(first=first, last=last),
        "Write them with one schema",
    ]


def test_schema_conflicts_are_listed_up_to_limit(published: Project, dirty: Dirty, refused: Refused) -> None:
    sample = dirty("type_disagrees")
    published.use(sample)
    path = sample.snapshot / "part-00001.parquet"
    with pq.ParquetFile(path) as file:
        table = file.read()
    for number in range(30):
        table = table.append_column(f"Extra_{number:02}", pa.nulls(len(table), pa.int8()))
    pq.write_table(table.drop_columns([AGE]), path, store_schema=False)
    *lines, advice = refused(published, 3).stderr.splitlines()
    assert is_advice(advice)
    assert f"{path}: column '{AGE}' is missing" in lines
    assert len(lines) == 1 + 20 + 2
    assert lines[-2:] == ["and 12 more", "Write them with one schema"]


def test_duplicate_column_in_file_is_refused(published: Project, dirty: Dirty, refused: Refused) -> None:
    sample = dirty(None)
    published.use(sample)
    rewrite(sample.snapshot, lambda table: table.append_column(AGE, table[AGE]))
    result = refused(published, 3)
    assert f"part-00001.parquet: column '{AGE}' appears more than once" in result.stderr
    assert "Give each of their columns its own name" in result.stderr


def test_other_column_order_is_accepted(current: Project, dirty: Dirty) -> None:
    before = current.content()
    current.use(dirty("order_differs"))
    current.run()
    assert current.content() == before


def test_missing_key_error_lists_columns(published: Project, dirty: Dirty, refused: Refused) -> None:
    published.use(dirty("key_missing"))
    result = refused(published, 3)
    assert result.stderr.startswith(
        f"error: key '{KEY}' of infobase_attributes is not in the snapshot; set datasets.infobase_attributes.key to "
        f"one of the snapshot's columns: {AGE}, IBE8689_Occupation_Code, "
    )


def test_key_with_typo_error_suggests_name(published: Project, refused: Refused) -> None:
    result = refused(published, 3, "--set", "datasets.infobase_attributes.key=Customer_Usr_id")
    assert f"key 'Customer_Usr_id' of infobase_attributes is not in the snapshot; did you mean '{KEY}'?" in (
        result.stderr
    )


def test_key_in_other_case_is_accepted(current: Project, dirty: Dirty) -> None:
    before = current.content()
    current.use(dirty("key_wrong_case"))
    current.run()
    assert current.content() == before


def test_ambiguous_key_error_names_both_columns(published: Project, dirty: Dirty, refused: Refused) -> None:
    sample = dirty("key_wrong_case")
    published.use(sample)
    rewrite(sample.snapshot, lambda table: table.append_column(KEY.lower(), table[KEY.upper()]))
    result = refused(published, 3)
    assert (
        f"key '{KEY}' of infobase_attributes matches '{KEY.upper()}' and '{KEY.lower()}'; "
        "set datasets.infobase_attributes.key to one of"
    ) in result.stderr


def test_key_with_exact_case_is_preferred(current: Project, dirty: Dirty) -> None:
    before = current.content()
    sample = dirty(None)
    current.use(sample)
    rewrite(sample.snapshot, lambda table: table.append_column(KEY.upper(), pa.nulls(len(table), pa.string())))
    result = current.run()
    assert f"warning: columns {KEY} and {KEY.upper()} differ only in case" in result.stderr
    assert current.content() == before


def test_same_column_as_two_keys_is_refused(published: Project, refused: Refused) -> None:
    result = refused(published, 3, "--set", f"datasets.infobase_attributes.key=[{KEY}, {KEY.upper()}]")
    assert f"key: columns '{KEY}' and '{KEY}' would both be called 'customer_user_id'" in result.stderr


def test_column_with_exact_case_is_mapped_with_warning(current: Project, dirty: Dirty) -> None:
    before = current.content()
    sample = dirty("columns_differ_in_case")
    current.use(sample)
    rewrite(sample.snapshot, lambda t: t.drop_columns([TWIN]).append_column(TWIN, pa.nulls(len(t), pa.int64())))
    result = current.run()
    assert f"warning: columns {AGE} and {TWIN} differ only in case" in result.stderr
    assert f"Load_Date, {TWIN}" in result.stderr
    assert current.content() == before


def test_ambiguous_mapping_error_names_both_columns(published: Project, dirty: Dirty, refused: Refused) -> None:
    sample = dirty("columns_differ_in_case")
    published.use(sample)
    sample.mapping.write_text(sample.mapping.read_text().replace(AGE, AGE.upper()))
    result = refused(published, 2)
    assert f"line 2: '{AGE.upper()}' matches '{AGE}' and '{TWIN}'; write it as one of them" in result.stderr


@pytest.mark.parametrize("mapped", [True, False])
def test_columns_that_differ_in_case_collide_in_one_table(
    published: Project, dirty: Dirty, refused: Refused, mapped: bool
) -> None:
    sample = dirty("columns_differ_in_case")
    published.use(sample)
    if mapped:
        with sample.mapping.open("a") as file:
            file.write(f"IBE_01,{TWIN}\n")
        result, table = refused(published, 3), "ibe_01"
    else:
        published.set(datasets={NARROW: {"source": str(sample.source), "key": KEY}})
        result, table = refused(published, 3, dataset=NARROW), NARROW
    assert f"error: {table}: columns '{AGE}' and '{TWIN}' would both be called 'ibe8688_age'; remove one" in (
        result.stderr
    )


def test_float_key_error_lists_supported_types(published: Project, dirty: Dirty, refused: Refused) -> None:
    published.use(dirty("float_key"))
    result = refused(published, 3)
    assert f"error: key '{KEY}' has type double, which readers cannot bucket; use a column of type boolean" in (
        result.stderr
    )


@pytest.mark.parametrize("kind", [pa.float32(), pa.decimal128(20, 2), pa.timestamp("us"), pa.binary()], ids=str)
def test_key_types_without_bucket_hash_are_refused(
    published: Project, dirty: Dirty, refused: Refused, kind: pa.DataType
) -> None:
    sample = dirty(None)
    published.use(sample)
    rewrite(sample.snapshot, lambda t: t.drop_columns([KEY]).append_column(KEY, pa.nulls(len(t), kind)))
    result = refused(published, 3)
    # 32-bit floats come back as `float`.
    assert f"error: key '{KEY}' has type {kind}, which readers cannot bucket" in result.stderr
