"""Schemas that a parser has seen before: they are converted to Arrow once, and no other schema is taken for them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.kernel import footers
from bucketwheel.kernel.footer_process import FooterProcesses
from bucketwheel.kernel.footers import FooterParser, FooterSummary, _Footer, _Leaves
from compact_thrift import (
    BINARY,
    FALSE,
    I32,
    LIST,
    STRUCT,
    TRUE,
    Field,
    Items,
    Struct,
    parse,
    serialize,
    split_footer,
    with_footer,
)

# Fields of Parquet's `SchemaElement` that are numbers, with some values: type, length, repetition, children,
# converted type, scale, precision and id.
NUMBERS = {1: (1, 2, 3, 6), 2: (7,), 3: (0, 1, 2), 5: (1,), 6: (0, 5, 7, 9, 10, 18), 7: (1,), 8: (5,), 9: (4,)}
LOGICAL_TYPE = 10


class WrongSchemaError(BaseException):
    """A schema was taken for another one; ends the process, as the parser answers exceptions."""


def flat() -> pa.Table:
    """Return columns that are not nested, of kinds with every form of annotation."""
    moment = pa.array([1, None], pa.int64())
    columns: dict[str, pa.Array] = {
        "plain": pa.array([1, 2], pa.int64()),
        "unsigned": pa.array([1, 2], pa.uint32()),
        "text": pa.array(["a", None]),
        "price": pa.array([Decimal("1.23"), None], pa.decimal128(9, 2)),
        "instant": moment.cast(pa.timestamp("us", "UTC")),
        "local": moment.cast(pa.timestamp("us")),
    }
    return pa.table(columns)


def written(table: pa.Table, **options: Any) -> tuple[bytes, Struct]:
    """Return the body and the footer of a file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    body, footer = split_footer(sink.getvalue())
    return body, parse(footer)


def other_values(field: Field) -> Iterator[Any]:
    """Yield other values of a field of a column's definition."""
    if field.kind == I32:
        yield from set(NUMBERS[field.number]) - {field.value}
    elif field.kind == BINARY:
        yield from (field.value + b".x", b"s {\n    optional int64 field_id=-1 " + field.value)
    elif field.number == LOGICAL_TYPE:
        yield from logical_types()


def logical_types() -> Iterator[Struct]:
    """Yield annotations: text, JSON, decimals, and timestamps with their parameters."""
    for number in (1, 12):
        yield Struct([Field(number, STRUCT, Struct())])
    for scale in (0, 2):
        yield Struct([Field(5, STRUCT, Struct([Field(1, I32, scale), Field(2, I32, 9)]))])
    for adjusted in (True, False):
        for unit in (1, 2, 3):
            units = Struct([Field(unit, STRUCT, Struct())])
            time = Struct([Field(1, TRUE if adjusted else FALSE, adjusted), Field(2, STRUCT, units)])
            yield Struct([Field(8, STRUCT, time)])


def one_field_changed(metadata: Struct) -> Iterator[Struct]:
    """Yield footers in which one field of one column's definition is changed, removed or added."""
    pickled = pickle.dumps(metadata)
    for place, element in enumerate(metadata[2].values):
        present = {field.number for field in element}
        changes: list[tuple[int, Field | None]] = [(number, None) for number in present]
        changes += [(old.number, Field(old.number, old.kind, new)) for old in element for new in other_values(old)]
        for number in NUMBERS.keys() - present:
            changes += [(number, Field(number, I32, value)) for value in NUMBERS[number]]
        if LOGICAL_TYPE not in present:
            changes += [(LOGICAL_TYPE, Field(LOGICAL_TYPE, STRUCT, value)) for value in logical_types()]
        for number, field in changes:
            changed = pickle.loads(pickled)
            values = changed[2].values[place]
            values[:] = sorted([*values.others(number), *([field] if field else [])], key=lambda each: each.number)
            yield changed


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the parser end its process if it takes a schema for another one."""
    choose = FooterParser._leaves

    def chosen(self: FooterParser, file: _Footer) -> _Leaves:
        leaves = choose(self, file)
        arrow = file.schema_arrow.remove_metadata()
        if not leaves.arrow.equals(arrow, check_metadata=True):
            raise WrongSchemaError(f"{leaves.arrow}\ninstead of\n{arrow}")
        return leaves

    monkeypatch.setattr(FooterParser, "_leaves", chosen)


def parse_all(body: bytes, metadata: list[Struct]) -> list[FooterSummary | str]:
    """Parse footers in forked processes, because some of them abort pyarrow."""
    files = [with_footer(body, serialize(each)) for each in metadata]
    with FooterProcesses() as processes:
        return processes.parse([(file[len(body) :], len(file)) for file in files])


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("store_schema", [False, True])
def test_changed_schema_is_not_taken_for_the_original(store_schema: bool) -> None:
    body, original = written(flat(), store_schema=store_schema)
    changed = list(one_field_changed(original))
    assert len(changed) > 200
    for first in range(0, len(changed), 5):
        # The original again and again, because a process that ends forgets it.
        footers = [each for footer in changed[first : first + 5] for each in (original, footer)]
        assert all(isinstance(result, FooterSummary) for result in parse_all(body, footers)[::2])


def types(results: list[FooterSummary | str]) -> list[str]:
    """Return the types of all columns of each file."""
    assert all(isinstance(result, FooterSummary) for result in results), results
    schemas = [
        pa.ipc.read_schema(pa.py_buffer(result.schema)) for result in results if isinstance(result, FooterSummary)
    ]
    return [", ".join(map(str, schema.types)) for schema in schemas]


def test_last_of_two_schemas_in_a_footer_counts() -> None:
    flat_schema = pa.schema([pa.field("x", pa.int64(), nullable=False)])
    inside = pa.schema([pa.field("s", pa.struct(list(flat_schema)), nullable=False)])
    # pyarrow calls the two schemas equal.
    (body, one), (_, other) = (written(schema.empty_table(), store_schema=False) for schema in (flat_schema, inside))
    both = Struct([*one, *(field for field in other if field.number == 2)])
    assert types(parse_all(body, [one, both, one])) == ["int64", "struct<x: int64 not null>", "int64"]


def test_schema_that_the_writer_stored_is_compared() -> None:
    text = pa.array(["a"])
    files = [written(pa.table({"x": column})) for column in (text, text.cast(pa.large_string()))]
    (body, first), (_, second) = files
    one, other = first[5].values[0], second[5].values[0]
    both = []
    for entries in ([one, other], [other, one]):
        both.append(Struct(first))
        both[-1].set(5, LIST, Items(STRUCT, entries))
    # The first one counts.
    assert types(parse_all(body, [first, second, *both])) == ["string", "large_string", "string", "large_string"]


def test_arrow_schema_of_flat_files_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Observed(footers._Footer):
        @property
        def schema_arrow(self) -> pa.Schema:
            asked.append(self)
            return super().schema_arrow

    monkeypatch.setattr(footers, "_Footer", Observed)
    parser = FooterParser()
    for rows in (1, 2, 1):
        body, metadata = written(flat().slice(0, rows))
        file = with_footer(body, serialize(metadata))
        assert isinstance(parser.parse(file, len(file)), FooterSummary)
    assert len(asked) == 1


def test_name_of_a_group_that_is_not_utf_8_is_refused_after_files_with_other_names() -> None:
    body, original = written(pa.table({"x": [[1, 2]]}))
    other = pickle.loads(pickle.dumps(original))
    # pyarrow calls the two schemas equal.
    group = other[2].values[2]
    group.set(4, BINARY, b"\xffist")
    results = parse_all(body, [original, other])
    assert isinstance(results[0], FooterSummary)
    assert results[1] == "a name in it is not UTF-8: b'x.\\xffist.element'"
