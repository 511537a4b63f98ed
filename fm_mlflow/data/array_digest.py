"""The digest of data in memory: arrays, and structures of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def array_digest(*parts: Any) -> str:
    """SHA-256 of names, types, shapes and contents of arrays, in hexadecimal.

    Args:
        parts: Arrays or what NumPy makes arrays of (data frames, tensors, lists of numbers), or
            tuples and mappings of them; text and objects count by what they look like printed.

    Raises:
        ValueError: A part is no array.
    """
    digest = hashlib.sha256()
    for name, array in _arrays("", parts):
        digest.update(f"{name} {array.dtype.str} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()


def _arrays(name: str, part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, Mapping):
        for key in sorted(part, key=str):
            yield from _arrays(f"{name}/{key}", part[key])
    elif isinstance(part, tuple):
        for index, each in enumerate(part):
            yield from _arrays(f"{name}/{index}", each)
    elif part is not None:
        array = np.asarray(part)
        if array.ndim == 0:
            raise ValueError(f"{type(part).__name__} holds no rows")
        yield (
            name,
            array.astype(bytes if array.dtype.kind == "S" else str)
            if (array.dtype.kind in "OUS")
            else array,
        )
