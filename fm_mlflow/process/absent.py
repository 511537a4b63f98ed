"""Packages that are not installed, and that a library tries to import again and again."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

OF_DATABRICKS = ("dbruntime", "pyspark")
"""MLflow asks for these 8 times with each request to a server, which takes a millisecond."""


class _Absent:
    """A finder of modules that knows which packages there are not."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self._names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


@contextmanager
def known_absent(names: Sequence[str] = OF_DATABRICKS) -> Iterator[None]:
    """Have imports of packages that are not installed fail without another search for them.

    Args:
        names: Of packages; those that are installed are imported as ever.
    """
    finder = _Absent(frozenset(name for name in names if find_spec(name) is None))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
