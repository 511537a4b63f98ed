"""Trainings on data of a user's own: what models take of them, and what the runs hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from fm_mlflow import InputError, ModelError, compare, predict, register, resume, runs, train
from fm_mlflow.data.dataset import Dataset, load_dataset
from fm_mlflow.errors import DataError, FmMlflowError
from fm_mlflow.fitting import fit
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.training.models import BuiltModel, build_model
from tests.own_data import images, parts, table
from tests.stores import Store
from tests.verified import in_this_process as in_this_process  # a fixture

FAST: dict[str, Any] = {"epochs": 2, "batch_size": 8, "measure": "none"}


def net(shape: tuple[int, ...], units: int, loss: Any = None, **more: Any) -> Callable[[], Any]:
    def build() -> keras.Model:
        inputs = keras.Input(shape, dtype=more.get("dtype"))
        hidden = inputs
        if more.get("tokens"):
            hidden = layers.Embedding(more["tokens"], 4)(hidden)
        outputs = layers.Dense(units, activation=more.get("last"))(layers.Flatten()(hidden))
        model = keras.Model(inputs, outputs)
        if loss is not None:
            model.compile("adam", loss, metrics=more.get("metrics"))
        return model

    return build


def regression() -> keras.Model:
    return net((5,), 1, "mse", metrics=["mae", "mape"])()


def colours() -> keras.Model:
    return net((6, 7, 3), 2, last="softmax")()


def own(x: Any, y: Any) -> Dataset:
    return load_dataset("from_python", data=parts(x, y))


def build(function: Callable[[], Any], dataset: Dataset) -> BuiltModel:
    return build_model(TrainConfig(model="tests:it", dataset="from_python"), dataset, function)


@pytest.fixture(autouse=True)
def _without_saving(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Most of these models are only built."""
    if "store" not in request.fixturenames:
        monkeypatch.setattr("fm_mlflow.training.models._check_saving", lambda _model: None)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    np.savez(tmp_path / "prices.npz", **table())
    return tmp_path / "prices.npz"


@pytest.mark.usefixtures("in_this_process")
def test_a_regression_of_a_file(store: Store, npz: Path) -> None:
    result = train(regression, dataset=str(npz), validation_split=0.2, **FAST)
    assert result.test_accuracy is None
    run = store.client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["dataset"] == "prices.npz"
    assert not any(str(npz.parent) in value for value in run.data.params.values())
    contexts = {each.tags[0].value: each.dataset for each in _inputs(run)}
    assert contexts.keys() == {"training", "validation", "test"}
    assert str(npz) in contexts["test"].source
    own_metrics = {name for name in run.data.metrics if "mae" in name or "mape" in name}
    assert own_metrics == {
        f"{on}{name}" for on in ("", "val_", "test_") for name in ("mae", "mape")
    }
    assert not [name for name in run.data.metrics if "accuracy" in name]
    with np.load(store.client.download_artifacts(result.run_id, "predictions/test.npz")) as file:
        target, prediction = file["target"], file["prediction"]
    np.testing.assert_allclose(target, table()["y_test"][:, None])
    error = target - prediction
    assert result.metrics["test_mae"] == pytest.approx(np.abs(error).mean())
    assert result.test_loss == pytest.approx(np.mean(error**2), rel=1e-5)
    model = mlflow.tensorflow.load_model(result.model_uri)
    np.testing.assert_allclose(model.predict(table()["x_test"], verbose=0), prediction, rtol=1e-5)
    # What cannot be done with such a run says so, in a line.
    refused: list[tuple[Callable[[], Any], type[FmMlflowError], str]] = [
        (lambda: register(run_id=result.run_id), FmMlflowError, "test_accuracy"),
        (lambda: predict(model=result.run_id, input=_file(npz.parent)), InputError, "of shape"),
        (lambda: compare(output=str(npz.parent)), InputError, r"test_mae \(1 run\)"),
        (lambda: resume(result.run_id, epochs=3, data=table()), InputError, "data"),
    ]
    for call, error_class, said in refused:
        with pytest.raises(error_class, match=said):
            call()
    # By a metric that it has, it is compared and verified, as far as that goes without classes.
    compared = compare(metric="test_mae", output=str(npz.parent / "report"))
    assert compared.comparison.best.run_id == result.run_id
    done = register(run_id=result.run_id, metric="test_mae", dry_run=True, name="prices")
    assert [check.figure for check in done.checks if check.passed is False] == []
    # It is resumed with the file, and with no other contents.
    again = resume(result.run_id, epochs=3, model=regression)
    assert (again.run_id, len(again.history["mae"])) == (result.run_id, 3)
    np.savez(npz, **table(seed=1))
    with pytest.raises(InputError, match=r"data_dir: received '.*prices.npz'.*other contents"):
        resume(result.run_id, epochs=4, model=regression)
    npz.unlink()
    with pytest.raises(InputError, match=r"dataset: received '.*prices.npz'"):
        resume(result.run_id, epochs=4, model=regression)


def _inputs(run: mlflow.entities.Run) -> list[Any]:
    assert run.inputs is not None
    return run.inputs.dataset_inputs


def _file(folder: Path) -> str:
    np.save(folder / "x.npy", np.zeros((2, 5, 1), np.float32))
    return str(folder / "x.npy")


@pytest.mark.usefixtures("in_this_process")
def test_images_of_a_folder(store: Store, tmp_path: Path) -> None:
    folder = images(tmp_path / "images")
    result = train(colours, dataset=f"{folder}/", learning_rate=0.01, **{**FAST, "epochs": 20})
    assert result.metrics["test_accuracy"] > 0.7  # dark or light
    run = store.client.get_run(result.run_id)
    assert run.data.params["dataset"] == "images"
    assert str(folder) in _inputs(run)[0].dataset.source
    assert "32 training images" in run.data.tags["mlflow.note.content"]
    with np.load(store.client.download_artifacts(result.run_id, "predictions/test.npz")) as file:
        dataset = load_dataset("images", str(tmp_path))
        np.testing.assert_array_equal(file["label"], dataset.test.targets)
        pixels = np.asarray(dataset.test.inputs.sized((6, 7, 3))) / np.float32(255)
        model = mlflow.tensorflow.load_model(result.model_uri)
        np.testing.assert_allclose(model.predict(pixels), file["probability"], atol=1e-6)
    # Where it was moved to, it is found by the folder that is named; its contents are checked.
    folder.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="name the folder that it is in with --data-dir"):
        register(run_id=result.run_id)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moved").rename(tmp_path / "elsewhere" / "images")
    done = register(run_id=result.run_id, data_dir=str(tmp_path / "elsewhere"), min_accuracy=0.5)
    assert done.outcome == "registered"
    assert [check.figure for check in done.checks if check.passed is False] == []


def test_rows_that_are_read_when_they_are_needed_train_the_same(tmp_path: Path) -> None:
    dataset = load_dataset(f"{images(tmp_path / 'images')}/")
    whole = own_parts(dataset)

    def weights(data: Dataset, **how: Any) -> list[Any]:
        built = build(colours, data)
        training, test = built.examples(data.train), built.examples(data.test)
        reported: list[Any] = []
        settings: Any = {"epochs": 2, "batch_size": 5, "seed": 1, **how}
        fit(built.model, training, test, on_epoch=lambda *each: reported.append(each), **settings)
        outputs, evaluated = built.predict_and_evaluate(data.test, 3)
        assert evaluated["loss"] == pytest.approx(reported[-1][1]["val_loss"], rel=1e-5)
        return [*built.model.get_weights(), outputs]

    expected = weights(whole)
    for how in ({}, {"resident_bytes": 3000}):
        for array, other in zip(weights(dataset, **how), expected, strict=True):
            np.testing.assert_array_equal(array, other)
    for array, other in zip(weights(dataset, fit_loop="keras"), expected, strict=True):
        np.testing.assert_allclose(array, other, atol=1e-5)


def own_parts(dataset: Dataset) -> Dataset:
    """Return the same images, in the size of the model, as arrays in memory."""
    train, test = (
        (np.asarray(part.inputs.sized((6, 7, 3))), part.targets)
        for part in (dataset.train, dataset.test)
    )
    return load_dataset("from_python", data=(train, test))


def test_tf_data_is_the_same_as_arrays(store: Store) -> None:
    arrays = {name: array.astype(np.float32) for name, array in table().items()}

    def stream(part: str, batched: bool = True) -> Any:
        slices = tf.data.Dataset.from_tensor_slices((arrays[f"x_{part}"], arrays[f"y_{part}"]))
        return slices.batch(7) if batched else slices

    streamed = train(regression, data={"train": stream("train"), "test": stream("test")}, **FAST)
    expected = train(regression, data=arrays, **FAST)
    one_by_one = load_dataset("from_python", data=(stream("train", False), stream("test", False)))
    assert one_by_one.digest == streamed.dataset_digest == expected.dataset_digest
    assert streamed.history["loss"] == expected.history["loss"]
    assert streamed.metrics["test_mae"] == pytest.approx(expected.metrics["test_mae"])
    assert streamed.config.dataset == "from_python"
    with pytest.raises(InputError, match="dataset: received 'digits', accepted: nothing beside"):
        train(regression, data=arrays, dataset="digits")
    with pytest.raises(InputError, match="dataset: received 'from_python'"):
        resume(expected.run_id, epochs=3, model=regression)
    longer = resume(expected.run_id, epochs=3, model=regression, data=lambda: arrays)
    assert len(longer.history["loss"]) == 3


X = np.arange(12, dtype=np.float32).reshape(6, 2)


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (tf.data.Dataset.from_tensor_slices((X, X[:, 0])).repeat(), "never ends"),
        (tf.data.Dataset.from_tensor_slices(X), "pairs|elements"),
        (tf.data.Dataset.from_tensor_slices((X, X[:, 0], X[:, 0])), "one array each"),
        (tf.data.Dataset.from_tensor_slices(({"a": X}, X[:, 0])), "one array each"),
        (tf.data.Dataset.from_tensor_slices((X, X)), "tells which they are"),
        (tf.data.Dataset.from_tensor_slices((X.astype(str), X[:, 0])).batch(2), "numbers are"),
        (tf.data.Dataset.from_tensor_slices((X, X[:, 0])).take(0).batch(2), "are empty"),
        (
            tf.data.Dataset.range(1, 4).map(lambda n: (tf.ones([2, n]), tf.ones([2]))),
            "pad them to one shape",
        ),
        (
            tf.data.Dataset.from_tensor_slices((X, X[:, 0])).map(
                lambda x, y: (tf.debugging.assert_less(x, 5.0), (x, y))[1]
            ),
            "data: train raised InvalidArgumentError",
        ),
    ],
)
def test_streams_that_cannot_be_taken_are_refused(dataset: Any, said: str) -> None:
    test = tf.data.Dataset.from_tensor_slices((X, X[:, 0])).batch(3)
    with pytest.raises(DataError, match=said) as refusal:
        load_dataset("from_python", data=(dataset, test))
    assert "\n" not in str(refusal.value)


CLASSES = np.arange(24) % 3
TOKENS = np.arange(96).reshape(24, 4) % 50


@pytest.mark.parametrize(
    ("x", "function"),
    [
        (np.ones((24,)), net((1,), 3)),
        (np.ones((24, 5), np.float16), net((5,), 3)),
        (np.full((24, 5), 200, np.uint8), net((5,), 3)),
        (np.ones((24, 7, 2)), net((7, 2), 3)),
        (np.ones((24, 7, 1)), net((7,), 3)),
        (np.ones((24, 4, 4, 3), np.uint8), net((4, 4, 3), 3)),
        (np.ones((24, 4, 4, 2, 3), np.float32), net((4, 4, 2, 3), 3)),
        (TOKENS, net((4,), 3, dtype="int32", tokens=50)),
        (TOKENS.astype(np.uint8), net((4,), 3, dtype="int64", tokens=50)),
        (TOKENS, net((4,), 3, tokens=50)),
    ],
)
def test_models_take_examples_of_any_shape_and_type(
    x: Any, function: Callable[[], keras.Model]
) -> None:
    dataset = own(x, CLASSES)
    built = build(function, dataset)
    assert built.class_names == ("0", "1", "2")
    inputs, examples = built.inputs(dataset.train), built.examples(dataset.train)
    assert inputs.shape == (18, *built.input_shape)
    (prepared, labels) = examples.prepare(examples.arrays)
    np.testing.assert_array_equal(np.asarray(prepared), inputs)
    expected = x[:18].reshape(inputs.shape)
    scale = 255 if x.dtype == np.uint8 and x.ndim > 2 else 1
    np.testing.assert_allclose(inputs.astype(float), expected / scale, rtol=1e-6)
    assert labels.dtype == np.int32
    assert np.isfinite(built.model(inputs)).all()


NUMBERS = np.linspace(0, 1, 24)


def quantile(true: Any, given: Any) -> Any:
    error = true - given
    return keras.ops.mean(keras.ops.maximum(0.9 * error, -0.1 * error))


@pytest.mark.parametrize(
    "loss",
    [
        *("mse", "mean_absolute_error", "MeanSquaredError", "huber", "log_cosh", "mape"),
        *(keras.losses.MeanSquaredError(name="loss"), keras.losses.mean_absolute_error),
        *(keras.losses.Huber(), quantile),
    ],
)
@pytest.mark.parametrize("targets", [NUMBERS, CLASSES])
def test_the_loss_says_that_targets_are_numbers(loss: Any, targets: Any) -> None:
    dataset = own(np.ones((24, 5)), targets)
    built = build(net((5,), 1, loss), dataset)
    assert built.class_names == ()


def test_several_numbers_an_example() -> None:
    dataset = own(np.ones((24, 5)), np.ones((24, 2, 3)))
    model = net((5,), 6, "mse")
    wanted = keras.Sequential([model(), layers.Reshape((2, 3))])
    wanted.compile("adam", "mae")
    outputs, _ = build(lambda: wanted, dataset).predict_and_evaluate(dataset.test, 4)
    assert outputs.shape == (6, 2, 3)


@pytest.mark.parametrize(
    ("x", "y", "function", "said"),
    [
        (np.ones((24, 5)), NUMBERS, net((5,), 3), "compiled with a loss for numbers.*float64"),
        (np.ones((24, 5)), NUMBERS, net((5,), 3, "sparse_categorical_crossentropy"), "is one for"),
        (np.ones((24, 5)), CLASSES - 1, net((5,), 3), "no class numbers from 0"),
        (np.ones((24, 5)), np.eye(3)[CLASSES], net((5,), 3, "categorical_crossentropy"), "float64"),
        (np.ones((24, 5)), CLASSES, net((5,), 2), r"one output of shape \(None, 3\)"),
        (np.ones((24, 5)), NUMBERS, net((5,), 2, "mse"), r"one output of shape \(None, 1\)"),
        (np.ones((24, 5)), CLASSES, net((4,), 3), r"\(None, 5\) or \(None, 5, 1\); .*\(None, 4\)"),
        (np.ones((24, 5)), CLASSES, net((5,), 3, dtype="int32"), "an input that takes the data"),
        (TOKENS + 300, CLASSES, net((4,), 3, dtype="uint8"), "int64 from 300 to 349"),
    ],
)
def test_what_does_not_fit_is_refused(x: Any, y: Any, function: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        build(function, own(x, y))


def test_built_in_models_on_own_data() -> None:
    for shape in ((28, 20, 3), (10, 12), (5,)):
        dataset = own(np.ones((24, *shape), np.uint8), CLASSES)
        for model in ("mlp", "cnn"):
            config = TrainConfig(model=model, dataset="from_python")
            if model == "cnn" and len(shape) < 2:
                with pytest.raises(ModelError, match="data of images of 10 x 10 pixels"):
                    build_model(config, dataset)
            else:
                built = build_model(config, dataset)
                assert built.input_shape[: len(shape)] == shape
    with pytest.raises(ModelError, match=r"a model of your own .* the targets are float64"):
        build_model(TrainConfig(dataset="from_python"), own(np.ones((24, 5)), NUMBERS))


def test_a_path_that_mlflow_run_logged_is_the_same_data_set(store: Store, npz: Path) -> None:
    with mlflow.start_run() as run:
        mlflow.log_param("dataset", str(npz))
        train(regression, dataset=str(npz), **FAST)
    frame = runs()
    assert set(frame.loc[[run.info.run_id], "params.dataset"]) == {"prices.npz"}
