"""Read the headers of programs and libraries: system, machine, and the glibc that they need."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import IO

_MACHINES = {3: "i386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_RELOCATABLE = 1
_VERSIONS_NEEDED = 0x6FFFFFFE
_MACH_O = {b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe"}
_MACH_O_FAT = {b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"}
# Java classes begin like fat Mach-O files; their next number is a version from 45 on, that of Mach-O a small count.
_MOST_MACHINES = 44


@dataclass(frozen=True)
class Binary:
    """A program or library; `glibc` is the newest minor version 2.x that a Linux binary needs, 0 for none."""

    system: str
    machine: str = ""
    glibc: int = 0


def read_binary(file: IO[bytes]) -> Binary | None:
    """Return the binary in a seekable file; None if it is no program or library.

    Raises:
        ValueError: the file begins like a Linux binary and is truncated or corrupt.
    """
    head = file.read(64)
    if head[:4] == b"\x7fELF":
        try:
            return _read_elf(file, head)
        except struct.error as error:
            raise ValueError(f"is a truncated or corrupt Linux binary ({error})") from error
    if head[:4] in _MACH_O:
        return Binary("macOS")
    if head[:4] in _MACH_O_FAT and int.from_bytes(head[4:8], "big") <= _MOST_MACHINES:
        return Binary("macOS")
    if head[:2] == b"MZ" and len(head) == 64:
        file.seek(int.from_bytes(head[60:64], "little"))
        return Binary("Windows") if file.read(4) == b"PE\0\0" else None
    return None


def _read_elf(file: IO[bytes], head: bytes) -> Binary | None:
    little = head[5] == 1
    kind, number = struct.unpack_from("<HH" if little else ">HH", head, 16)
    if kind == _RELOCATABLE:
        return None
    machine = _MACHINES.get(number, f"machine {number}")
    if head[4] != 2 or not little:
        return Binary(
            "Linux", f"{machine}, {'32' if head[4] == 1 else '64'}-bit, {'little' if little else 'big'}-endian"
        )
    return Binary("Linux", machine, _glibc(file, head))


def _glibc(file: IO[bytes], head: bytes) -> int:
    (start,) = struct.unpack_from("<Q", head, 40)
    size, count = struct.unpack_from("<HH", head, 58)
    table = _read(file, start, size * count) if start else b""
    for position in range(0, len(table), size):
        _, kind, _, _, offset, length, link, entries, _, _ = struct.unpack_from("<IIQQQQIIQQ", table, position)
        if kind == _VERSIONS_NEEDED:
            _, _, _, _, names_offset, names_length, _, _, _, _ = struct.unpack_from("<IIQQQQIIQQ", table, link * size)
            names = _read(file, names_offset, names_length)
            return max((_minor(name) for name in _versions(_read(file, offset, length), entries, names)), default=0)
    return 0


def _versions(needed: bytes, entries: int, names: bytes) -> list[bytes]:
    """Return the names of all symbol versions in a section `.gnu.version_r`."""
    found = []
    position = 0
    for _ in range(entries):
        _, count, _, first, following = struct.unpack_from("<HHIII", needed, position)
        auxiliary = position + first
        for _ in range(count):
            _, _, _, name, after = struct.unpack_from("<IHHII", needed, auxiliary)
            found.append(names[name : names.index(b"\0", name)] if b"\0" in names[name:] else b"")
            auxiliary += after
        position += following
    return found


def _minor(version: bytes) -> int:
    match = re.match(rb"GLIBC_2\.(\d+)", version)
    # With this marker, libraries need the dynamic linker of glibc 2.36.
    return int(match[1]) if match else 36 * (version == b"GLIBC_ABI_DT_RELR")


def _read(file: IO[bytes], offset: int, length: int) -> bytes:
    file.seek(offset)
    content = file.read(length)
    if len(content) != length:
        raise struct.error(f"{length} bytes at {offset} are beyond its end")
    return content
