"""Mapping files with mistakes and harmless oddities."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bucketwheel.sample import Sample
from project import WIDE, Project, Result

Dirty = Callable[..., Sample]
Refused = Callable[..., Result]

HEADER = "OMC_FLYWHEEL_TABLE,OMC_FLYWHEEL_COLUMN\n"


@pytest.mark.parametrize(
    ("defect", "lines"),
    [
        (
            "mapping_unknown_column",
            ["line 14: no column 'IBE8688_Age_Code2' in the snapshot; did you mean 'IBE8688_Age'?"],
        ),
        (
            "mapping_duplicate_rows",
            [
                "line 14: 'IBE8688_Age' is mapped to 'IBE_01' twice",
                "line 15: 'IBE8689_Occupation_Code' is mapped to 'IBE_01' twice",
            ],
        ),
    ],
)
def test_mapping_rows_without_column_are_listed(
    published: Project, dirty: Dirty, refused: Refused, defect: str, lines: list[str]
) -> None:
    sample = dirty(defect)
    published.use(sample)
    messages = refused(published, 2).stderr.splitlines()
    start = messages.index(f"error: {sample.mapping} does not match the snapshot:")
    assert messages[start + 1 : -1] == [*lines, "Correct the mapping file"]


@pytest.mark.parametrize("defect", ["mapping_bom", "mapping_blank_lines", "mapping_spaces"])
def test_harmless_mapping_oddities_are_accepted(current: Project, dirty: Dirty, defect: str) -> None:
    before = current.content()
    current.use(dirty(defect))
    current.run()
    assert current.content() == before
    assert len(current.run_ids()) == 2


def test_key_in_mapping_is_ignored_with_warning(current: Project, dirty: Dirty) -> None:
    before = current.content()
    current.use(dirty("mapping_lists_key"))
    result = current.run()
    assert (
        "warning: mapping line 2: 'Customer_User_id' is the key, which every table has; the row is ignored"
    ) in result.stderr
    assert current.content() == before


def test_wrong_mapping_header_error_shows_expected_one(published: Project, dirty: Dirty, refused: Refused) -> None:
    sample = dirty("mapping_unknown_header")
    published.use(sample)
    result = refused(published, 2)
    assert (
        f"error: {sample.mapping}: header 'TABLE_NAME,COLUMN_NAME', expected table,column; a mapping without a "
        "header needs table,column as first line"
    ) in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; write the line table,column, then a line with table and column for each column"),
        (b"\n \n", "is empty; write the line table,column, then"),
        (
            b"IBE_01,IBE8688_Age\n",
            "header 'IBE_01,IBE8688_Age', expected table,column; a mapping without a header needs",
        ),
        (
            b"table;column\nIBE_01;IBE8688_Age\n",
            "semicolons separate the names of the header 'table;column'; use commas",
        ),
        (
            b"table\tcolumn\nIBE_01\tIBE8688_Age\n",
            "tabs separate the names of the header 'table\\tcolumn'; use commas",
        ),
        (HEADER.encode(), "does not match the snapshot:\nno rows"),
        (HEADER.encode() + b"IBE_01\n", "line 2: expected a table and a column, found 'IBE_01'"),
        (HEADER.encode() + b"IBE_01,\n", "line 2: expected a table and a column, found 'IBE_01,'"),
        (HEADER.encode("utf-16"), "is not UTF-8 text (invalid start byte at byte 0); save it as UTF-8"),
        (HEADER.encode() + b'IBE_01,"' + b"x" * 200_000, "line 2: is not CSV: field larger than field limit"),
        (HEADER.encode() + b"---,IBE8688_Age\n", "line 2: table '---' needs a letter or digit in its name"),
        (
            HEADER.encode() + b"IBE_01,IBE8688_Age\nibe-01,IBE8689_Occupation_Code\n",
            "line 3: tables 'IBE_01' and 'ibe-01' are both called 'ibe_01'",
        ),
        (HEADER.encode() + b"IBE_01,Customer_User_id\n", "table 'IBE_01' has no columns besides the key"),
    ],
)
def test_mapping_mistake_error_names_file_and_line(
    published: Project, dirty: Dirty, refused: Refused, content: bytes, message: str
) -> None:
    sample = dirty(None)
    sample.mapping.write_bytes(content)
    published.use(sample)
    result = refused(published, 2)
    assert f"error: {sample.mapping}" in result.stderr
    assert message in result.stderr
    assert f"Fix the mapping, then run again: bucketwheel run {WIDE} " in result.stderr


def test_missing_mapping_is_refused(published: Project, dirty: Dirty, refused: Refused) -> None:
    sample = dirty(None)
    sample.mapping.unlink()
    published.use(sample)
    result = refused(published, 2)
    assert f"error: mapping {sample.mapping}: cannot read: it does not exist; set datasets.<name>.mapping" in (
        result.stderr
    )


def test_mapping_accepts_other_case_and_column_order(current: Project, dirty: Dirty) -> None:
    before = current.content()
    sample = dirty(None)
    swapped = [",".join(reversed(line.split(","))) for line in sample.mapping.read_text().lower().splitlines()]
    sample.mapping.write_text("\r\n".join(swapped))
    current.use(sample)
    current.run()
    assert current.content() == before


def test_long_list_of_mapping_mistakes_is_cut(published: Project, dirty: Dirty, refused: Refused) -> None:
    sample = dirty(None)
    with sample.mapping.open("a") as file:
        file.writelines(f"IBE_01,Wrong_{number}\n" for number in range(25))
    published.use(sample)
    lines = refused(published, 2).stderr.splitlines()
    assert sum(": no column 'Wrong_" in line for line in lines) == 20
    assert "and 5 more" in lines


def test_table_of_101_columns_is_refused_with_limit(published: Project, dirty: Dirty, refused: Refused) -> None:
    published.use(dirty("table_of_101_columns"))
    result = refused(published, 2, "--set", "split.column_limit=100")
    assert (
        "error: table 'ibe_01' has 101 columns, split.column_limit is 100; map some to another table, or set "
        "split.columns_over_limit=parts to split the table, or =allow to keep it\n"
    ) in result.stderr


def test_table_of_101_columns_is_split_without_loss(project: Project, dirty: Dirty) -> None:
    project.use(dirty("table_of_101_columns", rows=90))
    project.run("--set", "split.columns_over_limit=parts", "--set", "split.column_limit=100")
    widths = {name: len(project.columns(name)) - 1 for name in project.published()}
    assert widths["bucketed_ibe_01_part_1"] + widths["bucketed_ibe_01_part_2"] == 101
    assert max(widths.values()) == 51
    assert "bucketed_ibe_01" not in widths


@pytest.mark.parametrize(
    "allowed", [(), ("--set", "split.column_limit=100", "--set", "split.columns_over_limit=allow")]
)
def test_table_of_101_columns_is_allowed(project: Project, dirty: Dirty, allowed: tuple[str, ...]) -> None:
    project.use(dirty("table_of_101_columns", rows=90))
    project.run(*allowed)
    assert len(project.columns("bucketed_ibe_01")) == 102


def test_unmapped_columns_are_counted_and_named(project: Project) -> None:
    result = project.run()
    assert f"{WIDE}: warning: 3 source columns are not in the mapping: Record_Source, Batch_Number, Load_Date" in (
        result.stderr
    )
