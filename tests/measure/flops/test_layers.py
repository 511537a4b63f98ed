"""One-layer nets against arithmetic written out here: 1 multiply-add = 2 FLOPs, per image."""

from __future__ import annotations

from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers

from fm_mlflow.measure import profile_flops
from fm_mlflow.measure.flops.result import LayerFlops

pytestmark = pytest.mark.usefixtures("keras_flops_not_asked")

BATCH = 2


def row_of(layer: keras.layers.Layer, shape: tuple[int, ...], *, is_first: bool) -> LayerFlops:
    """The layer's row; unless it is first, something before it needs its input gradient."""
    before = [] if is_first else [layers.LayerNormalization()]
    model = keras.Sequential([keras.Input(shape), *before, layer])
    model.compile("sgd", "mse")
    profile = profile_flops(model, BATCH)
    assert profile.unsupported == {}
    (row,) = [row for row in profile.layers if row.layer == layer.name]
    return row


# Without bias and activation a layer's gradients are products and nothing else.
PLAIN: dict[str, Any] = {"use_bias": False}
CASES = [
    # inputs x units
    (layers.Dense(5, **PLAIN), (7,), 2 * 7 * 5),
    (layers.Dense(5, **PLAIN), (6, 7), 6 * 2 * 7 * 5),
    # positions of the output x taps x channels x filters
    (layers.Conv1D(4, 3, strides=2, **PLAIN), (20, 3), 9 * 2 * 3 * 3 * 4),
    (layers.Conv1D(4, 3, padding="causal", dilation_rate=2, **PLAIN), (20, 3), 20 * 2 * 3 * 3 * 4),
    (layers.Conv1D(4, 3, padding="same", dilation_rate=3, **PLAIN), (20, 3), 20 * 2 * 3 * 3 * 4),
    (layers.Conv2D(4, 3, **PLAIN), (8, 7, 2), 6 * 5 * 2 * 9 * 2 * 4),
    (layers.Conv2D(4, 3, padding="same", **PLAIN), (8, 7, 2), 8 * 7 * 2 * 9 * 2 * 4),
    (layers.Conv2D(4, 3, padding="same", strides=2, **PLAIN), (8, 7, 2), 4 * 4 * 2 * 9 * 2 * 4),
    (layers.Conv2D(4, (3, 2), dilation_rate=2, **PLAIN), (8, 7, 2), 4 * 5 * 2 * 6 * 2 * 4),
    (layers.Conv2D(6, 3, groups=2, **PLAIN), (8, 7, 4), 6 * 5 * 2 * 9 * (4 // 2) * 6),
    (layers.Conv3D(4, 2, dilation_rate=2, **PLAIN), (5, 6, 7, 2), 3 * 4 * 5 * 2 * 8 * 2 * 4),
    (layers.Conv3D(4, 2, strides=(1, 2, 1), **PLAIN), (5, 4, 3, 2), 4 * 2 * 2 * 2 * 8 * 2 * 4),
    # positions of the output x taps x channels x multiplier
    (layers.DepthwiseConv1D(3, depth_multiplier=2, **PLAIN), (20, 3), 18 * 2 * 3 * 3 * 2),
    (layers.DepthwiseConv2D(3, depth_multiplier=2, **PLAIN), (8, 7, 3), 6 * 5 * 2 * 9 * 3 * 2),
    (
        layers.DepthwiseConv2D(3, strides=2, padding="same", **PLAIN),
        (8, 7, 3),
        4 * 4 * 2 * 9 * 3,
    ),
    # depthwise, then pointwise
    (layers.SeparableConv2D(4, 3, **PLAIN), (8, 7, 3), 6 * 5 * (2 * 9 * 3 + 2 * 3 * 4)),
    # positions of the *input*: each is spread over the taps
    (layers.Conv1DTranspose(4, 3, strides=2, **PLAIN), (9, 3), 9 * 2 * 3 * 3 * 4),
    (layers.Conv2DTranspose(4, 3, strides=2, **PLAIN), (5, 6, 3), 5 * 6 * 2 * 9 * 3 * 4),
    (
        layers.Conv2DTranspose(4, 3, strides=2, padding="same", **PLAIN),
        (5, 6, 3),
        5 * 6 * 2 * 9 * 3 * 4,
    ),
    (layers.Conv3DTranspose(4, 2, **PLAIN), (3, 4, 5, 2), 3 * 4 * 5 * 2 * 8 * 2 * 4),
]


@pytest.mark.parametrize(("layer", "shape", "flops"), CASES, ids=lambda value: type(value).__name__)
def test_each_pass_costs_one_product(
    layer: keras.layers.Layer, shape: tuple[int, ...], flops: int
) -> None:
    row = row_of(layer, shape, is_first=False)
    assert 2 * row.macs == flops
    assert row.forward_flops == flops
    assert row.weight_gradient_flops == flops
    assert row.input_gradient_flops == flops
    assert row.training_core_flops == row.training_flops == 3 * flops


def test_first_layer_needs_no_input_gradient() -> None:
    row = row_of(layers.Conv2D(4, 3), (8, 7, 2), is_first=True)
    flops, outputs = 6 * 5 * 2 * 9 * 2 * 4, 6 * 5 * 4
    assert row.input_gradient_flops == 0
    assert row.training_core_flops == 2 * flops
    assert row.forward_flops == flops + outputs  # the bias
    # Its gradient sums the positions of the whole batch: one addition fewer than there are.
    assert row.weight_gradient_flops == flops + (BATCH * outputs - 4) / BATCH


def attention() -> int:
    """6 positions of width 8, 2 heads of 4: four projections, scores, weighted sum."""
    return 4 * 6 * 2 * 8 * 8 + 2 * (6 * 6 * 2 * 8)


@pytest.mark.parametrize(
    ("layer", "shape", "forward"),
    [
        (layers.LSTM(4), (7, 5), 7 * 2 * (5 + 4) * 4 * 4),
        (layers.GRU(3), (7, 5), 7 * 2 * (5 + 3) * 3 * 3),
        (layers.SimpleRNN(3), (7, 5), 7 * 2 * (5 + 3) * 3),
        (layers.TimeDistributed(layers.Dense(3)), (7, 5), 7 * 2 * 5 * 3),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 4)), (7, 5), 7 * 2 * 5 * 2 * 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layer_over_a_sequence_costs_its_step_times_the_length(
    layer: keras.layers.Layer, shape: tuple[int, ...], forward: int
) -> None:
    row = row_of(layer, shape, is_first=False)
    assert 2 * row.macs == forward
    assert row.training_core_flops == 3 * forward


def test_first_recurrent_layer_needs_no_gradient_of_the_sequence() -> None:
    row = row_of(layers.LSTM(4), (7, 5), is_first=True)
    assert row.training_core_flops == 3 * 7 * 2 * (5 + 4) * 4 * 4 - 7 * 2 * 5 * 4 * 4
    assert row.input_gradient_flops == 0


class SelfAttention(layers.MultiHeadAttention):  # type: ignore[misc]  # keras is untyped
    def __init__(self) -> None:
        super().__init__(2, 4)

    def call(self, x: Any) -> Any:
        return super().call(x, x)

    def build(self, shape: Any) -> None:
        super().build(shape, shape)

    def compute_output_spec(self, x: Any) -> Any:
        return super().compute_output_spec(x, x)


def test_attention() -> None:
    row = row_of(SelfAttention(), (6, 8), is_first=False)
    assert 2 * row.macs == attention()
    assert row.training_core_flops == 3 * attention()


@pytest.mark.parametrize(
    ("layer", "shape", "forward"),
    [
        (layers.MaxPooling2D(2), (6, 6, 3), 9 * 3 * 4),
        (layers.AveragePooling2D(2), (6, 6, 3), 9 * 3 * 4),
        (layers.GlobalAveragePooling2D(), (6, 6, 3), 36 * 3),
        (layers.ReLU(), (6,), 0),
        (layers.ReLU(max_value=6), (6,), 0),
        (layers.LeakyReLU(), (6,), 6),
        (layers.Softmax(), (6,), 5 * 6),
        (layers.Flatten(), (6, 6), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_without_products(
    layer: keras.layers.Layer, shape: tuple[int, ...], forward: int
) -> None:
    row = row_of(layer, shape, is_first=False)
    assert row.forward_flops == forward
    assert row.macs == row.training_core_flops == row.weight_gradient_flops == 0


def test_embedding_is_looked_up_and_its_gradient_added() -> None:
    stack = [layers.Embedding(11, 4), layers.GlobalAveragePooling1D()]
    model = keras.Sequential([keras.Input((6,), dtype="int32"), *stack])
    model.compile("sgd", "mse")
    profile = profile_flops(model, BATCH)
    assert profile.unsupported == {}
    assert profile.layers[0].training_flops == 0
    # What was looked up is scaled by the rate and subtracted from its rows, 6 x 4 an image.
    assert profile.layers[-2].layer == "(optimizer)"
    assert profile.layers[-2].other_flops == 2 * 6 * 4
    assert profile.training_core == 0
    core = profile.measurements()[2]
    assert core.value is None
    assert core.reason == "nothing of it executes"


def test_every_figure_of_a_small_net() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, activation="relu")])
    model.compile("sgd", "mse")
    dense, loss, metrics, optimizer, other = profile_flops(model, 4).layers
    assert dense.forward_flops == 2 * 3 * 2 + 2  # product, bias; relu selects
    # The product 4 x 2 x 6, the bias: 8 numbers to 2.
    assert 4 * dense.weight_gradient_flops == 48 + 6
    # Difference and square 8 each, mean of 8 numbers in 4 rows 8, mean of the 4: 3 and 1.
    assert 4 * loss.forward_flops == 8 + 8 + 8 + 4
    assert loss.weight_gradient_flops == 0
    assert 4 * optimizer.other_flops == 8 * 2  # each of 8 weights: times the rate, subtracted
    # The loss tracker: loss times 4 images, added, count added; divided when it is read.
    assert 4 * other.other_flops == 3
    assert 4 * metrics.other_flops == 1


class Loop(layers.Layer):  # type: ignore[misc]  # keras is untyped
    """A 4 x 4 product, in control flow."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(4, 4), name="kernel")

    def compute_output_shape(self, shape: Any) -> Any:
        return shape

    def call(self, x: Any) -> Any:
        def product(x: Any) -> Any:
            return tf.matmul(x, self.kernel)

        if self.kind == "counted":
            return tf.while_loop(lambda i, _: i < 9, lambda i, x: (i + 2, product(x)), (0, x))[1]
        if self.kind == "nested":
            return tf.while_loop(
                lambda i, _: i < 3,
                lambda i, x: (
                    i + 1,
                    tf.while_loop(lambda j, _: j > 0, lambda j, x: (j - 1, product(x)), (2, x))[1],
                ),
                (0, x),
            )[1]
        if self.kind == "endless":
            return tf.while_loop(lambda x: tf.reduce_sum(x) > 1, lambda x: (product(x),), (x,))[0]
        if self.kind == "branches":
            return tf.cond(tf.reduce_sum(x) > 0, lambda: product(product(x)), lambda: product(x))
        if self.kind == "loop in a branch":
            start, is_short = (0, x), lambda i, _: i < 5
            return tf.cond(
                tf.reduce_sum(x) > 0,
                lambda: tf.while_loop(is_short, lambda i, x: (i + 1, product(x)), start)[1],
                lambda: product(product(x)),
            )
        if self.kind == "known branch":
            return tf.cond(tf.constant(False), lambda: product(product(x)), lambda: product(x))
        if self.kind == "function":
            return tf.function(product, autograph=False)(x)
        raise ValueError(self.kind)


@pytest.mark.parametrize(
    ("kind", "products"),
    [("counted", 5), ("nested", 6), ("branches", 2), ("known branch", 1), ("function", 1)],
)
def test_control_flow_is_followed(kind: str, products: int) -> None:
    row = row_of(Loop(kind), (4,), is_first=False)
    assert row.macs == products * 4 * 4
    assert row.training_core_flops == 3 * products * 2 * 4 * 4


def test_loop_in_a_branch_counts_when_the_dearest_branch_is_chosen() -> None:
    profile = profile_flops(keras.Sequential([keras.Input((4,)), Loop("loop in a branch")]), BATCH)
    assert sum(row.macs for row in profile.layers) == 5 * 4 * 4


def test_loop_whose_length_depends_on_data_is_listed() -> None:
    model = keras.Sequential([keras.Input((4,)), Loop("endless")])
    model.compile("sgd", "mse")
    profile = profile_flops(model, BATCH)
    # The forward loop, and that of the gradient.
    assert profile.unsupported == {"While (unknown number of trips)": 2}
    assert (profile.coverage or 1) < 1
