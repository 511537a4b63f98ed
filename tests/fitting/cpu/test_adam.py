"""Adam in one operation against Keras' own: the same updates."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import Adam, AdamW
from numpy.typing import NDArray

from fm_mlflow.fitting.cpu.adam import fused_adam
from fm_mlflow.fitting.steps import all_nodes

STEPS = 7
KERNEL = "ResourceApplyAdam"
START = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
GRADIENTS = np.random.default_rng(1).normal(size=(STEPS, 50, 3)).astype(np.float32)


class Slower(Adam):  # type: ignore[misc]
    """A subclass, which may do anything."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(gradient, variable, learning_rate / 2)


def trained(
    optimizer: Any, how: Callable[[Any], AbstractContextManager[None]], *, sparse: bool = False
) -> tuple[set[str], list[NDArray[Any]]]:
    """Take some steps: which operations they are, and what all variables are in the end."""
    variables = [keras.Variable(START), keras.Variable(START[0], dtype="float64")]
    optimizer.build(variables)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def step(gradient: tf.Tensor) -> None:
        dense: Any = gradient
        if sparse:
            dense = tf.IndexedSlices(gradient[:2], tf.constant([4, 30]), gradient.shape)
        optimizer.apply([dense, tf.cast(gradient[0], tf.float64)], variables)

    with how(optimizer):
        graph = step.get_concrete_function(tf.TensorSpec(START.shape)).graph
    for gradient in GRADIENTS:
        step(tf.constant(gradient))
    values = [each.numpy() for each in (*variables, *optimizer.variables)]
    return {node.op for node in all_nodes(graph.as_graph_def())}, values


@pytest.mark.parametrize(
    "build",
    [
        lambda: Adam(0.01),
        lambda: Adam(0.01, beta_1=0.8, beta_2=0.99, epsilon=1e-3, clipnorm=0.1),
        lambda: Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), use_ema=True),
        lambda: Adam(0.01, gradient_accumulation_steps=3),
        lambda: AdamW(0.01, weight_decay=0.1),
    ],
    ids=["plain", "settings", "schedule", "accumulated", "decayed"],
)
def test_the_updates_are_those_of_keras(build: Callable[[], Any]) -> None:
    operations, ours = trained(build(), fused_adam)
    assert KERNEL in operations
    theirs_operations, theirs = trained(build(), lambda _optimizer: nullcontext())
    assert KERNEL not in theirs_operations
    moved = np.abs(theirs[0] - START).max()
    assert moved > 1e-3
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=2e-5, atol=1e-5 * moved)


@pytest.mark.parametrize(
    ("build", "sparse"),
    [
        (lambda: Adam(0.01, amsgrad=True), False),
        (lambda: Slower(0.01), False),
        (lambda: keras.optimizers.SGD(0.01), False),
        (lambda: Adam(0.01), True),
    ],
    ids=["amsgrad", "subclass", "SGD", "sparse"],
)
def test_others_are_left_to_keras(build: Callable[[], Any], sparse: bool) -> None:
    operations, ours = trained(build(), fused_adam, sparse=sparse)
    assert (KERNEL in operations) == sparse  # of the two variables one has a dense gradient
    _, theirs = trained(build(), lambda _optimizer: nullcontext(), sparse=sparse)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=3e-5, atol=1e-7)


def test_the_optimizer_is_as_before() -> None:
    optimizer = Adam(0.01)
    with fused_adam(optimizer):
        assert "update_step" in vars(optimizer)
    assert "update_step" not in vars(optimizer)
    assert optimizer.update_step.__func__ is Adam.update_step
