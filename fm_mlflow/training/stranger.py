"""The process that loads a user's own model as a stranger would, and predicts with it.

`training.read_back` runs `fm_mlflow.training.stranger MODEL` by `process.confined`: the folder of a
saved MLflow model, which appears when it is complete. Until then the process imports what it needs.
Nothing of the training process is here: neither its modules nor what was registered or switched in
its Keras. The answer is JSON: `outputs` for the model's input example, `again` the same once more,
or `error`.
"""

from __future__ import annotations

import importlib
import importlib.abc
import inspect
import json
import re
import sys
import time
from collections.abc import Iterable
from functools import cached_property
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import psutil

from fm_mlflow.process.garbage import rare_garbage_collection
from fm_mlflow.process.quiet import import_tensorflow
from fm_mlflow.process.redaction import one_line
from fm_mlflow.registration.fresh_process import answer_with, forget_where_we_came_from

_NAME = re.compile(r"[\w.-]+")
_LOOK_SECONDS = 0.02


def main() -> None:
    """Read back the model that the command line names, once it is there."""
    forget_where_we_came_from()
    answer_with(lambda: json.dumps(_answer(Path(sys.argv[1]))).encode())


def _answer(folder: Path) -> dict[str, Any]:
    with rare_garbage_collection():
        prepare()
        _wait_for(folder)
        return read_back(folder)


def _wait_for(folder: Path) -> None:
    parent = psutil.Process().parent()
    while not folder.exists():
        if parent is None or not parent.is_running():
            raise RuntimeError("whoever trains the model is gone")
        time.sleep(_LOOK_SECONDS)


def prepare() -> None:
    """Import what loading needs."""
    import_tensorflow()
    importlib.import_module("fm_mlflow.tracking.load_model")


def read_back(folder: Path) -> dict[str, Any]:
    """Load a saved MLflow model and predict its input example.

    Returns:
        Lists `outputs` and `again`, of shape (n, classes); or `error`, in one line.
    """
    from fm_mlflow.tracking.load_model import load_model

    sys.meta_path.insert(0, _OnlyWhatIsLogged(folder))
    try:
        loaded = load_model(str(folder), warn=False)
        example = loaded.input_example()
        if example is None:
            return {"error": "it has no input example"}
        outputs, again = (loaded.predict(example).astype(float).tolist() for _ in range(2))
    except Exception as error:  # of Keras, or of the model's own code
        return {"error": one_line(error.__cause__ or error)}
    finally:
        del sys.meta_path[0]
    return {"outputs": outputs, "again": again}


class _OnlyWhatIsLogged(importlib.abc.MetaPathFinder):
    """Hides from the model's own code all modules that are not logged with it or required."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._code = folder / "code"

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        top = name.partition(".")[0]
        # The standard library first: looking up what was brought imports parts of it.
        if (
            top not in sys.stdlib_module_names
            and self._is_asked_by_the_model()
            and top not in self._brought
        ):
            message = f"No module named {name!r}: neither logged with the model nor required by it"
            raise ModuleNotFoundError(message, name=name)
        return None

    def _is_asked_by_the_model(self) -> bool:
        frame = inspect.currentframe()
        while frame is not None and (
            frame.f_code.co_filename == __file__ or "importlib" in frame.f_code.co_filename
        ):
            frame = frame.f_back
        return frame is not None and frame.f_code.co_filename.startswith(str(self._code))

    @cached_property
    def _brought(self) -> frozenset[str]:
        """What whoever installs the model's requirements has; seldom asked for, and slow."""
        text = (self._folder / "requirements.txt").read_text(encoding="utf-8")
        named = [match[0] for line in text.splitlines() if (match := _NAME.match(line))]
        modules = metadata.packages_distributions()
        # TensorFlow's distribution goes by several names.
        required = _with_requirements(
            name for each in named for name in [each, *modules.get(each, [])]
        )
        installed = {
            name
            for name, places in modules.items()
            if required & {_normal(each) for each in places}
        }
        own = {each.stem for each in self._code.iterdir()} if self._code.is_dir() else set()
        return frozenset({*installed, *own, "fm_mlflow"})


def _with_requirements(names: Iterable[str]) -> set[str]:
    """Return distributions and all that they require in turn, extras apart."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = _normal(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # of another platform
        waiting += [
            match[0]
            for each in required
            if "extra" not in each.partition(";")[2] and (match := _NAME.match(each))
        ]
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
