"""Private and undocumented names of TensorFlow, Keras and MLflow that the package uses.

After an upgrade, a name that has gone fails here by name; the package itself falls back.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import keras
import mlflow
import pytest
import tensorflow as tf
from mlflow.tracking import MlflowClient

from fm_mlflow import train
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking.find_runs import find_runs
from tests.processes import PROJECT
from tests.stores import Store
from tests.trained import DIGITS, SMALL


class Private(NamedTuple):
    """A name, the file that uses it, and what happens without it."""

    name: str
    file: str
    fallback: str


_SESSION = "the steps run outside a session (fast_steps)"
_KERAS_ADAM = "Keras' own operations"
_KERAS_FLOPS = "no second count of FLOPs: the import stands inside a guard"

NAMES = [
    Private("tensorflow.raw_ops.ResourceApplyAdam", "fitting/cpu/adam.py", _KERAS_ADAM),
    Private("Adam._get_variable_index", "fitting/cpu/adam.py", _KERAS_ADAM),
    Private("Adam._momentums", "fitting/cpu/adam.py", _KERAS_ADAM),
    Private("Adam._velocities", "fitting/cpu/adam.py", _KERAS_ADAM),
    Private(
        "tensorflow.python.framework.op_def_registry.get",
        "fitting/cpu/onednn.py",
        "TensorFlow's own kernels",
    ),
    Private(
        "tensorflow.python.util._pywrap_util_port.IsMklEnabled",
        "fitting/cpu/onednn.py",
        "TensorFlow's own kernels",
    ),
    Private("FuncGraph.control_outputs", "fitting/cpu/session.py", _SESSION),
    Private("tensorflow.compat.v1.Session.make_callable", "fitting/cpu/session.py", _SESSION),
    Private("ConfigProto.use_per_session_threads", "fitting/cpu/session.py", _SESSION),
    Private(
        "keras.src.visualization",
        "process/quiet.py",
        "matplotlib.pyplot is imported with Keras, a third of a second",
    ),
    *(
        Private(
            f"tensorflow._api.v2.{name}",
            "process/quiet.py",
            "TensorFlow Lite is imported with TensorFlow, or its names once more, 0.07 s",
        )
        for name in ("lite", "compat.v1.lite", "compat.v2.lite")
    ),
    *(
        Private(
            f"tensorflow._api.v2.compat.{name}.compat",
            "process/quiet.py",
            "names of TensorFlow are imported once more, 0.07 s with TensorFlow Lite",
        )
        for name in ("v1", "v2")
    ),
    Private("Model._initial_epoch", "fitting/compiled.py", "the epoch that the caller gives"),
    Private(
        "Adam.finalize_variable_values",
        "fitting/compiled.py",
        "none: without it, an exponential moving average of weights would be lost unnoticed",
    ),
    Private("Model.make_train_function", "fitting/hooks.py", "none: a model's own would be missed"),
    Private("Model.make_test_function", "fitting/hooks.py", "none: a model's own would be missed"),
    Private("Model.distribute_strategy", "fitting/hooks.py", "none: devices would be left idle"),
    Private(
        "FuncGraph._get_function",
        "measure/flops/graph.py",
        "FLOPs are missing, with the reason (measure.training)",
    ),
    Private(
        "tensorflow.python.framework.function_def_to_graph.function_def_to_graph",
        "measure/flops/graph.py",
        "FLOPs are missing where TensorFlow 1's functions are called, with the reason",
    ),
    Private(
        "tensorflow.python.framework.ops.gradient_registry._registry",
        "process/garbage.py",
        "the graphs of fits and of profiles stay in memory",
    ),
    Private(
        "tensorflow.python.framework.ops.gradient_registry",
        "process/garbage.py",
        "the graphs of fits and of profiles stay in memory",
    ),
    Private(
        "tensorflow.python.framework.op_def_registry.get",
        "measure/flops/registered.py",
        "register_formula takes any name",
    ),
    Private(
        "tensorflow.python.framework.ops.RegisterStatistics",
        "measure/flops/keras_flops_compat.py",
        _KERAS_FLOPS,
    ),
    Private(
        "tensorflow.python.framework.ops._stats_registry",
        "measure/flops/keras_flops_compat.py",
        _KERAS_FLOPS,
    ),
    Private("Model.output_names", "measure/flops/specs.py", "losses by position"),
    Private(
        "Model._symbolic_build",
        "measure/flops/model_code.py",
        "on JAX, no FLOPs of a training step of a model that was never trained, with the reason",
    ),
    Private(
        "keras.src.backend.common.global_state.get_global_attribute",
        "measure/flops/torch_profile.py",
        "keras.random without a seed of its own draws other numbers after a profile",
    ),
    Private(
        "mlflow.tracking.fluent._active_run_stack", "tracking/run.py", "mlflow.end_run, if it can"
    ),
    Private("mlflow.tracking.fluent._last_active_run_id", "tracking/run.py", "left as it is"),
    Private(
        "mlflow.tracking.fluent.run_id_to_system_metrics_monitor",
        "tracking/run.py",
        "the monitor ends with the process",
    ),
    Private(
        "mlflow.tracking.fluent._get_experiment_id",
        "tracking/experiment.py",
        "MLFLOW_EXPERIMENT_NAME and MLFLOW_EXPERIMENT_ID, else the experiment fm_mlflow",
    ),
    Private(
        "MlflowClient._tracking_client",
        "tracking/metric_histories.py",
        "MlflowClient.get_metric_history, which reads all points, however many",
    ),
    Private(
        "RestStore._call_endpoint", "tracking/metric_histories.py", "a request a run and metric"
    ),
    Private(
        "mlflow.tracking.context.registry.resolve_tags",
        "tracking/store.py",
        "a run without MLflow's tags for user, source and commit",
    ),
    Private(
        "mlflow.store.entities.PagedList",
        "tracking/store.py",
        "none: the documented type of what a client's search returns",
    ),
    Private(
        "mlflow.store.artifact.artifact_repository_registry.get_artifact_repository",
        "tracking/artifacts.py",
        "MlflowClient.log_artifact, which asks for the run first",
    ),
    Private(
        "mlflow.utils.autologging_utils.autologging_is_disabled",
        "tracking/callers_run.py",
        "the fit itself says what is missing",
    ),
    Private(
        "mlflow.utils.requirements_utils._MODULES_TO_PACKAGES",
        "tracking/save_model.py",
        "saving a model takes half a second more",
    ),
    Private(
        "mlflow.utils.name_utils._GENERATOR_NOUNS", "tracking/run.py", "the run keeps its name"
    ),
    Private(
        "mlflow.utils.name_utils._GENERATOR_PREDICATES", "tracking/run.py", "the run keeps its name"
    ),
]

PRIVATE_MODULES = (
    *("tensorflow.python", "keras.src", "tensorflow.raw_ops"),
    *("mlflow.utils", "mlflow.store", "mlflow.tracking.fluent", "mlflow.tracking.context"),
)
PUBLIC = {"_fields", "_replace", "_asdict", "_make", "_exit"}
"""Of named tuples, and of the module `os`."""


@cache
def owners() -> dict[str, Any]:
    """Objects whose attributes are among the names."""
    adam = keras.optimizers.Adam()
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    adam.build(model.trainable_variables)
    graph = tf.function(lambda: tf.constant(0)).get_concrete_function().graph
    config = tf.compat.v1.ConfigProto()
    client = MlflowClient(tracking_uri="http://127.0.0.1:1")  # nobody is asked yet
    return {
        "Adam": adam,
        "Model": model,
        "FuncGraph": graph,
        "ConfigProto": config,
        "MlflowClient": client,
        "RestStore": client._tracking_client.store,
    }


def resolve(name: str) -> Any:
    first, *rest = name.split(".")
    found = owners().get(first) or importlib.import_module(first)
    for number, each in enumerate(rest, 1):
        if inspect.ismodule(found) and not hasattr(found, each):
            found = importlib.import_module(".".join([first, *rest[:number]]))
        else:
            found = getattr(found, each)
    return found


@pytest.mark.parametrize("name", [each.name for each in NAMES])
def test_the_name_is_there(name: str) -> None:
    resolve(name)


@pytest.mark.parametrize("operation", ["MaxPool", "Conv2D", "Conv2DBackpropFilter", "AvgPoolGrad"])
def test_operations_of_onednn_are_there(operation: str) -> None:
    from fm_mlflow.fitting.cpu import onednn

    if not onednn.is_built_in():
        pytest.skip("this build of TensorFlow has no oneDNN")
    definition = resolve("tensorflow.python.framework.op_def_registry.get")
    assert definition(f"{onednn._PREFIX}{operation}") is not None


def test_the_list_is_complete() -> None:
    """Each foreign private name in the sources is in the table, and each of the table is used."""
    trees = {path: ast.parse(path.read_text()) for path in (PROJECT / "fm_mlflow").rglob("*.py")}
    own = {name for tree in trees.values() for name in _defined(tree)}
    listed = {(each.file, each.name.rpartition(".")[2]) for each in NAMES}
    used = {
        (path.relative_to(PROJECT / "fm_mlflow").as_posix(), name)
        for path, tree in trees.items()
        for name in _foreign(tree, own)
    }
    assert sorted(used - listed) == [], "foreign private names that NAMES lacks"
    for file, name in listed:
        assert re.search(rf"\b{name}\b", (PROJECT / "fm_mlflow" / file).read_text()), (file, name)


@pytest.mark.parametrize(
    "source",
    [
        "optimizer._hidden",
        "getattr(model, '_hidden', None)",
        "from keras.src import anything",
        "from mlflow._private import anything",
        "import tensorflow.python.ops",
        "import tensorflow as tf\ntf.raw_ops.Relu",
        "from mlflow.tracking import fluent\nfluent.anything",
    ],
)
def test_a_private_name_is_noticed(source: str) -> None:
    assert list(_foreign(ast.parse(source), {"_own"}))


def test_names_of_our_own_are_not_noticed() -> None:
    source = "self._own\nother._own\npoint._fields\nmodel.__class__\nfrom mlflow import entities"
    assert not list(_foreign(ast.parse(source), {"_own"}))


def test_runs_live_without_private_names_of_mlflow(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # MLflow needs them itself: they are taken from us, and not from it.
    monkeypatch.setattr("fm_mlflow.tracking.run.fluent", SimpleNamespace())
    for module in ("mlflow.tracking.context.registry", "mlflow.utils.name_utils"):
        monkeypatch.setitem(sys.modules, module, None)
    settings = {**DIGITS, "epochs": 1}
    alone = train(SMALL, **settings)
    assert mlflow.active_run() is None
    with mlflow.start_run() as callers:
        joined = train(SMALL, **settings)
    assert joined.run_id == callers.info.run_id
    assert joined.run_name == callers.info.run_name
    monkeypatch.delattr(mlflow.tracking.fluent, "_get_experiment_id")
    found = find_runs(Choice()).runs
    assert {run.run_id for run in found} == {alone.run_id, joined.run_id}


def _defined(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a file of ours defines, attributes too."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) == "self"
        ):
            yield node.attr


def _foreign(tree: ast.AST, own: set[str]) -> Iterator[str]:
    """Yield the private names of other packages that a file uses."""
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules[alias.asname or alias.name] = alias.name
                if _is_private_path(alias.name):
                    yield alias.name
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("fm_mlflow"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                modules[alias.asname or alias.name] = name
                if _is_private_path(name) and not _is_module(name):
                    yield alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, _, path = ast.unparse(node).partition(".")
            name = f"{modules.get(root, root)}.{path}"
            private = _is_private(node.attr) and node.attr not in own
            if private or (
                root in modules
                and _is_private_path(name)
                and _is_module(name.rpartition(".")[0])
                and not _is_module(name)
            ):
                yield node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr"):
            match node.args[1:2]:
                case [ast.Constant(value=str(value))] if _is_private(value) and value not in own:
                    yield value


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def _is_private_path(name: str) -> bool:
    foreign = name.partition(".")[0] in ("tensorflow", "keras", "mlflow")
    return foreign and (
        name.startswith(tuple(f"{each}." for each in PRIVATE_MODULES))
        or name in PRIVATE_MODULES[:2]
        or any(map(_is_private, name.split(".")))
    )


def _is_module(name: str) -> bool:
    try:
        return inspect.ismodule(resolve(name))
    except (ImportError, AttributeError):
        return False
