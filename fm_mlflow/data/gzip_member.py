"""The one member of a gzip file, unpacked within limits.

Python's `gzip` joins all members of a file, and steps byte by byte through long names in headers,
through empty members and the zeros after them: 500 MB of these take it minutes. zlib reads a header
itself, compares checksum and length at the end, and says where that is.
"""

from __future__ import annotations

import zlib
from io import BufferedReader, RawIOBase
from typing import Any

GZIP_MAGIC = b"\x1f\x8b"

AT_ONCE = 128 * 1024
"""Bytes to read of a file, and to unpack: zlib copies what it has left of the former each time."""

_MOST_FOR_NOTHING = 1024**2
"""Bytes that may unpack to none: a header's name and comment, and empty blocks."""

_ALWAYS_UNPACKED = 64 * 1024**2
_LARGEST_RATIO = 100
"""How many times its size a file may unpack to. Images reach 2 to 20; what deflate packs 1,000
times is one value again and again."""


def most_unpacked(packed: int) -> int:
    """Return how many bytes so many packed ones may unpack to."""
    return max(_ALWAYS_UNPACKED, packed * _LARGEST_RATIO)


class GzipMember(RawIOBase):
    """What a gzip file unpacks to; a `BufferedReader` around it gives the usual methods.

    Reading raises ValueError, with words that follow "it is", where the file is truncated or
    corrupted, where anything follows its first member, and where it unpacks to more than
    `most_unpacked` of what has been read of it. (Not of its size, which zeros after its end make
    as large as one likes.)

    Args:
        file: Open, at its beginning. It stays open.
    """

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # gzip, and nothing else
        self._unpacked = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Put 1 byte or more into a buffer; none at the end."""
        target = memoryview(buffer)
        content = self._next(len(target)) if target else b""
        target[: len(content)] = content
        return len(content)

    def _next(self, most: int) -> bytes:
        """Unpack 1 to `most` bytes; none at the end."""
        for_nothing = 0
        while not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or self._file.read(AT_ONCE)
            if not packed:
                raise ValueError(f"truncated at {self._file.tell()} bytes")
            try:
                content = self._unpacker.decompress(packed, most)
            except zlib.error as error:
                raise ValueError(f"corrupted ({error})") from error
            self._unpacked += len(content)
            if self._unpacked > (largest := most_unpacked(self._file.tell())):
                raise ValueError(f"too well packed: at most {largest:,} bytes of it are unpacked")
            if content:
                return content
            for_nothing += len(packed)
            if for_nothing > _MOST_FOR_NOTHING:
                raise ValueError(f"corrupted ({for_nothing:,} bytes of it unpack to nothing)")
        if self._unpacker.unused_data or self._file.read(1):
            raise ValueError("longer than its compressed data; gzip it again as one piece")
        return b""
