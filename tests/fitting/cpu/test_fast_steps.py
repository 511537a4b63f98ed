"""What makes training fast, each made to fail: the next plainer way trains on the same batches."""

from __future__ import annotations

import logging
from typing import Any

import keras
import pytest
import tensorflow as tf
from tensorflow.compat import v1

from fm_mlflow.fitting.cpu import onednn, parts
from tests.fitting.nets import TRAINING, VALIDATION, as_keras, assert_same, example_wise, run

FASTEST = "tensorflow, batches in 2 parts, oneDNN, fused Adam"


@pytest.fixture(scope="module")
def by_keras() -> dict[str, list[float]]:
    return as_keras(example_wise(), TRAINING, VALIDATION)


@pytest.fixture
def _onednn_left_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be on a processor for which TensorFlow does not use oneDNN of itself."""
    if not onednn.is_built_in():
        pytest.skip("this build of TensorFlow has no oneDNN")
    monkeypatch.setattr(onednn, "is_left_off", lambda: True)


@pytest.mark.usefixtures("two_cores", "_onednn_left_off")
def test_the_fastest_way(
    by_keras: dict[str, list[float]], caplog: pytest.LogCaptureFixture
) -> None:
    result = run(example_wise())
    assert result.compiler == FASTEST
    assert_same(result, by_keras)
    assert "fm_mlflow" not in {record.name.partition(".")[0] for record in caplog.records}


@pytest.mark.usefixtures("two_cores", "_onednn_left_off")
@pytest.mark.parametrize(
    ("owner", "name", "value", "way"),
    [
        (tf, "concat", None, "tensorflow, session, oneDNN, fused Adam"),
        (v1, "Session", None, "tensorflow, fused Adam"),
        (v1, "ConfigProto", None, "tensorflow, fused Adam"),
        (onednn, "_PREFIX", "_Gone", "tensorflow, batches in 2 parts, fused Adam"),
        (onednn, "_LABEL", b"gone", "tensorflow, batches in 2 parts, fused Adam"),
        (tf.raw_ops, "ResourceApplyAdam", None, "tensorflow, batches in 2 parts, oneDNN"),
    ],
    ids=["parts", "session", "threads", "oneDNN's operations", "oneDNN's kernels", "Adam"],
)
def test_a_part_that_fails_leads_to_the_next_plainer_way(
    owner: Any,
    name: str,
    value: Any,
    way: str,
    by_keras: dict[str, list[float]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if value is None:
        monkeypatch.delattr(owner, name)
    else:
        monkeypatch.setattr(owner, name, value)
    result = run(example_wise())
    assert result.compiler == way
    assert_same(result, by_keras)
    warned = [each for each in caplog.records if each.name.startswith("fm_mlflow.fitting.cpu")]
    assert warned
    assert all(each.levelno == logging.WARNING for each in warned)
    assert all("\n" not in each.getMessage() for each in warned)


@pytest.mark.usefixtures("two_cores", "_onednn_left_off")
def test_where_nothing_works_keras_own_step_trains(
    by_keras: dict[str, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: Any) -> Any:
        raise RuntimeError("no such way")

    monkeypatch.delattr(v1, "Session")
    monkeypatch.delattr(tf.raw_ops, "ResourceApplyAdam")
    monkeypatch.setattr(parts, "usable_cores", broken)
    result = run(example_wise())
    assert result.compiler == "tensorflow"
    assert_same(result, by_keras)


def test_keras_fit_on_request(by_keras: dict[str, list[float]]) -> None:
    result = run(example_wise(), fit_loop="keras")
    assert result.compiler == "keras"
    assert_same(result, by_keras)


def test_a_fault_of_the_users_own_is_told_as_it_is() -> None:
    class Faulty(keras.Model):  # type: ignore[misc]  # keras is untyped
        def train_step(self, _data: Any) -> Any:
            raise ZeroDivisionError("a fault in the user's step")

    inputs = keras.Input((8, 8))
    model = Faulty(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    model.compile("adam", "mse")
    with pytest.raises(ZeroDivisionError, match="a fault in the user's step"):
        run(model)
