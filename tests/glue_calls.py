"""Calls of Glue that docs/spark.md counts."""

from __future__ import annotations

# Maximum columns of one call, limits of Glue's API.
_MOST_READ, _MOST_WRITTEN = 100, 25


def publication_calls(columns: int, with_statistics: int) -> int:
    """Return the calls that publish a table in place of one with the same columns, besides those that list tables.

    Args:
        columns: columns of the table.
        with_statistics: those with statistics, in both tables.
    """
    definition = 3  # Read, update, and read again.
    pages = -(-columns // _MOST_READ) + -(-with_statistics // _MOST_WRITTEN)
    # Statistics are deleted column by column.
    return definition + pages + with_statistics
