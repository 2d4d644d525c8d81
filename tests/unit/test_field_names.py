"""Names of nested fields that readers reject."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from bucketwheel.catalogs.field_names import field_problem

INSIDE: dict[str, Callable[[list[tuple[str, pa.DataType]]], pa.DataType]] = {
    "struct": pa.struct,
    "list": lambda fields: pa.list_(pa.struct(fields)),
    "map": lambda fields: pa.map_(pa.string(), pa.struct(fields)),
    "struct in struct": lambda fields: pa.struct([("outer", pa.struct(fields))]),
}


# All printable signs that Hive's parser of type names takes for the end of a name, and letters beyond 16 bits.
@pytest.mark.parametrize("sign", [*"!\"#%&'()*+,-/:;<=>?@[\\]^`{|}~ \t", "é", "²", "\U0001d4b3", "😀"])
def test_sign_that_hive_cannot_parse_is_refused(sign: str) -> None:
    problem = field_problem(pa.struct([("fine", pa.int8()), (f"a{sign}b", pa.int8())]), "c")
    # In NFC, é is a letter.
    if sign == "é":
        assert problem is None
        problem = field_problem(pa.struct([("e\u0301", pa.int8())]), "c")
    assert problem is not None
    assert "in its name, which readers of Hive's types cannot parse" in problem
    problem = field_problem(pa.struct([("ae\u0301b", pa.int8()), (f"a{sign}b", pa.int8())]), "c", hive=False)
    if sign in "\"'(),:;<>` \t":
        assert problem is not None
        assert "also of Iceberg tables, cannot have it in names" in problem
        assert "Hive" not in problem
    else:
        assert problem is None


@pytest.mark.parametrize("name", ["größe", "天", "a.b", "a$b", "_1", "ñ٣", "a" * 300])
def test_letters_digits_and_three_signs_are_accepted(name: str) -> None:
    assert field_problem(pa.struct([(name, pa.int8())]), "c") is None


@pytest.mark.parametrize("shape", INSIDE)
@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("currencyCode", "currencycode"), "but readers do not distinguish names by letter case"),
        (("ÄB", "äb"), "but readers do not distinguish names by letter case"),
        (("a", "a"), "but readers do not distinguish names by letter case"),
        (("a", ""), "has a field without a name in"),
        (("a", "a-b"), "with '-' in its name, which readers of Hive's types cannot parse"),
    ],
)
def test_field_is_found_at_any_depth(shape: str, names: tuple[str, str], problem: str) -> None:
    kind = INSIDE[shape]([(name, pa.int8()) for name in names])
    found = field_problem(kind, "my column")
    assert found is not None
    assert found.startswith("column 'my column' has ")
    assert problem in found
    assert found.endswith("have the snapshot written with other names, or remove the column from the mapping")


def test_names_in_lists_and_maps_do_not_matter() -> None:
    element = pa.field("an item", pa.int8())
    assert field_problem(pa.list_(element), "c") is None
    assert field_problem(pa.map_(pa.string(), element.with_name("a value")), "c") is None
