"""A user's own code: finds the function that builds a model, and what loading it needs."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import re
import symtable
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from fm_mlflow.errors import ModelError
from fm_mlflow.process.redaction import one_line
from fm_mlflow.settings.model_reference import MODEL_REFERENCE

_ALWAYS_REQUIRED = {"mlflow", "tensorflow", "keras", "numpy", "fm_mlflow"}

_LARGEST_MODULE = 1 << 20  # bytes; what is larger is data that ends in .py
_DEFINES_NAMES = re.compile(
    r"import\s*\*|__getattr__|__dict__|globals|vars|locals|setattr|exec|eval"
)
"""What may give a module names that its own statements do not show."""

_contents: dict[Path, str] = {}
"""Digest of each user's file as it was imported, to notice an edit."""


@dataclass(frozen=True)
class UserSource:
    """What is logged with a model so that it loads elsewhere.

    Attributes:
        folder: The folder that the user's modules are imported from.
        files: Their source files, relative to it; nothing but Python source.
        requirements: Distributions that they import, `name==version`.
    """

    folder: Path = Path()
    files: tuple[Path, ...] = ()
    requirements: tuple[str, ...] = ()


class UnfitError(Exception):
    """What a model would have to be, and what it is instead: `ModelError` without the reference."""


@contextmanager
def accepting(accepted: str) -> Iterator[None]:
    """Turn what a user's code raises, interrupts apart, into an `UnfitError`."""
    try:
        yield
    except UnfitError:
        raise
    except (Exception, SystemExit) as error:
        raise UnfitError(f"{accepted}; it raised {one_line(error)}") from error


@contextmanager
def refused_as(reference: str) -> Iterator[None]:
    """Turn an `UnfitError` into a `ModelError`, which names the model."""
    try:
        yield
    except UnfitError as error:
        raise ModelError(reference, str(error)) from error.__cause__


def find_function(reference: str) -> Callable[[], Any]:
    """Import what `package.module:function` or `path/to/file.py:function` names.

    Raises:
        UnfitError: There is no such module or function, or importing it fails.
    """
    match = MODEL_REFERENCE.fullmatch(reference)
    if match is None:
        raise UnfitError("package.module:function or path/to/file.py:function")
    function: Any = _import(match["module"])
    for name in match["function"].split("."):
        function = getattr(function, name, None)
    if not callable(function):
        raise UnfitError(f"a function that {match['module']} has; it has no {name!r}")
    return cast("Callable[[], Any]", function)


def check_reference(reference: str) -> None:
    """Check a reference without importing it: its file and function, or its package, exist.

    Raises:
        ModelError: One is missing, or the file is no Python.
    """
    module, _, function = reference.rpartition(":")
    if module.endswith(".py"):
        with refused_as(reference):
            names = _names_in(_existing_file(module))
        if names is not None and (name := function.partition(".")[0]) not in names:
            accepted = f"a function that {module} has; it has no {name!r}"
            raise ModelError(reference, accepted, [f"{module}:{each}" for each in sorted(names)])
        return
    package = module.partition(".")[0]
    # Unlike Path's, these take what can be no path: too long.
    if os.path.isdir(package) or os.path.isfile(f"{package}.py"):
        return
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise ModelError(reference, f"an importable module (there is none named {package!r})")


def _names_in(path: Path) -> set[str] | None:
    """Return the names that a file defines; None where only running it can tell."""
    try:
        source = path.read_text(encoding="utf-8")
        table = symtable.symtable(source, str(path), "exec")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UnfitError(f"a file of Python ({one_line(error)})") from error
    except OSError as error:
        raise UnfitError(f"a file that can be read ({error.strerror})") from error
    if _DEFINES_NAMES.search(source):
        return None
    return {
        each.get_name()
        for each in table.get_symbols()
        if each.is_assigned() or each.is_imported() or each.is_namespace()
    }


def _existing_file(name: str) -> Path:
    path = Path(name).absolute()
    # Unlike `Path.is_file`, it takes what is no possible path: too long, or with a null byte.
    if not os.path.isfile(path):
        raise UnfitError(f"the path of an existing file; there is no {path}")
    return path


def _import(name: str) -> ModuleType:
    """Import `package.module` or `path/to/file.py`, the working directory included."""
    path = _existing_file(name) if name.endswith(".py") else None
    # As `python -m` and `python file.py` would do; appended, so that nothing is shadowed.
    folder = str(path.parent if path else Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    with accepting("a module that imports"):
        try:
            return _import_file(path) if path else importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise UnfitError(f"an importable module ({error})") from error


def _import_file(path: Path) -> ModuleType:
    """Import a file under its own name, so that a saved model finds its classes again."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = sys.modules.get(path.stem)
    if known is not None:
        if getattr(known, "__file__", None) != str(path):
            raise UnfitError(f"a file whose name is free; a module {path.stem!r} is loaded already")
        if _contents.get(path) == digest:
            return known
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UnfitError("a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    _contents[path] = digest
    return module


def source_of(function: Callable[[], Any]) -> UserSource:
    """Return the user's own code that a function's model needs; nothing for installed packages.

    That is what has been imported from the folder of the function's module, because a class of the
    model may be defined in any of its neighbours, and of packages the modules that are imported
    only later. What else lies in a package, data and settings above all, stays where it is.
    """
    return _source_of_module(sys.modules[function.__module__])


def source_of_model(model: Any) -> UserSource:
    """Return the user's own code that a model's classes come from; nothing for installed packages.

    Args:
        model: A Keras model, whose layers may be nested.
    """
    modules, layers = set(), [model]
    while layers:
        layer = layers.pop()
        modules.add(type(layer).__module__)
        layers += getattr(layer, "layers", ())
    found = (_source_of_module(sys.modules[name]) for name in sorted(modules))
    return next((source for source in found if source.files), UserSource())


def _source_of_module(module: ModuleType) -> UserSource:
    file = getattr(module, "__file__", None)
    if file is None or module.__name__ == "__main__":  # MLflow pickles what is defined there
        return UserSource()
    own = Path(os.path.abspath(file))
    if _is_installed(own):  # Keras' own: to look at all that is installed beside it takes 0.2 s
        return UserSource()
    folder = own.parents[module.__name__.count(".") + (own.name == "__init__.py")]
    packages, files = set(), set()
    for name, loaded in list(sys.modules.items()):
        place = os.path.abspath(getattr(loaded, "__file__", None) or "/")
        top = name.partition(".")[0]
        # Compared as text: there are thousands of modules.
        if top == "fm_mlflow" or not place.startswith(os.path.join(folder, "")):
            continue
        path = Path(place)
        if _is_installed(path):
            continue
        # Only what is named so in this folder: a whole Python may lie further down.
        if path.relative_to(folder).parts[0] in (top, f"{top}.py"):
            if path.suffix == ".py":
                files.add(path)
            if path.parent != folder:
                packages.add(folder / path.relative_to(folder).parts[0])
    requirements = tuple(sorted(_requirements(files)))
    files |= {file for package in packages for file in _modules_of(package)}
    return UserSource(
        folder, tuple(sorted(file.relative_to(folder) for file in files)), requirements
    )


def _is_installed(file: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(file.parts))


def _modules_of(package: Path) -> Iterator[Path]:
    """Yield the source files of a package: no link out of it, nothing hidden, nothing huge."""
    inside = package.resolve()
    for place, folders, names in os.walk(package):
        # Neither `.git` nor an environment that somebody made within the package.
        folders[:] = [
            each
            for each in folders
            if each.isidentifier() and not (Path(place, each) / "pyvenv.cfg").exists()
        ]
        for file in (Path(place, name) for name in names if name.endswith(".py")):
            if (
                not file.name.startswith(".")
                and file.resolve().is_relative_to(inside)
                and file.is_file()
                and file.stat().st_size <= _LARGEST_MODULE
            ):
                yield file


def _requirements(files: Iterable[Path]) -> set[str]:
    """Return the distributions that the files import, beyond what every model needs."""
    imported = {name for file in files for name in _imports_of(file, file.stat().st_mtime_ns)}
    imported -= _ALWAYS_REQUIRED | sys.stdlib_module_names
    if not imported:
        return set()
    distributions = _distributions(_installed())
    names = {distributions[module][0] for module in imported if module in distributions}
    return {f"{name}=={metadata.version(name)}" for name in names}


@lru_cache(maxsize=1000)
def _imports_of(file: Path, _modified: int) -> frozenset[str]:
    """Return the top-level modules that a file imports, as it was when it was last modified."""
    imported = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.partition(".")[0])
    return frozenset(imported)


def _installed() -> frozenset[str]:
    """Return the folders that describe the distributions; they bear names and versions."""
    suffixes, found = (".dist-info", ".egg-info"), set()
    for place in sys.path:
        with suppress(OSError):  # not a folder
            found |= {name for name in os.listdir(place or ".") if name.endswith(suffixes)}
    return frozenset(found)


@lru_cache(maxsize=1)
def _distributions(_of: frozenset[str]) -> Mapping[str, list[str]]:
    """Return the distributions of each module: to list all their files takes half a second."""
    return metadata.packages_distributions()
