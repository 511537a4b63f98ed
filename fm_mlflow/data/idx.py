"""IDX, the file format of MNIST and its relatives."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from fm_mlflow.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ByteArray = NDArray[np.uint8]

GZIP = b"\x1f\x8b"
"""How a gzip-compressed file starts."""


def read_idx_header(stream: IO[bytes]) -> tuple[int, ...] | None:
    """Read the header of an IDX file of unsigned bytes: each axis' length.

    Format: two zero bytes, 0x08 for uint8, the number of axes, each axis' length as a big-endian
    32-bit number; then the values, where the stream stands.

    Returns:
        The shape, or None where the stream does not start as such a file.

    Raises:
        EOFError: It ends within the header.
    """
    start = stream.read(4)
    if len(start) < 4 or start[:3] != b"\x00\x00\x08":
        return None
    lengths = stream.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise EOFError("it is truncated within its header")
    return struct.unpack(f">{start[3]}I", lengths)


def read_idx(
    path: Path, *, repair: str, expected_sha256: str | None = None, shown_as: str | None = None
) -> ByteArray:
    """Read an IDX file of unsigned bytes, gzip-compressed or not.

    Args:
        path: The file.
        repair: What to do about a damaged one, for the message.
        expected_sha256: Of the decompressed contents, where they are known.
        shown_as: What the message calls the file, if not its path.

    Returns:
        The values, with 1 to 3 axes.

    Raises:
        DataError: It cannot be read, or is truncated, corrupted or not what is expected.
    """
    shown = shown_as or str(path)
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == GZIP else raw
    except EOFError as error:
        raise DataError(f"{shown} is truncated at {path.stat().st_size} bytes; {repair}") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{shown} is corrupted ({error}); {repair}") from error
    except OSError as error:
        raise DataError(f"cannot read {shown}: {error.strerror}") from error

    stream = io.BytesIO(content)
    try:
        shape = read_idx_header(stream)
    except EOFError:
        raise DataError(f"{shown} is truncated within its header; {repair}") from None
    if shape is None or not 1 <= len(shape) <= 3:
        raise DataError(f"{shown} is not an IDX file of unsigned bytes; {repair}")
    header = stream.tell()
    promised = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != promised:
        what = "truncated" if len(content) < promised else "longer than its header says"
        raise DataError(f"{shown} is {what}: {len(content)} bytes, {promised} expected; {repair}")
    if expected_sha256 and (actual := hashlib.sha256(content).hexdigest()) != expected_sha256:
        raise DataError(
            f"{shown} is not Fashion-MNIST's file: the SHA-256 of its contents is {actual[:12]}…, "
            f"expected {expected_sha256[:12]}…; {repair}, or use --dataset idx for data of your own"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
