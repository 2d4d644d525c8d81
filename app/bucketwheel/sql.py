"""SQL text and type names, built in one place from quoted identifiers and literals.

DuckDB and Trino quote identifiers with double quotes, Hive (and so Athena's DDL) with backticks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from bucketwheel.errors import ConfigError

# The most characters of a table's or column's name in Glue, and so in Athena.
LONGEST_NAME = 255
_PLAIN_NAME = re.compile(rf"[a-z0-9_]{{1,{LONGEST_NAME}}}", re.IGNORECASE)


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
