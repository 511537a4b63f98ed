"""oneDNN's kernels in the graph of the training steps: the same results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.compat import v1

from fm_mlflow.fitting.cpu.onednn import is_built_in, is_left_off, use_onednn
from fm_mlflow.process.quiet import ONEDNN

IMAGES = np.random.default_rng(0).normal(size=(4, 13, 13, 6)).astype(np.float32)


def net(images: tf.Tensor, weights: tf.Tensor, deep: tf.Tensor) -> tf.Tensor:
    """Let each kind of operation that is replaced take part, with pools that overlap too."""
    hidden = tf.nn.conv2d(images, weights, 1, "SAME")
    hidden = tf.nn.max_pool2d(hidden, 3, 2, "VALID")
    hidden = tf.nn.depthwise_conv2d(hidden, deep, [1, 1, 1, 1], "SAME")
    hidden = tf.nn.avg_pool2d(hidden, 2, 1, "SAME")
    return tf.reduce_sum(tf.nn.max_pool2d(hidden, 2, 2, "SAME") ** 2)


def loss_and_gradients(images: tf.Tensor) -> list[tf.Tensor]:
    weights = tf.reshape(tf.sin(tf.range(3 * 3 * 6 * 8, dtype=tf.float32)), (3, 3, 6, 8))
    deep = tf.reshape(tf.cos(tf.range(3 * 3 * 8, dtype=tf.float32)), (3, 3, 8, 1))
    with tf.GradientTape() as tape:
        tape.watch([images, weights, deep])
        loss = net(images, weights, deep)
    return [loss, *tape.gradient(loss, [images, weights, deep])]


def graph_of(function: Callable[[tf.Tensor], Any]) -> v1.GraphDef:
    """Trace a function of images into a graph with the outputs `result_0` …"""
    with tf.Graph().as_default() as graph:
        images = v1.placeholder(tf.float32, IMAGES.shape, name="images")
        for number, value in enumerate(tf.nest.flatten(function(images))):
            tf.identity(value, name=f"result_{number}")
    return graph.as_graph_def()


def results(definition: v1.GraphDef) -> list[NDArray[Any]]:
    wanted = sorted(node.name for node in definition.node if node.name.startswith("result_"))
    with tf.Graph().as_default(), v1.Session() as session:
        outputs = tf.graph_util.import_graph_def(
            definition, return_elements=[f"{name}:0" for name in wanted], name=""
        )
        found: list[NDArray[Any]] = session.run(outputs, {"images:0": IMAGES})
        return found


@pytest.fixture
def _built_in() -> None:
    if not is_built_in():
        pytest.skip("this build of TensorFlow has no oneDNN")


@pytest.mark.usefixtures("_built_in")
@pytest.mark.parametrize("nested", [False, True], ids=["in the graph", "in a function of it"])
def test_results_and_gradients_are_the_same(nested: bool) -> None:
    function = tf.function(loss_and_gradients, autograph=False) if nested else loss_and_gradients
    definition = graph_of(function)
    before = results(definition)
    # Two convolutions and a mean, forward and backward (two gradients of each convolution), and
    # two pools, forward and backward.
    assert use_onednn(definition) == 3 + 3 + 2 + 4
    for ours, theirs in zip(results(definition), before, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.usefixtures("_built_in")
def test_a_pool_without_its_gradient_beside_it_is_left_alone() -> None:
    definition = graph_of(lambda images: tf.nn.max_pool2d(images, 2, 2, "VALID"))
    assert use_onednn(definition) == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda images: tf.nn.avg_pool2d(tf.cast(images, tf.float64), 2, 2, "VALID"),
        lambda images: tf.nn.conv2d(
            images, tf.ones((3, 3, 6, 1)), 1, [[0, 0], [2, 1], [0, 1], [0, 0]]
        ),
    ],
    ids=["64 bits", "padding of one's own"],
)
def test_what_onednn_does_not_do_is_left_alone(function: Callable[[tf.Tensor], Any]) -> None:
    assert use_onednn(graph_of(function)) == 0


@pytest.mark.parametrize("choice", ["0", "1"])
def test_a_choice_of_the_users_stands(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONEDNN, choice)
    assert not is_left_off()
