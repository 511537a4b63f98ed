"""Whole nets: what the profiler counts agrees with XLA's HLO and with what TensorFlow executes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.eager import context

from fm_mlflow.measure import FlopsProfile, profile_flops
from fm_mlflow.measure.flops.engine import count
from fm_mlflow.measure.flops.graph import flatten
from fm_mlflow.measure.flops.marks import Marks
from fm_mlflow.measure.flops.trace import trace_training_step
from fm_mlflow.training.builtin_models import cnn
from tests.measure.flops import hlo

pytestmark = pytest.mark.usefixtures("keras_flops_not_asked")

BATCH = 4
STEPS = 6
"""Length of the sequences, and so trips of each loop."""


def sequential(*stack: Any) -> keras.Model:
    return keras.Sequential(stack)


def images_of_all_kinds() -> keras.Model:
    return sequential(
        keras.Input((17, 15, 4)),
        layers.Conv2D(6, (3, 2), strides=(2, 1), use_bias=False),
        layers.BatchNormalization(),
        layers.Conv2D(8, 3, dilation_rate=2, groups=2, activation="relu"),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.AveragePooling2D((1, 2)),
        layers.Conv2DTranspose(5, 3, strides=2),
        layers.SeparableConv2D(6, 2),
        layers.LayerNormalization(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3),
    )


def signals() -> keras.Model:
    return sequential(
        keras.Input((20, 3)),
        layers.Conv1D(4, 3, strides=2),
        layers.Conv1DTranspose(6, 3, strides=2),
        layers.SeparableConv1D(4, 3),
        layers.DepthwiseConv1D(3),
        layers.MaxPooling1D(2),
        layers.Flatten(),
        layers.Dense(3),
    )


def volumes() -> keras.Model:
    return sequential(
        keras.Input((7, 6, 5, 2)),
        layers.Conv3D(4, 2, strides=(2, 1, 1)),
        layers.MaxPooling3D((1, 2, 1)),
        layers.Conv3DTranspose(3, 2),
        layers.Flatten(),
        layers.Dense(3),
    )


def transformer() -> keras.Model:
    tokens = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(11, 8)(tokens)
    attended = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.LayerNormalization()(x + attended)
    inner = layers.Dense(8)(layers.Dense(16, activation="gelu")(x))
    x = layers.GlobalAveragePooling1D()(layers.Add()([x, inner]))
    return keras.Model(tokens, layers.Dense(3)(x))


def recurrent() -> keras.Model:
    return sequential(
        keras.Input((STEPS,), dtype="int32"),
        layers.Embedding(11, 5),
        layers.LSTM(4, return_sequences=True),
        layers.GRU(3),
        layers.Dense(3),
    )


def residual_with_two_inputs() -> keras.Model:
    left, right = keras.Input((9, 9, 2), name="left"), keras.Input((9, 9, 2), name="right")
    stem = layers.Conv2D(4, 3)
    block = sequential(keras.Input((7, 7, 4)), layers.Conv2D(4, 1), layers.ReLU())
    frozen = layers.Conv2D(4, 1, trainable=False)
    a, b = stem(left), stem(right)
    x = layers.add([block(a), frozen(a), b])
    return keras.Model({"left": left, "right": right}, layers.Dense(3)(layers.Flatten()(x)))


def profile(model: keras.Model) -> FlopsProfile:
    model.compile("sgd", "mse", metrics=["mae"])
    return profile_flops(model, BATCH)


def specs(model: keras.Model) -> Any:
    flat = [tf.TensorSpec((BATCH, *x.shape[1:]), x.dtype) for x in model.inputs]
    names = [x.name for x in model.inputs]
    return flat[0] if len(flat) == 1 else dict(zip(names, flat, strict=True))


@pytest.mark.parametrize(
    ("build", "trips"),
    [
        (images_of_all_kinds, 1),
        (signals, 1),
        (volumes, 1),
        (transformer, 1),
        (recurrent, STEPS),
        (residual_with_two_inputs, 1),
        (lambda: cnn((28, 28), 10), 1),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_agrees_with_xla(build: Callable[[], keras.Model], trips: int) -> None:
    model = build()
    counted = profile(model)
    assert counted.unsupported == {}
    targets = tf.TensorSpec((BATCH, *model.output_shape[1:]))
    assert counted.training_core is not None
    assert counted.training_core * BATCH == hlo.core_flops(model, specs(model), targets, trips)


def test_differs_from_xla_by_the_taps_on_padding() -> None:
    model = sequential(keras.Input((5, 5, 2)), layers.Conv2D(3, 3, padding="same"))
    counted = profile(model).training_core
    assert counted is not None
    # 25 positions x 9 taps, of which 13 x 13 meet the image: 3 in each row but 2 at both edges.
    # Forward and weight gradients; the images need none.
    taps = 2 * 2 * 2 * 3
    assert counted == taps * 25 * 9
    targets = tf.TensorSpec((BATCH, 5, 5, 3))
    assert hlo.core_flops(model, specs(model), targets) == BATCH * taps * 13 * 13


def executed_products(model: keras.Model, inputs: Any, targets: Any) -> list[str]:
    """Products in the graph that TensorFlow runs: inlined, pruned, optimized."""
    step = tf.function(lambda x, y: model.train_step((x, y)), autograph=False)
    context.enable_run_metadata()
    try:
        step(inputs, targets)
        step(inputs, targets)
        graphs = context.export_run_metadata().function_graphs
    finally:
        context.disable_run_metadata()
    return [
        node.op.removeprefix("_Fused")
        for graph in graphs
        for node in graph.post_optimization_graph.node
        if node.op.endswith("MatMul") or "Conv2D" in node.op
    ]


def counted_products(model: keras.Model, inputs: Any, targets: Any) -> list[str]:
    step, _ = trace_training_step(model, {"": (inputs, targets)}, Marks())
    return [op.kind for op in count(flatten(step.graph)).operations if op.core]


def test_counts_the_operations_that_tensorflow_executes() -> None:
    # The first layer's input gradients are in both traced graphs; TensorFlow prunes them, even
    # out of the loop.
    stacks = [
        ((9, 9, 1), [layers.Conv2D(2, 3), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2)]),
        ((STEPS, 5), [layers.LSTM(4), layers.Dense(2)]),
    ]
    for shape, stack in stacks:
        model = sequential(keras.Input(shape), *stack)
        model.compile("sgd", "mse")
        model.optimizer.build(model.trainable_variables)
        data = tf.zeros((BATCH, *shape)), tf.zeros((BATCH, 2))
        executed = executed_products(model, *data)
        assert len(executed) == 8
        assert sorted(executed) == sorted(counted_products(model, *data))
