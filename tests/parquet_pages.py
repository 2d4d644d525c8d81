"""Read the headers of the pages of a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from compact_thrift import parse_start

# Headers with statistics are longer than others, but never by as much.
_LONGEST_HEADER = 2**16
# Field numbers of a page header, and page types.
_TYPE, _UNCOMPRESSED, _COMPRESSED = 1, 2, 3
_DICTIONARY = 2


class Page(NamedTuple):
    """A page: whether it has a dictionary, and its bytes before and after compression."""

    is_dictionary: bool
    plain_bytes: int
    bytes: int


def pages(path: Path, column: str, group: int = 0) -> list[Page]:
    """Return the pages of a column in a row group."""
    footer = pq.read_metadata(path)
    content = footer.row_group(group)
    chunks = {content.column(number).path_in_schema: content.column(number) for number in range(content.num_columns)}
    chunk = chunks[column]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    end = start + chunk.total_compressed_size
    found = []
    with path.open("rb") as file:
        while start < end:
            file.seek(start)
            header, length = parse_start(file.read(_LONGEST_HEADER))
            found.append(Page(header[_TYPE] == _DICTIONARY, header[_UNCOMPRESSED], header[_COMPRESSED]))
            start += length + header[_COMPRESSED]
    return found


def longest_page(path: Path, column: str) -> int:
    """Return the bytes of the longest data page of a column, before compression."""
    groups = range(pq.read_metadata(path).num_row_groups)
    return max(page.plain_bytes for group in groups for page in pages(path, column, group) if not page.is_dictionary)
