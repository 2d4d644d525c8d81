"""Tell from a footer whether data pages of a column chunk use its dictionary.

Writers begin a chunk with a dictionary and give it up when it becomes too large; the pages after that are plain. The
footer has statistics of encodings that tell, but pyarrow does not show them. Its list of encodings tells only for
writers of format version 1: later ones list PLAIN for the dictionary page itself. The size of the data pages tells
the rest.
"""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

# Most bytes of a code. A dictionary whose page has at most 32 KiB has far fewer values than these can tell apart.
_CODE_BYTES = 3
# Bytes of page headers, and of statistics in them.
_HEADER_BYTES = 2**16
# Most bytes of a small dictionary before compression.
_DICTIONARY_BYTES = 2**24
# Plain pages among pages of codes take more than this, at least once.
_SUSPICIOUS_CODE_BYTES = 2


def has_plain_pages(chunk: pq.ColumnChunkMetaData, data_bytes: int, plain_bytes: int, values: int) -> bool:
    """Return whether data pages of a chunk with a small dictionary do not use it.

    Args:
        chunk: metadata of the chunk.
        data_bytes: bytes of its data pages.
        plain_bytes: bytes of all its pages before compression.
        values: its values, with NULLs.
    """
    if not may_have_plain_pages(plain_bytes, values):
        return False
    codes = _CODE_BYTES * values + _HEADER_BYTES
    if data_bytes > codes or plain_bytes > codes + _DICTIONARY_BYTES:
        return True
    return {"PLAIN", "PLAIN_DICTIONARY"}.issubset(chunk.encodings)


def may_have_plain_pages(plain_bytes: Any, values: Any) -> Any:
    """Return whether a chunk takes so many bytes that `has_plain_pages` must decide; also for arrays of chunks."""
    return plain_bytes > _SUSPICIOUS_CODE_BYTES * values + _HEADER_BYTES
