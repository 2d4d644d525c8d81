"""Tell by the first bytes of a file what it is, so that messages name the cause."""

from __future__ import annotations

PARQUET = b"PAR1"
# Bytes that tell all formats below apart.
START_BYTES = 24
# Text in other encodings and binary files remain unknown.
_PLAIN_TEXT = frozenset((*range(0x20, 0x7F), 0x09, 0x0A, 0x0D))

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "LZ4",
    b"\xff\x06\x00\x00sNaPpY": "Snappy",
    b"PK\x03\x04": "zip",
}
_FORMATS = {
    PARQUET: "Parquet",
    b"PARE": "encrypted Parquet",
    b"ORC": "ORC",
    b"Obj\x01": "Avro",
    b"ARROW1": "Arrow IPC",
    b"FEA1": "Feather",
    b"SEQ\x06": "a Hadoop sequence file",
    b"SQLite format 3": "SQLite",
    b"\x89HDF": "HDF5",
    b"version https://git-lfs": "a pointer of Git LFS",
    b"{": "JSON",
    b"[": "JSON",
    b"<": "XML or HTML",
}


def format_of(start: bytes) -> str:
    """Return the format of a file that begins with these bytes; empty if it is unknown or plain text."""
    known = {**_FORMATS, **_COMPRESSED}
    return next((known[magic] for magic in known if start.startswith(magic)), "")


def is_compressed(start: bytes) -> bool:
    """Return whether a file that begins with these bytes is compressed as a whole."""
    return start.startswith(tuple(_COMPRESSED))


def no_parquet(start: bytes, size: int) -> str:
    """Return why a file is no Parquet file that does not end as one.

    Args:
        start: its first bytes.
        size: its number of bytes.
    """
    if not size:
        return "it is empty (0 bytes); the program that wrote it did not finish"
    if start.startswith(PARQUET):
        return (
            "it begins as a Parquet file, but does not end as one: it was written or copied incompletely, or as text"
        )
    if is_compressed(start):
        return f"it is compressed with {format_of(start)} as a whole; decompress it"
    if not start.strip(b"\0"):
        return "it begins with zeros: its content was lost, as by a full disk or a crash"
    kind = format_of(start) or ("plain text" if _PLAIN_TEXT.issuperset(start) else "")
    return (
        f"it is no Parquet file, but {kind}" if kind else "it is no Parquet file: it neither begins nor ends as one"
    )
