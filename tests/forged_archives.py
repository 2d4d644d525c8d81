"""Forge binaries and archives of other platforms."""

from __future__ import annotations

import struct
import tarfile
from io import BytesIO
from pathlib import Path

X86_64, AARCH64, I386 = 62, 183, 3
MACH_O = b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01" + b"\0" * 56
MACH_O_FAT = b"\xca\xfe\xba\xbe" + (2).to_bytes(4, "big") + b"\0" * 56
JAVA_CLASS = b"\xca\xfe\xba\xbe" + (61).to_bytes(4, "big") + b"\0" * 56
WINDOWS = b"MZ" + b"\0" * 58 + (64).to_bytes(4, "little") + b"PE\0\0" + b"\0" * 20
SITE = "lib/python3.11/site-packages"


def elf(machine: int = X86_64, needs: str = "GLIBC_2.17", kind: int = 3, bits: int = 2) -> bytes:
    """Return a Linux library that needs one symbol version of the C library."""
    names = b"\0libc.so.6\0" + needs.encode() + b"\0"
    needed = struct.pack("<HHIII", 1, 1, 1, 16, 0) + struct.pack("<IHHII", 0, 0, 2, 11, 0)
    offset = 64
    headers = offset + len(names) + len(needed)
    sections = [
        struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, offset, len(names), 0, 0, 1, 0),
        struct.pack("<IIQQQQIIQQ", 0, 0x6FFFFFFE, 0, 0, offset + len(names), len(needed), 1, 1, 4, 0),
    ]
    ident = b"\x7fELF" + bytes([bits, 1, 1]) + b"\0" * 9
    head = ident + struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 0, headers, 0, 64, 0, 0, 64, len(sections), 1)
    return head + names + needed + b"".join(sections)


def file(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """Return a regular file for `forged`."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name: str, kind: bytes, linkname: str = "") -> tuple[tarfile.TarInfo, bytes]:
    """Return a link or a device for `forged`."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, linkname
    return member, b""


def forged(given: Path, to: Path, *added: tuple[tarfile.TarInfo, bytes]) -> Path:
    """Write a copy of an archive with more members; a member that exists is replaced."""
    names = {member.name for member, _ in added}
    with tarfile.open(given) as opened, tarfile.open(to, "w:gz", compresslevel=1) as written:
        for member in opened:
            if member.name.removeprefix("./") not in names:
                written.addfile(member, opened.extractfile(member) if member.isfile() else None)
        for member, content in added:
            written.addfile(member, BytesIO(content))
    return to
