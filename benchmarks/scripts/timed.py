"""A command with its phases timed: `timed.py FILE COMMAND [OPTION]...`, as `fm-mlflow COMMAND`.

Imports and functions are timed by name, and do what they always do. FILE gets the spans as
JSON: name, begin and end (`time.perf_counter`), processor seconds of the process, thread, bytes.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import json
import sys
import threading
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

FUNCTIONS = {
    "fm_mlflow.commands.train": {
        "import_tensorflow": "TensorFlow and Keras",
        "log_setting": "params, tags, data sets",
        "_fit": "fit",
        "log_outcome": "evaluate, log the model",
        "log_costs": "log the costs",
        "_compile_ahead": "trace and compile",
    },
    "fm_mlflow.training.loading": {"load_dataset": "read the data"},
    "fm_mlflow.training.models": {"build_model": "build the model", "_check_saving": "try to save"},
    "fm_mlflow.training.models:BuiltModel": {"predict_and_evaluate": "predict and evaluate"},
    "fm_mlflow.tracking.run:TrackedRun": {
        "_open": "open the run",
        "_close": "close the run",
        "_flush": "wait for the store",
    },
    "fm_mlflow.tracking.recorder:Recorder": {"log_model": "log the model"},
    "fm_mlflow.tracking.store": {"prepare": "check the store"},
    "fm_mlflow.fitting.compiled": {"_traced": "trace the step"},
    "fm_mlflow.fitting.compiled:CompiledLoop": {
        "_train": "training steps",
    },
    "fm_mlflow.fitting.steps:Steps": {"run": "chunk"},
    "fm_mlflow.fitting.cpu.session:SessionSteps": {"run": "chunk"},
    "fm_mlflow.fitting.compiled:_Validation": {"run": "validation"},
    "fm_mlflow.measure.training": {
        "training_costs": "measure the costs",
        "model_sizes": "sizes",
        "measure_latency": "latency and throughput",
        "measure_matmul_rate": "rate of products",
        "_profile": "FLOPs",
    },
    "fm_mlflow.measure.flops.tensorflow_profile": {
        "trace_prediction": "trace a prediction",
        "trace_training_step": "trace a training step",
        "_ask_keras_flops": "keras-flops",
    },
    "fm_mlflow.measure.latency": {
        "_latency": "one image",
        "_predict": "model.predict",
        "_inference_throughput": "batches",
    },
    "fm_mlflow.report.plots": {
        "save_confusion_matrix": "plot the confusion matrix",
        "save_learning_curve": "plot the learning curve",
        "save_memory_timeline": "plot the memory",
    },
    "fm_mlflow.commands.compare": {
        "_analyse": "query and compare",
        "_render": "render the report",
        "_get_ready_to_log": "get ready to log",
        "write_files": "write the files",
        "_log": "log the report",
    },
    "fm_mlflow.tracking.find_runs": {"find_runs": "find runs"},
    "fm_mlflow.tracking.run_details": {"load_details": "read the runs"},
    "fm_mlflow.commands.promote": {
        "_choose": "choose the run",
        "download_candidate": "download the model",
        "load_test_data": "read the data",
        "verify": "verify",
        "_decide": "gates and promotion",
    },
    "fm_mlflow.registration.checks": {"run_confined": "the fresh process"},
    "fm_mlflow.cli": {"show_result": "show the result"},
}
IMPORTS = ("tensorflow", "keras", "mlflow", "pandas", "matplotlib", "sqlalchemy", "scipy")
IMPORTS += ("alembic", "mlflow.store.tracking.sqlalchemy_store", "mlflow.tensorflow", "numpy")
IMPORTS += ("fm_mlflow.tracking.run", "fm_mlflow.training.models", "fm_mlflow.commands.train")
IMPORTS += ("fm_mlflow.report.plots", "fm_mlflow.commands.promote", "keras_flops", "sklearn")
IMPORTS += ("mlflow.pyfunc", "mlflow.models")

_spans: list[tuple[str, float, float, float, str, int]] = []


def timed(name: str, function: Any) -> Any:
    """Return a function that notes when it was called and when it returned."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        began, cpu = time.perf_counter(), time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            spent = time.process_time() - cpu
            thread = threading.current_thread().name
            _spans.append((name, began, time.perf_counter(), spent, thread, _resident()))

    return call


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class _Finder(importlib.abc.MetaPathFinder):
    """Times the import of some modules, and functions of others."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the finders behind this one find, with a loader that we wrap."""
        owners = [key for key in FUNCTIONS if key.partition(":")[0] == name]
        if not owners and name not in IMPORTS:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                self._wrap(spec.loader, name, owners)
                return spec
        return None

    def _wrap(self, loader: Any, name: str, owners: list[str]) -> None:
        execute = loader.exec_module
        if name in IMPORTS:
            execute = timed(f"import {name}", execute)

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for key in owners:
                _, _, member = key.partition(":")
                owner = getattr(module, member) if member else module
                for function, label in FUNCTIONS[key].items():
                    if hasattr(owner, function):
                        setattr(owner, function, timed(label, getattr(owner, function)))

        loader.exec_module = exec_module


def main() -> None:
    """Run the command, and write the spans as it exits."""
    began = time.perf_counter()
    file, *arguments = sys.argv[1:]
    sys.meta_path.insert(0, _Finder())
    sys.argv[:] = ["fm-mlflow", *arguments]
    # It is a command's process: what it does by that, it is to do here too.
    sys.modules["__main__"].__spec__ = importlib.util.find_spec("fm_mlflow.__main__")
    try:
        from fm_mlflow.cli import main as command

        command(arguments)
    finally:
        _spans.append(
            (
                "command",
                began,
                time.perf_counter(),
                time.process_time(),
                threading.current_thread().name,
                _resident(),
            )
        )
        Path(file).write_text(json.dumps(_spans))


if __name__ == "__main__":
    main()
