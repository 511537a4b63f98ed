"""A package that is not installed, and that a library tries to import again and again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

OF_DATABRICKS = "dbruntime"
"""MLflow tries to import it about 6 times with each request to a server: a millisecond of CPU."""


@contextmanager
def known_absent(name: str = OF_DATABRICKS) -> Iterator[None]:
    """Have imports of a package fail without another search, if it is not installed.

    Args:
        name: Of the package. Nothing may ask `sys.modules` whether it is imported: it has the name.
    """
    if name in sys.modules or find_spec(name) is not None:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(name, None)
