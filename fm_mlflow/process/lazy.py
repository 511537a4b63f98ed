"""Names and modules that are imported on first use, so that importing a package costs little."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:  # they would take as long to import as all else that the package imports with itself
    Loader = MetaPathFinder = object

SELDOM_USED = ("mlflow.gateway", "numpy.f2py", "numpy.testing", "mako.exceptions", "pydoc")
"""What MLflow, SciPy and Alembic import with themselves, and use in no command: 0.15 s.

A web framework; a compiler of Fortran and helpers of tests, because SciPy takes all that NumPy has;
colours for errors in templates of migrations; and docstrings as text.
"""


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package whose names live in its modules.

    Args:
        package: Its `__name__`.
        homes: The module, within the package, of each public name.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names, sorted(homes)


@contextmanager
def lazy_modules(*names: str) -> Iterator[None]:
    """Let modules that are imported inside execute when something is first taken from them.

    Not by Python's own `LazyLoader`: it executes a module that is only looked at, as TensorFlow
    looks at all that there are (`hasattr(module, "__file__")`).

    Args:
        names: Of packages or modules, in full.
    """
    finder = _LazyFinder(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _LazyFinder(MetaPathFinder):
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find, to be executed later."""
        if fullname not in self._names:
            return None
        others = (each for each in sys.meta_path if each is not self)
        specs = (each.find_spec(fullname, path, target) for each in others)
        spec = next(filter(None, specs), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _LazyLoader(spec.loader)
        return spec


class _LazyLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._lock = threading.RLock()

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Make the module as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is until it is asked for something that it does not have."""
        is_executing = False

        def get(name: str) -> Any:
            nonlocal is_executing
            if name.startswith("__") and name != "__all__":
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            with self._lock:  # other threads wait until it is whole
                if is_executing:
                    raise AttributeError(f"module {module.__name__!r} has no {name!r} yet")
                if vars(module).get("__getattr__") is get:
                    is_executing = True
                    try:
                        self._loader.exec_module(module)
                    finally:
                        is_executing = False
                    if vars(module).get("__getattr__") is get:  # it has none of its own
                        del module.__getattr__
            return getattr(module, name)

        module.__getattr__ = get  # type: ignore[method-assign]
