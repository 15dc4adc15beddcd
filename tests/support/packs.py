"""Packs as git keeps them, made by hand: also such as git itself would never make.

    packed = Pack()
    blob = packed.blob(b"{}")
    packed.write(repository.path)

Nothing is unpacked on the way, so that what unpacks to gigabytes costs nothing here.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_TYPES: Final = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_REF_DELTA: Final = 7
_WHO: Final = "Eve Example <eve@example.com> 1767225600 +0000"
_CHUNK: Final = 1 << 20


class Pack:
    """Objects on their way into a repository; one of the same name is there once."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}

    def add(self, kind: str, content: bytes) -> str:
        """Add an object; return its id."""
        oid = _sha1(b"%s %d\0%s" % (kind.encode(), len(content), content)).hex()
        self._entries[oid] = _head(_TYPES[kind], len(content)) + zlib.compress(content)
        return oid

    def blob(self, content: bytes) -> str:
        """Add a file."""
        return self.add("blob", content)

    def tree(self, entries: Sequence[tuple[str, bytes, str]]) -> str:
        """Add a folder of (mode, name, id), as they come."""
        return self.add(
            "tree",
            b"".join(
                b"%s %s\0%s" % (mode.encode(), name, bytes.fromhex(oid))
                for mode, name, oid in entries
            ),
        )

    def commit(self, tree: str, parent: str, subject: str = "hostile") -> str:
        """Add a commit."""
        lines = [f"tree {tree}", f"parent {parent}", f"author {_WHO}", f"committer {_WHO}"]
        return self.add("commit", ("\n".join(lines) + f"\n\n{subject}\n").encode())

    def zeros(self, size: int, oid: str) -> str:
        """Add a file of nothing but zeros under the name `oid`; a thousandth of its size."""
        self._entries[oid] = _head(_TYPES["blob"], size) + deflated_zeros(size)
        return oid

    def delta(self, base: str, base_size: int, times: int, oid: str) -> str:
        """Add, under the name `oid`, what repeats another object."""
        copy = b"".join(
            b"\xff" + struct.pack("<I", at) + struct.pack("<I", size)[:3]
            for at, size in _pieces(base_size)
        )
        orders = _varint(base_size) + _varint(base_size * times) + copy * times
        head = _head(_REF_DELTA, len(orders)) + bytes.fromhex(base)
        self._entries[oid] = head + zlib.compress(orders)
        return oid

    def write(self, repository: Path) -> None:
        """Put the pack and its index into a bare repository."""
        body = b"PACK" + struct.pack(">II", 2, len(self._entries))
        places: dict[str, tuple[int, int]] = {}
        parts = [body]
        at = len(body)
        for oid, entry in self._entries.items():
            places[oid] = (at, zlib.crc32(entry))
            parts.append(entry)
            at += len(entry)
        body = b"".join(parts)
        body += _sha1(body)
        folder = repository / "objects" / "pack"
        name = folder / f"pack-{body[-20:].hex()}"
        name.with_suffix(".pack").write_bytes(body)
        name.with_suffix(".idx").write_bytes(_index(places, body[-20:]))


def deflated_zeros(size: int) -> bytes:
    """Return what unpacks to so many zeros, without packing them."""
    start, again = _chunks()
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    rest = packer.compress(b"\0" * (size % _CHUNK)) + packer.flush(zlib.Z_FINISH)
    # SPEC(RFC 1950): the sum over n zeros is n times the initial 1, above a 1.
    total = struct.pack(">I", (size % 65521) << 16 | 1)
    return start + again * (size // _CHUNK - 1) + rest + total


@functools.cache
def _chunks() -> tuple[bytes, bytes]:
    """Return a chunk of zeros with what starts a stream, and one that may be repeated."""
    packer = zlib.compressobj(9)
    start = packer.compress(b"\0" * _CHUNK) + packer.flush(zlib.Z_FULL_FLUSH)
    return start, packer.compress(b"\0" * _CHUNK) + packer.flush(zlib.Z_FULL_FLUSH)


def _sha1(content: bytes) -> bytes:
    return hashlib.sha1(content, usedforsecurity=False).digest()


def _pieces(size: int) -> list[tuple[int, int]]:
    """Cut into what one copy order may say: less than 16 MiB."""
    step = (1 << 24) - 1
    return [(at, min(step, size - at)) for at in range(0, size, step)]


def _head(kind: int, size: int) -> bytes:
    """SPEC(gitformat-pack): four bits of the size beside the type, seven in each byte after."""
    first, rest = kind << 4 | size & 15, size >> 4
    return bytes([first | 128]) + _varint(rest) if rest else bytes([first])


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _index(places: dict[str, tuple[int, int]], checksum: bytes) -> bytes:
    """SPEC(gitformat-pack): version 2: fan-out, ids, checksums, offsets, two checksums."""
    oids = sorted(places)
    fan = [bisect.bisect_left(oids, f"{first:02x}g") for first in range(256)]
    parts = [
        b"\xfftOc" + struct.pack(">I", 2),
        struct.pack(">256I", *fan),
        *(bytes.fromhex(oid) for oid in oids),
        *(struct.pack(">I", places[oid][1]) for oid in oids),
        *(struct.pack(">I", places[oid][0]) for oid in oids),
        checksum,
    ]
    body = b"".join(parts)
    return body + _sha1(body)
