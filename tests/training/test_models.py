"""Built-in models as the reference has them; a user's own, checked before anything is trained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from keras import layers

from fm_mlflow import ModelError, keys, train
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.settings.model_reference import BUILTIN_MODELS
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking.find_runs import find_runs
from fm_mlflow.training.builtin_models import BUILDERS
from fm_mlflow.training.models import BuiltModel, build_model
from tests.stores import Store
from tests.trained import DIGITS

CONFIG = TrainConfig(dataset="digits")


def styled(text: str) -> None:
    """Raise an error as Keras words it: with terminal styles."""
    raise ValueError(f"\x1b[1m{text}\x1b[0m")


def test_names_are_what_the_config_says() -> None:
    assert tuple(BUILDERS) == BUILTIN_MODELS


def described(model: keras.Model) -> list[tuple[str, tuple[int | None, ...]]]:
    return [(type(layer).__name__, layer.output.shape) for layer in model.layers]


def test_mlp_is_the_reference(digits: Dataset) -> None:
    model = build_model(CONFIG, digits).model
    assert model.input_shape == (None, 28, 28)
    assert described(model) == [
        ("Flatten", (None, 784)),
        ("Dense", (None, 256)),
        ("Dense", (None, 128)),
        ("Dense", (None, 10)),
    ]
    assert [layer.activation.__name__ for layer in model.layers[1:]] == ["relu", "relu", "softmax"]
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    defaults = keras.optimizers.Adam(learning_rate=0.001, name="adam").get_config()
    assert {**model.optimizer.get_config(), "name": "adam"} == defaults


def test_cnn_is_the_reference(digits: Dataset) -> None:
    model = build_model(TrainConfig(model="cnn", dataset="digits"), digits).model
    assert model.input_shape == (None, 28, 28, 1)
    assert described(model) == [
        ("Conv2D", (None, 26, 26, 16)),
        ("MaxPooling2D", (None, 13, 13, 16)),
        ("Conv2D", (None, 11, 11, 32)),
        ("MaxPooling2D", (None, 5, 5, 32)),
        ("Flatten", (None, 800)),
        ("Dense", (None, 64)),
        ("Dense", (None, 10)),
    ]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_asked_for_one_model_only(digits: Dataset, precision: Any) -> None:
    config = TrainConfig(model="cnn", dataset="digits", precision=precision)
    built = build_model(config, digits)
    *hidden, last = built.model.layers
    assert {layer.compute_dtype for layer in hidden} == {precision.removeprefix("mixed_")}
    assert last.compute_dtype == "float32"
    assert {weight.dtype for weight in built.model.trainable_weights} == {"float32"}
    # Gradients of 16 bits would vanish without a scale, bfloat16 has the range of float32.
    is_scaled = isinstance(built.model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (precision == "mixed_float16")
    assert built.params["optimizer"] == "adam"
    assert keras.config.dtype_policy().name == "float32"


def test_model_of_types_of_its_own_is_not_trained_as_if_it_were_mixed(digits: Dataset) -> None:
    def full() -> keras.Model:
        return keras.Sequential(
            [
                keras.Input((28, 28)),
                layers.Flatten(dtype="float32"),
                layers.Dense(10, activation="softmax", dtype="float32"),
            ]
        )

    config = TrainConfig(model="tests:full", dataset="digits", precision="mixed_bfloat16")
    with pytest.raises(ModelError, match="computes in mixed_bfloat16; none of its does"):
        build_model(config, digits, full)
    assert keras.config.dtype_policy().name == "float32"


def test_layers_without_weights_make_no_model_mixed(digits: Dataset) -> None:
    def full() -> keras.Model:
        inputs = keras.Input((28, 28))  # which is a layer of the default
        outputs = layers.Dense(10, dtype="float32")(layers.Flatten()(inputs))
        return keras.Model(inputs, outputs)

    config = TrainConfig(model="tests:full", dataset="digits", precision="mixed_bfloat16")
    with pytest.raises(ModelError, match="computes in mixed_bfloat16; none of its does"):
        build_model(config, digits, full)


def build(function: Callable[[], object], digits: Dataset) -> BuiltModel:
    config = TrainConfig(model=f"tests:{function.__name__}", dataset="digits")
    return build_model(config, digits, function)


def net(
    *,
    outputs: int = 10,
    shape: tuple[int, ...] = (28, 28),
    last: str | None = "softmax",
    loss: str = "",
) -> keras.Model:
    model = keras.Sequential(
        [keras.Input(shape), layers.Flatten(), layers.Dense(outputs, activation=last)]
    )
    if loss:
        model.compile(loss=loss)
    return model


def compiled(loss: object = "sparse_categorical_crossentropy", **settings: object) -> keras.Model:
    model = net()
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss=loss, **settings)
    return model


class Subclassed(keras.Model):  # type: ignore[misc]
    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # what Keras passes when it loads the model
        self.flatten, self.dense = layers.Flatten(), layers.Dense(10, activation="softmax")

    def call(self, inputs: object) -> object:
        return self.dense(self.flatten(inputs))


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (None, None, 1)])
def test_images_with_and_without_a_channel(digits: Dataset, shape: tuple[int, ...]) -> None:
    def function() -> keras.Model:
        inputs = keras.Input(shape)
        pooled = (
            layers.Flatten()(inputs)
            if None not in shape
            else (layers.GlobalAveragePooling2D()(inputs))
        )
        return keras.Model(inputs, layers.Dense(10, activation="softmax")(pooled))

    built = build(function, digits)
    assert built.input_shape == ((28, 28) if len(shape) == 2 else (28, 28, 1))
    inputs = built.inputs(digits.test.head(3))
    assert inputs.dtype == np.float32
    assert inputs.shape == (3, *built.input_shape)
    assert inputs.max() == 1


def test_a_subclassed_model(digits: Dataset) -> None:
    with pytest.raises(ModelError, match="register_keras_serializable"):
        build(Subclassed, digits)
    with keras.saving.custom_object_scope({"Subclassed": Subclassed}):
        assert build(Subclassed, digits).input_shape == (28, 28, 1)


def test_a_sequential_without_an_input(digits: Dataset) -> None:
    def function() -> keras.Model:
        return keras.Sequential([layers.Flatten(), layers.Dense(10, activation="softmax")])

    assert build(function, digits).input_shape == (28, 28, 1)


def test_logits_are_recognised(digits: Dataset, store: Store) -> None:
    built = build(lambda: net(last=None), digits)
    assert built.gives_logits
    assert built.params["loss"] == "sparse_categorical_crossentropy (from logits)"
    probabilities = built.predict_and_evaluate(digits.test.head(5), 5)[0]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert not build(net, digits).gives_logits
    # A loss that took logits for probabilities would not get far.
    result = train(lambda: net(last=None), dataset="digits", epochs=3, measure="none")
    assert result.metrics["test_accuracy"] > 0.8


def test_a_compiled_model_keeps_what_it_was_compiled_with(digits: Dataset) -> None:
    built = build(compiled, digits)
    assert built.params == {
        "optimizer": "sgd",
        "loss": "sparse_categorical_crossentropy",
        "learning_rate": 0.05,
    }
    assert isinstance(built.model.optimizer, keras.optimizers.SGD)


def test_a_schedule_is_named(digits: Dataset) -> None:
    def function() -> keras.Model:
        model = net()
        schedule = keras.optimizers.schedules.CosineDecay(0.01, 100)
        model.compile(
            optimizer=keras.optimizers.Adam(schedule),
            loss=keras.losses.get("sparse_categorical_crossentropy"),
        )
        return model

    built = build(function, digits)
    assert built.params["optimizer"] == "adam (CosineDecay)"
    assert "learning_rate" not in built.params


class PerClass(keras.metrics.Metric):  # type: ignore[misc]
    """The share of each class: a vector."""

    def __init__(self, name: str = "share") -> None:
        super().__init__(name=name)
        self.count = self.add_weight(shape=(10,), initializer="zeros")

    def update_state(self, y: Any, _predicted: Any, sample_weight: Any = None) -> None:
        labels = keras.ops.cast(keras.ops.reshape(y, [-1]), "int32")
        self.count.assign_add(keras.ops.sum(keras.ops.one_hot(labels, 10), 0))

    def result(self) -> Any:
        return self.count / keras.ops.sum(self.count)


def test_metrics_of_a_users_own_and_an_early_stop(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def test_accuracy(y: Any, _predicted: Any) -> Any:  # noqa: PT019
        return keras.ops.ones(keras.ops.shape(y)[0])

    result = train(
        lambda: compiled(
            metrics=[keras.metrics.SparseCategoricalAccuracy(), test_accuracy, PerClass()]
        ),
        callbacks=[
            keras.callbacks.EarlyStopping(
                "val_loss", min_delta=1e9, patience=1, restore_best_weights=True
            )
        ],
        **{**DIGITS, "epochs": 9},
    )
    assert {"accuracy", "val_accuracy"} <= set(result.history)
    assert "sparse_categorical_accuracy" not in result.history
    assert result.history["user/val_test_accuracy"] == [1.0, 1.0]
    assert len([name for name in result.history if name.startswith("share/")]) == 10
    assert result.metrics["test_accuracy"] < 1
    assert caplog.text.count("is logged as user/test_accuracy") == 1
    run = store.client.get_run(result.run_id)
    assert run.data.metrics["test_accuracy"] == result.test_accuracy
    assert run.data.metrics["user/test_accuracy"] == 1
    # It says everywhere that it was stopped.
    reason = "EarlyStopping: val_loss has not improved for 1 epoch"
    assert run.info.run_name == result.run_name
    assert result.run_name.endswith("<lambda>, 2 of 9 epochs, seed 0")
    assert (
        run.data.params.items()
        >= {
            "epochs": "9",
            "epochs_done": "2",
            "best_epoch": "1",
            "stopped_by": reason,
        }.items()
    )
    assert (
        run.data.tags.items()
        >= {
            keys.EPOCHS_DONE: "2",
            keys.BEST_EPOCH: "1",
            keys.STOPPED_BY: reason,
        }.items()
    )
    note = run.data.tags[keys.MLFLOW_RUN_NOTE].replace("\\", "")
    assert f"Stopped early, by {reason}. The best epoch was 1." in note
    assert len(store.client.get_metric_history(result.run_id, "val_loss")) == 2
    # The model has the first epoch's weights, validated on the test set, and that epoch's figures.
    assert "The model has the weights of epoch 1." in note
    assert run.data.tags[keys.KEPT_EPOCH] == "1"
    (record,) = find_runs(Choice()).runs
    assert record.metrics["val_loss"] == result.history["val_loss"][0]
    assert result.test_loss == pytest.approx(result.history["val_loss"][0], rel=1e-4)
    assert result.test_loss != pytest.approx(result.history["val_loss"][1], rel=1e-4)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda: net(shape=(32, 32)), r"one input of shape \(None, 28, 28\) or .*\(None, 32, 32\)"),
        (lambda: net(shape=(28, 28, 3)), r"the model takes \(None, 28, 28, 3\)"),
        (lambda: net(shape=(784,)), r"the model takes \(None, 784\)"),
        (lambda: net(outputs=9), r"one output of shape \(None, 10\); the model gives \(9,\)"),
        (
            lambda: keras.Model(i := keras.Input((28, 28)), layers.Dense(10)(i)),
            r"the model gives \(28, 10\)",
        ),
        (
            lambda: keras.Model(
                i := keras.Input((28, 28)), [f := layers.Flatten()(i), layers.Dense(10)(f)]
            ),
            "the model gives list",
        ),
        (
            lambda: keras.Model(
                [a := keras.Input((28, 28)), b := keras.Input((28, 28))],
                layers.Dense(10)(layers.Flatten()(layers.Add()([a, b]))),
            ),
            "one input of shape",
        ),
        (lambda: compiled("categorical_crossentropy"), "a loss for class numbers"),
        (lambda: compiled(keras.losses.SparseCategoricalCrossentropy(True)), "expects logits"),
        (lambda: net(last=None, loss="sparse_categorical_crossentropy"), "it gives logits, its"),
        (lambda: compiled(metrics=[keras.metrics.Mean(name="loss")]), "metrics of class numbers"),
        (
            lambda: compiled(metrics=[keras.metrics.SparseCategoricalAccuracy(name="loss")]),
            "a model without a metric named loss",
        ),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((28, 28)),
                    layers.Lambda(lambda x: x),
                    layers.Flatten(),
                    layers.Dense(10),
                ]
            ),
            "save and load again",
        ),
        (lambda: sys.exit(0), "it raised SystemExit"),
        (lambda: 42, "a function that returns a Keras model; it returned int"),
        (lambda: 1 / 0, "it raised ZeroDivisionError: division by zero"),
        (lambda: styled("bold " + "word " * 999), r"it raised ValueError: bold[^\x1b]{,450}$"),
        (lambda missing: missing, "a value for its argument missing .*, which has no default"),
    ],
)
def test_what_does_not_fit_is_refused(
    digits: Dataset, function: Callable[[], object], says: str
) -> None:
    with pytest.raises(ModelError, match=says) as refusal:
        build(function, digits)
    assert str(refusal.value).startswith("model: received 'tests:<lambda>', accepted: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "reference", "says"),
    [
        (None, "absent_file.py:build", "there is no "),
        (None, "absent_module:build", "No module named 'absent_module'"),
        ("x = 1", "without.py:build", "it has no 'build'"),
        ("build = 1", "not_callable.py:build", "it has no 'build'"),
        ("import absent_thing", "imports.py:build", "No module named 'absent_thing'"),
        ("def build(:", "syntax.py:build", "it raised SyntaxError"),
        ("1 / 0", "raises.py:build", "it raised ZeroDivisionError"),
        ("", "json.py:build", "a file whose name is free"),
    ],
)
def test_a_function_that_cannot_be_had(
    digits: Dataset,
    store: Store,
    content: str | None,
    reference: str,
    says: str,
) -> None:
    if content is not None:
        (store.folder / reference.partition(":")[0]).write_text(content)
    with pytest.raises(ModelError, match=says) as refusal:
        build_model(TrainConfig(model=reference, dataset="digits"), digits)
    assert "\n" not in str(refusal.value)


def test_a_package_in_the_working_directory(store: Store) -> None:
    package = store.folder / "package_of_mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "net.py").write_text(
        "import keras\n"
        "def build():\n"
        "    return keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(),\n"
        "                             keras.layers.Dense(10, activation='softmax')])\n"
    )
    for name in (".env", "private.csv"):
        (package / name).write_text("hunter22")
    result = train("package_of_mine.net:build", **DIGITS)
    loaded = mlflow.tensorflow.load_model(result.model_uri)
    assert loaded.count_params() == 7850
    files = {"package_of_mine/__init__.py", "package_of_mine/net.py"}
    code = Path(mlflow.artifacts.download_artifacts(result.model_uri), "code")
    logged = {path.relative_to(code).as_posix() for path in code.rglob("*.*") if path.is_file()}
    assert {path for path in logged if not path.endswith(".pyc")} == files
    assert set(result.source_files) == files
    listed = store.client.download_artifacts(result.run_id, keys.SOURCE_FILES_FILE)
    assert set(Path(listed).read_text().split()) == files


def test_an_edited_file_is_read_again(digits: Dataset, store: Store) -> None:
    file = store.folder / "edited_net.py"
    for units in (8, 64):
        file.write_text(
            "import keras\n"
            "import scipy\n"
            "def build():\n"
            "    return keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(),\n"
            f"                             keras.layers.Dense({units}), keras.layers.Dense(10)])\n"
        )
        built = build_model(TrainConfig(model=f"{file}:build", dataset="digits"), digits)
        assert built.model.layers[1].units == units
        assert (built.source.folder, built.source.files) == (file.parent, (Path(file.name),))
        assert built.source.requirements == (f"scipy=={version('scipy')}",)


def test_a_model_that_is_no_function(store: Store) -> None:
    with pytest.raises(ModelError, match=r"a function .def or lambda. that returns"):
        train(net(), **DIGITS)
    assert store.client.search_runs(["0"]) == []


def test_mixed_precision(digits: Dataset) -> None:
    def function() -> keras.Model:
        model = net()
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05))
        model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
        return model

    params = build(function, digits).params
    assert (params["optimizer"], params["learning_rate"]) == ("sgd", 0.05)
