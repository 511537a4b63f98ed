"""IDX, the file format of MNIST and its relatives."""

from __future__ import annotations

import hashlib
import math
import struct
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fm_mlflow.data.bounded_file import Unpacked, open_unpacked
from fm_mlflow.errors import DataError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ByteArray = NDArray[np.uint8]

_LARGEST_SHAPE = 2**40
_READ_AT_ONCE = 1 << 20


def read_idx_header(stream: BufferedIOBase) -> tuple[int, ...] | None:
    """Read the header of an IDX file of unsigned bytes: each axis' length.

    Format: two zero bytes, 0x08 for uint8, the number of axes, each axis' length as a big-endian
    32-bit number; then the values, where the stream stands.

    Returns:
        The shape, or None where the stream does not start as such a file.

    Raises:
        ValueError: It ends within the header.
    """
    start = stream.read(4)
    if len(start) < 4 or start[:3] != b"\x00\x00\x08":
        return None
    lengths = stream.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise ValueError("truncated within its header")
    return struct.unpack(f">{start[3]}I", lengths)


def read_idx(
    path: Path,
    *,
    repair: str,
    largest: int,
    expected_sha256: str | None = None,
    shown_as: str | None = None,
) -> ByteArray:
    """Read an IDX file of unsigned bytes, gzip-compressed or not.

    No more is read, and no memory taken, than the header declares; and that must fit the file.

    Args:
        path: The file.
        repair: What to do about a damaged one, for the message.
        largest: Bytes, unpacked, beyond which it is refused. The size of the file is no such limit:
            a sparse one of a terabyte takes no disk.
        expected_sha256: Of the decompressed contents, where they are known.
        shown_as: What the message calls the file, if not its path.

    Returns:
        The values, with 1 to 3 axes.

    Raises:
        DataError: It cannot be read, or is truncated, corrupted or not what is expected.
        InputError: It declares more than `largest`, or than a compressed file of its size may hold.
    """
    shown = shown_as or str(path)
    try:
        with open_unpacked(path) as file:
            array, problem = _read(file, shown, largest)
    except ValueError as error:
        raise DataError(f"{shown} is {error}; {repair}") from error
    except OSError as error:
        raise DataError(f"cannot read {shown}: {error.strerror}") from error
    if problem:
        raise DataError(f"{shown} is {problem}; {repair}")
    if expected_sha256 and (actual := _sha256(array)) != expected_sha256:
        raise DataError(
            f"{shown} is not Fashion-MNIST's file: the SHA-256 of its contents is {actual[:12]}…, "
            f"expected {expected_sha256[:12]}…; {repair}, or use --dataset idx for data of your own"
        )
    return array


def _read(file: Unpacked, shown: str, largest: int) -> tuple[ByteArray, str]:
    """Return the values, or what is wrong with the file."""
    nothing = np.empty(0, np.uint8)
    shape = read_idx_header(file.stream)
    if shape is None or not 1 <= len(shape) <= 3:
        return nothing, "not an IDX file of unsigned bytes"
    if math.prod(max(axis, 1) for axis in shape) > _LARGEST_SHAPE:  # NumPy refuses an empty one too
        return nothing, "an IDX file with axes that no array has"
    header = 4 + 4 * len(shape)
    expected = header + math.prod(shape)
    if file.length is not None and file.length < expected:
        return nothing, f"truncated: {file.length} bytes, {expected} expected"
    if expected > (most := min(largest, file.most)):
        accepted = "a data set that fits into memory, packed 100 times at most"
        says = f"{shown} says {expected:,} bytes, at most {most:,} are read"
        raise InputError("data_dir", shown, f"{accepted}; {says}")
    try:
        array = np.empty(math.prod(shape), np.uint8)
    except MemoryError:
        return nothing, f"too large: there is no memory for {expected:,} bytes"
    view, done = array.data, 0
    while count := file.stream.readinto(view[done : done + _READ_AT_ONCE]):
        done += count
    if done < len(array):
        return nothing, f"truncated: {header + done} bytes, {expected} expected"
    if file.stream.read(1):  # at the end of a compressed file this also compares its checksum
        found = "more" if file.length is None else file.length
        return nothing, f"longer than its header says: {found} bytes, {expected} expected"
    array.flags.writeable = False
    return array.reshape(shape), ""


def _sha256(array: ByteArray) -> str:
    """Return the SHA-256, in hex, of the file that an array came from, unpacked."""
    digest = hashlib.sha256(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape))
    digest.update(array.data)
    return digest.hexdigest()
