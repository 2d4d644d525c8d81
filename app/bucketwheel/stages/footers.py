"""Read Parquet footers: schema, row groups, and the bytes, dictionaries and NULLs of each column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.errors import UnreadableFilesError
from bucketwheel.formatting import counted
from bucketwheel.kernel.scatter import READ_OPTIONS
from bucketwheel.runs.manifest import SourceColumn, SourceFile
from bucketwheel.safe_text import one_line
from bucketwheel.storage import Entry, Storage, wrap_os_errors
from bucketwheel.system import system

_FOOTER_THREADS = 8
_MAGIC = b"PAR1"
# The length of the footer and the magic bytes follow it.
_TAIL_BYTES = 4 + len(_MAGIC)
# Page indexes take at most about this share of a file, and this many bytes.
_INDEX_SHARE = 0.01
_INDEX_BYTES = 2**20
# Older writers repeat the metadata of a chunk after it, in fewer bytes than a Parquet file has.
_SMALLEST_FILE = 512


@dataclass(frozen=True)
class Footer:
    """The footer of one file."""

    entry: Entry
    schema: pa.Schema
    metadata: pq.FileMetaData


def read_footers(storage: Storage, entries: Sequence[Entry]) -> list[Footer]:
    """Read the footers of all files in parallel.

    Raises:
        UnreadableFilesError: files without a readable footer; the message lists them.
        SourceChangedError: a file was replaced or deleted after it was listed.
        StorageError: permission to read a file is missing.
    """

    def read(entry: Entry) -> Footer | str:
        place = one_line(entry.location)
        try:
            with storage.open(entry.location, entry.version) as stream:
                file = pq.ParquetFile(stream, pre_buffer=False, **READ_OPTIONS)
                if _is_joined(file.metadata, stream):
                    return f"{place}: two Parquet files joined into one; readers see the last one only"
                return Footer(entry, file.schema_arrow, file.metadata)
        except PermissionError:
            # The file may be fine, so the error must not tell the user to rewrite it.
            with wrap_os_errors(entry.location, "read"):
                raise
        except MemoryError:
            raise  # Also an ArrowException, but not a fault of the file.
        except (pa.ArrowException, OSError, ValueError) as error:
            return f"{place}: {one_line(_reason(error))}"

    with system().pool(_FOOTER_THREADS) as pool:
        results = list(pool.map(read, entries))
    broken = [result for result in results if isinstance(result, str)]
    if broken:
        listed = "\n".join(broken)
        raise UnreadableFilesError(
            f"{len(broken)} of {counted(len(entries), 'file')} without a readable Parquet footer:\n{listed}\n"
            "Write them again, or take another snapshot with --snapshot-dt"
        )
    return [result for result in results if isinstance(result, Footer)]


def _is_joined(metadata: pq.FileMetaData, stream: pa.NativeFile) -> bool:
    """Return whether another Parquet file lies before the one that the footer describes.

    Offsets in the footer count from the start of its own file, so the bytes of the other one remain between the last
    column chunk and the footer. Page indexes and Bloom filters lie there too, but are far smaller.
    """
    size = stream.size()
    chunks = _last_chunks(metadata)
    end = max((_start(chunk) + chunk.total_compressed_size for chunk in chunks), default=len(_MAGIC))
    rest = size - metadata.serialized_size - _TAIL_BYTES - end
    indexed = any(chunk.has_offset_index or chunk.has_column_index for chunk in chunks)
    if rest <= (size * _INDEX_SHARE if indexed else _SMALLEST_FILE):
        return False
    first = max(0, rest - _INDEX_BYTES)
    return _MAGIC * 2 in stream.read_at(rest + len(_MAGIC) - first, first)


def _last_chunks(metadata: pq.FileMetaData) -> list[pq.ColumnChunkMetaData]:
    """Return the column chunks of the last row group that has rows."""
    for number in reversed(range(metadata.num_row_groups)):
        group = metadata.row_group(number)
        if group.num_rows:
            return [group.column(column) for column in range(group.num_columns)]
    return []


def _start(chunk: pq.ColumnChunkMetaData) -> int:
    return min(int(offset) for offset in (chunk.dictionary_page_offset, chunk.data_page_offset) if offset)


def _reason(error: Exception) -> str:
    """Return why a footer cannot be read, in words that lead to the cause."""
    if isinstance(error, UnicodeDecodeError):
        return f"a name in it is not UTF-8: {error.object!r}"
    text = str(error).partition("\n")[0]
    if "encrypted" in text or "decryption" in text:
        return f"the file is encrypted, and Bucketwheel cannot decrypt it: {text}"
    return text


def source_file(footer: Footer) -> SourceFile:
    """Return the manifest's record of the file."""
    metadata = footer.metadata
    return SourceFile(
        path=footer.entry.location,
        bytes=footer.entry.bytes,
        modified=footer.entry.modified,
        row_group_rows=tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)),
        version=footer.entry.version,
    )


def source_columns(schema: pa.Schema, footers: Sequence[Footer]) -> tuple[SourceColumn, ...]:
    """Return the columns of `schema`, each summed over the column chunks of all files."""
    compressed = dict.fromkeys(schema.names, 0)
    uncompressed = dict.fromkeys(schema.names, 0)
    dictionary: dict[str, int | None] = dict.fromkeys(schema.names, 0)
    nulls: dict[str, int | None] = {
        # Footers do not tell NULLs at the top of a nested column from NULLs inside it.
        field.name: None if pa.types.is_nested(_stored(field.type)) else 0
        for field in schema
    }
    for footer in footers:
        metadata = footer.metadata
        tops = [field.name for field in footer.schema for _ in range(leaf_count(field.type))]
        for group in range(metadata.num_row_groups):
            for index, top in enumerate(tops):
                chunk = metadata.row_group(group).column(index)
                compressed[top] += chunk.total_compressed_size
                uncompressed[top] += chunk.total_uncompressed_size
                size, known = _dictionary_bytes(chunk), dictionary[top]
                dictionary[top] = None if known is None or size is None else max(known, size)
                missing, counted = _null_count(chunk), nulls[top]
                nulls[top] = None if counted is None or missing is None else counted + missing
    return tuple(
        SourceColumn(
            name=field.name,
            type=str(field.type),
            compressed_bytes=compressed[field.name],
            uncompressed_bytes=uncompressed[field.name],
            dictionary_bytes=dictionary[field.name],
            null_count=nulls[field.name],
        )
        for field in schema
    )


def leaf_count(kind: pa.DataType) -> int:
    """Return how many Parquet columns a type is stored in."""
    # Paths of columns do not help: a name may contain dots.
    kind = _stored(kind)
    return sum(leaf_count(kind.field(i).type) for i in range(kind.num_fields)) or 1


def _stored(kind: pa.DataType) -> pa.DataType:
    """Return the type that values of a type are stored as."""
    return _stored(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def _null_count(chunk: pq.ColumnChunkMetaData) -> int | None:
    statistics = chunk.statistics
    return statistics.null_count if statistics is not None and statistics.has_null_count else None


def _dictionary_bytes(chunk: pq.ColumnChunkMetaData) -> int | None:
    start = chunk.dictionary_page_offset
    return chunk.data_page_offset - start if start and chunk.data_page_offset > start else None
