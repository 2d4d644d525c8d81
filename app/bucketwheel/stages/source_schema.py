"""Choose the schema of a snapshot from the schemas of its files, and compare the files with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from bucketwheel.errors import ConfigError, SchemaError, did_you_mean
from bucketwheel.kernel.arrow_types import canonical_type, common_type
from bucketwheel.safe_text import one_line
from bucketwheel.stages.footers import Footer

_SHOWN = 20
# Spark writes the instant of a TIMESTAMP as INT96, which Arrow reads without a time zone.
_INT96_AS_INSTANT = pa.timestamp("us", "UTC")
# Types of text, and of the bytes in it.
_BINARY = {
    **{kind: pa.binary() for kind in (pa.string(), pa.binary())},
    **{kind: pa.large_binary() for kind in (pa.large_string(), pa.large_binary())},
}


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
    elif any(_repeated(reference)):
        _refuse([problem for footer in with_rows for problem in _repeated(footer)])
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
    forms = [str(footer.schema.remove_metadata()) for footer in footers]
    most, _ = Counter(forms).most_common(1)[0]
    return footers[forms.index(most)]


def _common_schema(footers: Sequence[Footer], reference: Footer) -> pa.Schema:
    """Return the schema of `reference` with types that fit the columns of all files.

    Raises:
        SchemaError: see `snapshot_schema`.
    """
    columns = [dict(zip(footer.schema.names, footer.schema.types, strict=True)) for footer in footers]
    instants = {name for types in columns for name, kind in types.items() if pa.types.is_timestamp(kind) and kind.tz}
    for footer, types in zip(footers, columns, strict=True):
        types.update(dict.fromkeys(footer.summary.int96 & instants, _INT96_AS_INSTANT))
    known = dict(columns[footers.index(reference)])
    problems: list[str] = []
    for footer, types in zip(footers, columns, strict=True):
        problems += [*_repeated(footer), *_differences(footer, types, known, reference)]
    _refuse(problems)
    return pa.schema([(name, known[name]) for name in reference.schema.names])


def _differences(
    footer: Footer, types: Mapping[str, pa.DataType], known: dict[str, pa.DataType], reference: Footer
) -> Iterator[str]:
    """Yield how a file differs from `known`; widen the types in `known` that Parquet stores in the same way."""
    path, expected = one_line(footer.entry.location), one_line(reference.entry.location)
    yield from (f"{path}: column {name!r} is missing" for name in known if name not in types)
    for name, kind in types.items():
        if name not in known:
            yield f"{path}: column {name!r} is not in {expected}"
        elif not kind.equals(known[name]):
            common = common_type(kind, known[name])
            if common is None:
                original = reference.schema.field(name).type
                types_of_both = f"has type {one_line(kind)}, in {expected} it has type {one_line(original)}"
                yield f"{path}: column {name!r} {types_of_both}"
            else:
                known[name] = common


def _repeated(footer: Footer) -> Iterator[str]:
    counts = Counter(footer.schema.names)
    path = one_line(footer.entry.location)
    yield from (f"{path}: column {name!r} appears more than once" for name in sorted(counts) if counts[name] > 1)


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        more = f"\nand {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        listed = "\n".join(problems[:_SHOWN])
        raise SchemaError(
            f"the files of the snapshot have different schemas:\n{listed}{more}\nWrite them with one schema"
        )
