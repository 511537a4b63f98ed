"""The digest of data in memory: arrays, and structures of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def array_digest(*parts: Any) -> str:
    """SHA-256 of names, types, shapes and contents of arrays, in hexadecimal.

    Args:
        parts: Arrays or what NumPy makes arrays of (data frames, tensors, lists of numbers), or
            tuples, mappings and lists of arrays; text and objects count by what they look like
            printed.

    Raises:
        ValueError: A part is no array.
    """
    digest = hashlib.sha256()
    for name, array in _named("", parts):
        is_text = array.dtype.kind in "OUT"
        kind = "text" if is_text else array.dtype.str
        digest.update(f"{name} {kind} {array.shape}\0".encode())
        if is_text:  # one by one: an array of texts has the longest one's size for each
            for each in array.flat:
                digest.update(f"{_printed(each)}\0".encode("utf-8", "surrogatepass"))
        elif array.size:
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def text_digest(*texts: str) -> str:
    """SHA-256 of texts, in hexadecimal."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def arrays(part: Any) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Return data as an array; a structure of several by name or number, as MLflow takes them."""
    named = {name.lstrip("/"): array for name, array in _named("", part)}
    return named[""] if set(named) == {""} else named


def _named(name: str, part: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    if isinstance(part, Mapping):
        for key in sorted(part, key=str):
            yield from _named(f"{name}/{key}", part[key])
    elif isinstance(part, tuple) or _holds_arrays(part):
        for index, each in enumerate(part):
            yield from _named(f"{name}/{index}", each)
    elif part is not None:
        array = np.asarray(part)
        if array.ndim == 0:
            raise ValueError(f"{type(part).__name__}: no array with rows")
        yield name, array


def _holds_arrays(part: Any) -> bool:
    """Whether it is a list of several inputs or outputs, as `model.fit` takes them."""
    return isinstance(part, list) and bool(part) and len(getattr(part[0], "shape", ())) > 0


def _printed(each: Any) -> str:
    return str(each.tolist() if isinstance(each, np.ndarray) else each)
