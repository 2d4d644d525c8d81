"""SQL text and type names, built in one place from quoted identifiers and literals.

DuckDB and Trino quote identifiers with double quotes, Hive (and so Athena's DDL) with backticks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from bucketwheel.errors import ConfigError, SchemaError

_SCALARS = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.uint8(): "smallint",
    pa.uint16(): "int",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
    pa.date64(): "date",
}

# No reader of Hive's types gets all values of these as they lie in Parquet: the nearest type, what is wrong with it,
# and the types to have instead. Smaller unsigned numbers are read right.
_NEGATIVE = "as which readers take values from {} on for negative ones"
_TIME = ("int", "but Trino refuses to read times of day of 32 bits", "time64 (in microseconds)")
_NEAREST = {
    pa.uint32(): ("bigint", _NEGATIVE.format("2^31"), "int64"),
    pa.uint64(): ("bigint", _NEGATIVE.format("2^63"), "int64 or decimal(20,0)"),
    pa.float16(): ("float", "which has four bytes where Parquet has two, so readers refuse it", "float32"),
    pa.time32("s"): _TIME,
    pa.time32("ms"): _TIME,
}

_MOST_DIGITS = 38
_FIX = "leave it unmapped (a dataset without a mapping needs one for that), or have it written as another type"
# The most characters of a table's or column's name in Glue, and so in Athena.
LONGEST_NAME = 255
_PLAIN_NAME = re.compile(rf"[a-z0-9_]{{1,{LONGEST_NAME}}}", re.IGNORECASE)
# What separates the parts of a type's name.
_TYPE_MARKS = re.compile(r"[\s<>:,;`\"'()]")


def quoted(identifier: str) -> str:
    """Return the identifier in double quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def check_plain_name(setting: str, name: str) -> None:
    """Raise ConfigError where Athena could not read a table or database of this name, however it is quoted."""
    if not _PLAIN_NAME.fullmatch(name):
        raise ConfigError(
            f"{setting}: {name!r} is no name that Athena can read; use letters, digits and underscores, at most 255"
        )


def literal(text: str) -> str:
    """Return the text as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def name_of(*parts: str) -> str:
    """Return a name of several parts, such as catalog, schema and table, as Trino and Athena's queries take it."""
    return ".".join(quoted(part) for part in parts)


def hive_name(*parts: str) -> str:
    """Return a name of several parts as Hive, and so Athena's DDL, takes it."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def create_table_as(table: str, properties: Mapping[str, str], columns: Sequence[str], source: str) -> str:
    """Return the statement that makes `table` of `columns` of `source`, for Trino and Athena.

    Args:
        table: the new table, quoted.
        properties: SQL text of the value of each table property.
        columns: their names, not quoted.
        source: the table to read, quoted.
    """
    given = ",\n".join(f"  {name} = {value}" for name, value in properties.items())
    chosen = ",\n".join(f"  {quoted(column)}" for column in columns)
    return f"CREATE TABLE {table}\nWITH (\n{given}\n) AS\nSELECT\n{chosen}\nFROM {source}"


def text_array(values: Iterable[str]) -> str:
    """Return an array of texts."""
    return f"ARRAY[{', '.join(literal(value) for value in values)}]"


def key_facts(table: str, columns: Sequence[str]) -> str:
    """Return the query for a row count and, of each column, a checksum that does not depend on the order of rows."""
    sums = "".join(f", to_hex(checksum({quoted(column)}))" for column in columns)
    return f"SELECT count(*){sums}\nFROM {table}"


def drop_hive_table(database: str, name: str) -> str:
    """Return Athena's statement that removes the definition of an external table."""
    return f"DROP TABLE IF EXISTS {hive_name(database, name)}"


def drop_table(table: str) -> str:
    """Return Trino's statement that removes a table, of an external one the definition only."""
    return f"DROP TABLE IF EXISTS {table}"


def parquet_view(schema: str, name: str, location: str) -> str:
    """Return DuckDB's statement for a view of all Parquet files right below `location`."""
    # A directory above such as env=prod would become a column.
    return (
        f"CREATE OR REPLACE VIEW {quoted(schema)}.{quoted(name)} AS\n"
        f"SELECT * FROM read_parquet({parquet_glob(location)}, hive_partitioning = false)"
    )


def parquet_glob(location: str) -> str:
    """Return the literal that makes DuckDB read all Parquet files right below `location`.

    Raises:
        ConfigError: DuckDB cannot list the directory.
    """
    if "\\" in location:
        raise ConfigError(
            f"{location}: DuckDB takes a backslash for the end of a directory's name; choose another target"
        )
    return literal(f"{glob_escaped(location)}/*.parquet")


def drop_view(schema: str, name: str) -> str:
    """Return DuckDB's statement that removes a view."""
    return f"DROP VIEW IF EXISTS {quoted(schema)}.{quoted(name)}"


def glob_escaped(location: str) -> str:
    """Return the location with the characters that DuckDB's glob would expand put in brackets."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in location)


def hive_type(kind: pa.DataType, column: str, exact: bool = True) -> str:
    """Return the Hive type name of a column that is stored as Parquet.

    Args:
        kind: Arrow type of the column.
        column: its name, for the error.
        exact: refuse what would be read otherwise than it was written; else take the nearest name, for readers that
            go by the files.

    Raises:
        SchemaError: Hive has no such type.
    """
    if isinstance(kind, pa.BaseExtensionType):
        # Before the look-up: types that programs add need not be hashable.
        return hive_type(kind.storage_type, column, exact)
    if pa.types.is_dictionary(kind):
        return hive_type(kind.value_type, column, exact)
    if kind in _NEAREST:
        name, why, instead = _NEAREST[kind]
        if exact:
            raise SchemaError(
                f"column {column!r} has type {kind}; the nearest Hive type is {name}, {why}. Have the snapshot "
                f"written with {instead}, or leave the column unmapped"
            )
        return name
    return _SCALARS.get(kind) or _parameterised(kind, column, exact)


def _parameterised(kind: pa.DataType, column: str, exact: bool) -> str:
    types = pa.types
    if types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view":
        return "string"
    if (
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or str(kind) == "binary_view"
    ):
        return "binary"
    if types.is_decimal(kind) and kind.precision <= _MOST_DIGITS:
        return f"decimal({kind.precision},{kind.scale})"
    if types.is_timestamp(kind):
        return "timestamp"
    if types.is_time64(kind) or types.is_duration(kind):
        return "bigint"
    if types.is_map(kind):
        return f"map<{hive_type(kind.key_type, column, exact)},{hive_type(kind.item_type, column, exact)}>"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return f"array<{hive_type(kind.value_type, column, exact)}>"
    if types.is_struct(kind):
        odd = [field.name for field in kind if _TYPE_MARKS.search(field.name) or not field.name]
        if odd:
            raise SchemaError(f"column {column!r} has a field {odd[0]!r}, which Hive catalogs cannot name; {_FIX}")
        fields = ",".join(f"{field.name}:{hive_type(field.type, column, exact)}" for field in kind)
        return f"struct<{fields}>"
    raise SchemaError(f"column {column!r} has type {kind}, which Hive catalogs cannot name; {_FIX}")
