"""Choose the schema of a snapshot from the schemas of its files, and compare the files with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import pyarrow as pa

from bucketwheel.errors import ConfigError, SchemaError, did_you_mean
from bucketwheel.kernel.arrow_types import canonical_type, common_type
from bucketwheel.kernel.written_types import UUID_BYTES
from bucketwheel.safe_text import one_line
from bucketwheel.stages.footers import Footer

_SHOWN = 20
# Spark writes the instant of a TIMESTAMP as INT96, which Arrow reads without a time zone.
_INT96_AS_INSTANT = pa.timestamp("us", "UTC")
# Identity of a schema, because comparing wide ones takes long, and the columns stored as INT96.
_Form = tuple[int, frozenset[str]]
# Types of text, and of the bytes in it.
_BINARY = {
    **{kind: pa.binary() for kind in (pa.string(), pa.binary())},
    **{kind: pa.large_binary() for kind in (pa.large_string(), pa.large_binary())},
}
# The same bytes, but readers see text of the first one, unless a setting says otherwise.
_UUID, _BYTES = "UUID", str(pa.binary(UUID_BYTES))
_UUID_FIX = "set types.uuid=binary to publish the bytes of both"


def snapshot_schema(footers: Sequence[Footer], warnings: list[str]) -> pa.Schema:
    """Return a schema that fits every file with rows; add a warning for each file without rows that differs.

    Columns may differ in what only Arrow distinguishes, such as `string` and `large_string`, or the name of a time
    zone: their type is one that Parquet stores in the same way. The order of columns is that of most files.

    Raises:
        SchemaError: a column is missing from a file, appears twice or is stored as another type.
    """
    with_rows = [footer for footer in footers if footer.rows] or list(footers)
    reference = _most_frequent(with_rows)
    schema = reference.schema.remove_metadata()
    if any(footer is not reference and not footer.schema.equals(reference.schema) for footer in with_rows):
        schema = _common_schema(with_rows, reference)
    elif repeated := list(_repeated(reference)):
        problems = {_form(footer): repeated for footer in with_rows}
        _refuse(with_rows, problems, "have columns of the same name", "Give each of their columns its own name")
    for footer in footers:
        if footer.rows == 0 and not footer.schema.equals(reference.schema):
            warnings.append(f"{footer.entry.location}: has no rows and another schema; ignored")
    return schema


def with_binary_columns(schema: pa.Schema, names: Sequence[str], keys: Sequence[str], setting: str) -> pa.Schema:
    """Return the schema with these text columns as binary.

    Args:
        schema: of the snapshot.
        names: values of the `setting`.
        keys: key columns; readers bucket text, but not binary.
        setting: name of the setting.

    Raises:
        ConfigError: a column does not exist, is no text, or is a key.
    """
    for name in names:
        if name not in schema.names:
            raise ConfigError(f"{setting}: {did_you_mean(name, schema.names)}the snapshot has no column {name!r}")
        place = schema.get_field_index(name)
        kind = canonical_type(schema.field(place).type)
        if kind not in _BINARY:
            raise ConfigError(f"{setting}: column {name!r} has type {one_line(kind)}; only text can become binary")
        if name in keys:
            raise ConfigError(f"{setting}: {name!r} is a key, which readers can bucket as text only; remove it")
        schema = schema.set(place, pa.field(name, _BINARY[kind]))
    return schema


def _most_frequent(footers: Sequence[Footer]) -> Footer:
    """Return the first file with the most frequent schema, so that errors name the few files that differ."""
    first = footers[0]
    if all(footer.schema.equals(first.schema) for footer in footers[1:]):
        return first
    # Most files share their schema, which takes long to describe.
    texts = {id(footer.schema): footer.schema for footer in footers}
    forms = {number: str(schema.remove_metadata()) for number, schema in texts.items()}
    most, _ = Counter(forms[id(footer.schema)] for footer in footers).most_common(1)[0]
    return next(footer for footer in footers if forms[id(footer.schema)] == most)


def _common_schema(footers: Sequence[Footer], reference: Footer) -> pa.Schema:
    """Return the schema of `reference` with types that fit the columns of all files.

    Raises:
        SchemaError: see `snapshot_schema`.
    """
    first_of_form: dict[_Form, Footer] = {}
    for footer in footers:
        first_of_form.setdefault(_form(footer), footer)
    columns = {
        form: dict(zip(footer.schema.names, footer.schema.types, strict=True))
        for form, footer in first_of_form.items()
    }
    instants = {
        name for types in columns.values() for name, kind in types.items() if pa.types.is_timestamp(kind) and kind.tz
    }
    for form, types in columns.items():
        types.update(dict.fromkeys(first_of_form[form].int96 & instants, _INT96_AS_INSTANT))
    known = dict(columns[_form(reference)])
    problems = {
        form: [*_repeated(first_of_form[form]), *_differences(types, known, first_of_form[form], reference)]
        for form, types in columns.items()
    }
    _refuse(footers, problems)
    return pa.schema([(name, known[name]) for name in reference.schema.names])


def _form(footer: Footer) -> _Form:
    """Return what files with the same columns share."""
    return id(footer.schema), footer.int96


def _differences(
    types: Mapping[str, pa.DataType], known: dict[str, pa.DataType], footer: Footer, reference: Footer
) -> Iterator[str]:
    """Yield how columns differ from `known`; widen the types in `known` that Parquet stores in the same way."""
    expected = one_line(reference.entry.location)
    yield from (f"column {name!r} is missing" for name in known if name not in types)
    for name, kind in types.items():
        if name not in known:
            yield f"column {name!r} is not in {expected}"
        elif not kind.equals(known[name]):
            common = common_type(kind, known[name])
            if common is None:
                original = reference.schema.field(name).type
                stored = [_stored(name, kind, footer), _stored(name, original, reference)]
                uuids = _has_uuids(name, footer), _has_uuids(name, reference)
                mixed = uuids[0] != uuids[1] and _BYTES in stored[uuids.index(False)]
                fix = f"; {_UUID_FIX}" if mixed else ""
                yield f"column {name!r} has type {stored[0]}, in {expected} it has type {stored[1]}{fix}"
            else:
                known[name] = common


def _stored(name: str, kind: pa.DataType, footer: Footer) -> str:
    """Return the type of a column in a file, which may not be the one that is written."""
    known = (one.stored for one in footer.conversions if one.column == name)
    return one_line(next(known, kind))


def _has_uuids(name: str, footer: Footer) -> bool:
    """Return whether a column, or what is inside of it, is written as UUID in a file."""
    return any(one.stored == _UUID and f"{one.column}.".startswith(f"{name}.") for one in footer.conversions)


def _repeated(footer: Footer) -> Iterator[str]:
    counts = Counter(footer.schema.names)
    yield from (f"column {name!r} appears more than once" for name in sorted(counts) if counts[name] > 1)


def _refuse(
    footers: Sequence[Footer],
    problems: Mapping[_Form, Sequence[str]],
    fault: str = "have different schemas",
    fix: str = "Write them with one schema",
) -> None:
    """Raise SchemaError if there are problems with the columns of files."""
    count = sum(len(problems[_form(footer)]) for footer in footers)
    if count:
        texts = (
            f"{one_line(footer.entry.location)}: {problem}"
            for footer in footers
            for problem in problems[_form(footer)]
        )
        listed = "\n".join(islice(texts, _SHOWN))
        more = f"\nand {count - _SHOWN} more" if count > _SHOWN else ""
        raise SchemaError(f"the files of the snapshot {fault}:\n{listed}{more}\n{fix}")
