"""Build SQL text from quoted identifiers and literals.

DuckDB and Trino quote identifiers with double quotes, Hive (and so Athena's DDL) with backticks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from bucketwheel.errors import ConfigError

# Maximum length of table and column names in Glue and Athena.
LONGEST_NAME = 255
_SIMPLE_NAME = re.compile(r"[a-z_][a-z0-9_]*")
# Reserved words of DuckDB and Trino.
_RESERVED = """
ALL ALTER ANALYZE AND ANY ARRAY AS ASC ASYMMETRIC AT BETWEEN BOTH BY CASE CAST CHECK COLLATE COLUMN CONSTRAINT
CREATE CROSS CUBE CURRENT_CATALOG CURRENT_DATE CURRENT_PATH CURRENT_ROLE CURRENT_SCHEMA CURRENT_TIME CURRENT_TIMESTAMP
CURRENT_USER DEALLOCATE DEFAULT DEFERRABLE DELETE DESC DESCRIBE DISTINCT DO DROP ELSE END ESCAPE EXCEPT EXECUTE EXISTS
EXTRACT FALSE FETCH FOR FOREIGN FROM FULL GROUP GROUPING HAVING IN INITIALLY INNER INSERT INTERSECT INTO IS JOIN
JSON_ARRAY JSON_EXISTS JSON_OBJECT JSON_QUERY JSON_TABLE JSON_VALUE LAMBDA LATERAL LEADING LEFT LIKE LIMIT LISTAGG
LOCALTIME LOCALTIMESTAMP NATURAL NORMALIZE NOT NULL OFFSET ON ONLY OR ORDER OUTER PIVOT PIVOT_LONGER PIVOT_WIDER
PLACING PREPARE PRIMARY QUALIFY RECURSIVE REFERENCES RETURNING RIGHT ROLLUP SELECT SHOW SKIP SOME SUMMARIZE SYMMETRIC
TABLE THEN TO TRAILING TRIM TRUE UESCAPE UNION UNIQUE UNNEST UNPIVOT USING VALUES VARIADIC WHEN WHERE WINDOW WITH
"""
_PLAIN_NAME = re.compile(rf"[a-z0-9_]{{1,{LONGEST_NAME}}}", re.IGNORECASE)


def quoted(identifier: str) -> str:
    """Return the identifier in double quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def plain_name(identifier: str) -> str:
    """Return the identifier, in double quotes only if DuckDB, Trino or Athena would misread it."""
    simple = _SIMPLE_NAME.fullmatch(identifier) and identifier.upper() not in _RESERVED.split()
    return identifier if simple else quoted(identifier)


def check_plain_name(setting: str, name: str) -> None:
    """Raise ConfigError if Athena cannot read a table or database of this name, even quoted."""
    if not _PLAIN_NAME.fullmatch(name):
        raise ConfigError(
            f"{setting}: {name!r} is not a name that Athena can read; use at most 255 letters, digits and underscores"
        )


def literal(text: str) -> str:
    """Return the text as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def name_of(*parts: str) -> str:
    """Return a name of several parts, such as catalog, schema and table, for queries in Trino and Athena."""
    return ".".join(quoted(part) for part in parts)


def hive_name(*parts: str) -> str:
    """Return a name of several parts for Hive, and so for Athena's DDL."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def create_table_as(table: str, properties: Mapping[str, str], columns: Sequence[str], source: str) -> str:
    """Return the CREATE TABLE AS statement for Trino and Athena.

    Args:
        table: the new table, quoted.
        properties: values of the table properties, as SQL text.
        columns: column names, not quoted.
        source: the source table, quoted.
    """
    given = ",\n".join(f"  {name} = {value}" for name, value in properties.items())
    chosen = ",\n".join(f"  {quoted(column)}" for column in columns)
    return f"CREATE TABLE {table}\nWITH (\n{given}\n) AS\nSELECT\n{chosen}\nFROM {source}"


def text_array(values: Iterable[str]) -> str:
    """Return an array literal of strings."""
    return f"ARRAY[{', '.join(literal(value) for value in values)}]"


def key_facts(table: str, columns: Sequence[str]) -> str:
    """Return the query for a row count and an order-independent checksum of each column."""
    sums = "".join(f", to_hex(checksum({quoted(column)}))" for column in columns)
    return f"SELECT count(*){sums}\nFROM {table}"


def drop_hive_table(database: str, name: str) -> str:
    """Return Athena's statement to drop an external table; its files stay."""
    return f"DROP TABLE IF EXISTS {hive_name(database, name)}"


def drop_table(table: str) -> str:
    """Return Trino's statement to drop a table; files of an external table stay."""
    return f"DROP TABLE IF EXISTS {table}"


def parquet_view(schema: str, name: str, files: Iterable[str]) -> str:
    """Return DuckDB's statement for a view of these Parquet files.

    It lists the files: with a pattern, a query would silently return fewer rows after a file was deleted.

    Raises:
        ConfigError: DuckDB cannot open a file.
    """
    listed = ", ".join(map(_path_literal, files))
    # A parent directory such as env=prod would become a column.
    return (
        f"CREATE OR REPLACE VIEW {quoted(schema)}.{quoted(name)} AS\n"
        f"SELECT * FROM read_parquet([{listed}], hive_partitioning = false)"
    )


def reads_from(view: str, location: str) -> bool:
    """Return whether the text of a view names files in a directory, or a pattern, as earlier versions did."""
    return _path_literal(f"{location}/")[:-1] in view


def _path_literal(path: str) -> str:
    if "\\" in path:
        raise ConfigError(f"{path}: DuckDB treats a backslash as a path separator; choose another target")
    return literal(glob_escaped(path))


def drop_view(schema: str, name: str) -> str:
    """Return DuckDB's statement to drop a view."""
    return f"DROP VIEW IF EXISTS {quoted(schema)}.{quoted(name)}"


def glob_escaped(location: str) -> str:
    """Return the location with DuckDB's glob characters escaped in brackets."""
    return re.sub(r"[*?\[]", r"[\g<0>]", location)
