"""Check the names of nested fields, for which readers reject a table, or even the listing of all tables."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from bucketwheel.catalogs.hive_types import TYPE_MARKS

_MARKS = frozenset("_.$")
# Java's characters have 16 bits; larger ones are two, and neither is a letter.
_LARGEST = 0xFFFF
_FIX = "have the snapshot written with other names, or remove the column from the mapping"


def field_problem(kind: pa.DataType, column: str, hive: bool = True) -> str | None:
    """Return why readers reject the names of fields in a column, and the fix; None if they do not.

    Args:
        kind: type of the column.
        column: its name.
        hive: whether the names are parts of a Hive type, whose parser knows no other characters than letters, digits,
            `_`, `.` and `$`. Otherwise, only characters that end a name in the text of a type are a problem.
    """
    return next(_problems(kind, column, column, hive), None)


def _problems(kind: pa.DataType, column: str, path: str, hive: bool) -> Iterator[str]:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    inner = [kind.field(number) for number in range(kind.num_fields)]
    if pa.types.is_map(kind):
        inner = [kind.key_field, kind.item_field]
    if not pa.types.is_struct(kind):
        # The names of the fields of lists and maps are not part of the type.
        for field in inner:
            yield from _problems(field.type, column, path, hive)
        return
    names: dict[str, str] = {}
    for field in inner:
        inside = f"{path}.{field.name}"
        if not field.name:
            yield f"column {column!r} has a field without a name in {path!r}; {_FIX}"
        if other := names.get(field.name.lower()):
            yield (
                f"column {column!r} has fields {f'{path}.{other}'!r} and {inside!r}, but readers do not distinguish "
                f"names by letter case; {_FIX}"
            )
        odd = next((character for character in field.name if not _is_part_of_name(character)), None)
        if hive and odd:
            yield (
                f"column {column!r} has a field {inside!r} with {odd!r} in its name, which readers of Hive's types "
                f"cannot parse (letters, digits, _, . and $ only); {_FIX}"
            )
        if not hive and (mark := TYPE_MARKS.search(field.name)):
            yield (
                f"column {column!r} has a field {inside!r} with {mark[0]!r} in its name; definitions of tables, also "
                f"of Iceberg tables, cannot have it in names of fields; {_FIX}"
            )
        names[field.name.lower()] = field.name
        yield from _problems(field.type, column, inside, hive)


def _is_part_of_name(character: str) -> bool:
    # Java has the same letters and digits as these two methods.
    letter = ord(character) <= _LARGEST and (character.isalpha() or character.isdecimal())
    return letter or character in _MARKS
