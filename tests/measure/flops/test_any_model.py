"""Models of every kind: the right figure, or one line that says why there is none."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.func_graph import FuncGraph

from fm_mlflow.errors import FlopsError, InputError
from fm_mlflow.measure import FlopsProfile, profile_flops, register_formula
from fm_mlflow.measure.flops.formulas import REGISTERED
from fm_mlflow.measure.flops.result import LayerFlops

BATCH = 4


class Call(layers.Layer):  # type: ignore[misc]  # keras is untyped
    """A layer that has square weights and computes what it is given."""

    def __init__(self, function: Callable[[Any, Any], Any], units: int = 4) -> None:
        super().__init__()
        self.function = function
        self.units = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.count = self.add_weight(shape=(), dtype="int32", trainable=False, name="count")

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor((*x.shape[:-1], self.units), x.dtype)

    def call(self, x: Any) -> Any:
        return self.function(self, x)


def product(layer: Call, x: Any) -> Any:
    return tf.matmul(x, layer.kernel)


def model_of(*stack: Any, shape: tuple[int, ...] = (4,)) -> keras.Model:
    model = keras.Sequential([keras.Input(shape), *stack])
    model.compile("sgd", "mse")
    return model


def row_of(profile: FlopsProfile, layer: Any) -> LayerFlops:
    (row,) = [row for row in profile.layers if row.layer in (layer, getattr(layer, "name", ""))]
    return row


def profiled(layer: keras.layers.Layer, shape: tuple[int, ...] = (4,)) -> LayerFlops:
    """The row of a layer that something before it needs the gradient of."""
    model = model_of(layers.LayerNormalization(), layer, shape=shape)
    profile = profile_flops(model, BATCH)
    assert profile.unsupported == {}
    return row_of(profile, layer)


# Called functions: the graph is one for any batch size, the shapes are those of the call.


class Graphed(Call):
    def __init__(self, **more: Any) -> None:
        super().__init__(product, **more)

    @tf.function  # type: ignore[untyped-decorator]
    def call(self, x: Any) -> Any:
        return tf.matmul(x, self.kernel)


class Nested(Graphed):
    """A loop and a condition that autograph makes, in a function within a function."""

    @tf.function  # type: ignore[untyped-decorator]
    def inner(self, x: Any) -> Any:
        for _ in tf.range(3):
            x = tf.matmul(x, self.kernel)
        return x

    @tf.function  # type: ignore[untyped-decorator]
    def call(self, x: Any) -> Any:
        if tf.shape(x)[0] > 0:
            x = self.inner(x + 1.0)
        return x


def test_layer_that_calls_a_function_before_and_after_a_fit() -> None:
    layer = Graphed(units=10)
    model = keras.Sequential([keras.Input((28, 28)), layers.Flatten(), layer, layers.Softmax()])
    model.compile("adam", "sparse_categorical_crossentropy")
    before = profile_flops(model, BATCH)
    assert row_of(before, layer).training_core_flops == 2 * 15_680
    assert before.inference == 15_680 + 5 * 10
    model.fit(np.zeros((4, 28, 28)), np.zeros(4), batch_size=2, verbose=0)
    assert profile_flops(model, BATCH) == before


def test_function_in_a_function_with_a_loop() -> None:
    row = profiled(Nested())
    assert row.macs == 3 * 4 * 4
    assert row.training_core_flops == 3 * 3 * 2 * 4 * 4


def test_function_that_was_saved(tmp_path: Path) -> None:
    module = tf.Module()
    module.kernel = tf.Variable(tf.ones((4, 5)))
    module.serve = tf.function(
        lambda x: tf.nn.relu(tf.matmul(x, module.kernel)),
        input_signature=[tf.TensorSpec((None, 4))],
    )
    tf.saved_model.save(module, str(tmp_path))
    layer = layers.TFSMLayer(str(tmp_path), call_endpoint="serving_default")
    inputs = keras.Input((4,))
    (output,) = layer(inputs).values()
    profile = profile_flops(keras.Model(inputs, layers.Dense(2)(output)), BATCH)
    assert row_of(profile, layer).macs == 4 * 5
    assert profile.inference == 2 * 4 * 5 + 2 * 5 * 2 + 2


def test_function_whose_gradient_is_broadcast_back() -> None:
    """The bias has the shape (4,): its gradient sums a batch that the function does not know."""

    class Biased(Graphed):
        @tf.function  # type: ignore[untyped-decorator]
        def call(self, x: Any) -> Any:
            return tf.matmul(x, self.kernel) + self.kernel[0] * x

    row = profiled(Biased())
    assert row.forward_flops == 2 * 16 + 4 + 4
    assert row.training_core_flops == 3 * 2 * 16


def test_loop_whose_variable_grows_takes_the_shape_that_it_ends_with() -> None:
    def grow(layer: Call, x: Any) -> Any:
        shape = tf.TensorShape((None, None, 4))
        start = tf.constant(0), x[:, None]
        _, grown = tf.while_loop(
            lambda i, _: i < 2,
            lambda i, x: (i + 1, tf.concat([x, x[:, :1]], 1)),
            start,
            shape_invariants=(tf.TensorShape(()), shape),
        )
        return tf.matmul(grown, layer.kernel)

    with pytest.raises(FlopsError, match=r"MatMul.*\) is unknown"):
        profile_flops(model_of(Call(grow)), BATCH)


@pytest.mark.parametrize(
    "size",
    [
        lambda shape: shape[1],
        lambda shape: shape[-1:][0],
        lambda shape: tf.gather(shape, 1),
        lambda shape: tf.reshape(tf.concat([[7], shape[1:]], 0)[::-1][:1], ()),
        lambda shape: tf.squeeze(tf.expand_dims(tf.stack([shape[0], shape[1]])[1], 0)),
    ],
)
def test_a_loop_that_runs_as_often_as_a_size_says(size: Callable[[Any], Any]) -> None:
    def sines(x: Any) -> Any:
        trips = size(tf.shape(x))
        return tf.while_loop(lambda i, _: i < trips, lambda i, x: (i + 1, tf.sin(x)), (0, x))[1]

    function = tf.function(sines, input_signature=[tf.TensorSpec((None, None))])
    model = keras.Sequential([keras.Input((4,)), Call(lambda _, x: function(x))])
    profile = profile_flops(model, BATCH)
    assert profile.inference == 4 * 4
    assert profile.inference_unsupported == {}


# Broadcasting.


@pytest.mark.parametrize("operation", [tf.multiply, tf.math.squared_difference, tf.maximum])
def test_both_operands_are_broadcast(operation: Any) -> None:
    def pairs(_: Call, x: Any) -> Any:
        return tf.reshape(operation(x[:, :, None], x[:, None, :]), (-1, 256))

    layer = Call(pairs, units=256)
    for batch in (1, 8):
        profile = profile_flops(model_of(layer, layers.Dense(1), shape=(16,)), batch)
        assert row_of(profile, layer).forward_flops == 256


def test_comparison_of_all_pairs() -> None:
    def above(_: Call, x: Any) -> Any:
        return tf.cast(tf.reshape(x[:, :, None] > x[:, None, :], (-1, 16)), tf.float32)

    layer = Call(above, units=16)
    profile = profile_flops(model_of(layer, layers.Dense(1)), BATCH)
    assert row_of(profile, layer).forward_flops == 16


def test_prediction_of_an_encoder_is_the_forward_column() -> None:
    x = inputs = keras.Input((7, 6))
    x = layers.Dense(8)(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    x = layers.Dense(8)(layers.Dense(32, activation="relu")(x))
    outputs = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, outputs)
    # The metric takes the softmax, which the loss does without.
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    profile = profile_flops(model, BATCH)
    rows = [row for row in profile.layers if row.layer != "(loss)"]
    assert profile.inference == sum(row.forward_flops for row in rows)


# Conditions.


def counting(condition: Callable[[Any], Any], step: int = 1) -> Callable[[Any, Any], Any]:
    """A product that is taken on a condition on a counter."""

    def function(layer: Call, x: Any) -> Any:
        layer.count.assign_add(step)
        return tf.cond(
            condition(tf.convert_to_tensor(layer.count)),
            lambda: tf.matmul(x, layer.kernel),
            lambda: x,
        )

    return function


@pytest.mark.parametrize(
    ("function", "share"),
    [
        (counting(lambda count: count % 4 == 3), 1 / 4),
        (counting(lambda count: count % 4 != 3), 3 / 4),
        (counting(lambda count: tf.logical_or(count % 4 == 3, count % 4 == 7)), 1),
        (counting(lambda count: (count + 5) % 5 < 2), 2 / 5),
        (counting(lambda count: count % 4 == 7), 0),
        (counting(lambda count: count % 4 == 0, step=3), 1 / 4),
        (counting(lambda count: count % 4 == 0, step=2), 1),
        (counting(lambda count: count > 100), 1),
    ],
    ids=["equal", "unequal", "two", "less", "unreachable", "step 3", "step 2", "threshold"],
)
def test_condition_on_a_counter(function: Any, share: float) -> None:
    assert profiled(Call(function)).macs == share * 16


def test_one_of_several_branches_by_a_counter() -> None:
    def function(layer: Call, x: Any) -> Any:
        layer.count.assign_add(1)
        branches = [lambda: product(layer, x), lambda: product(layer, product(layer, x)), lambda: x]
        return tf.switch_case(layer.count % 4, branches)

    # Remainders 0 and 1, then the last branch for 2 and 3.
    assert profiled(Call(function)).macs == (1 + 2) / 4 * 16


@pytest.mark.parametrize("divisor", [4, 100])
def test_remainder_of_data_is_no_counter(divisor: int) -> None:
    def function(layer: Call, x: Any) -> Any:
        chosen = tf.cast(tf.reduce_sum(x), tf.int32) % divisor == 0
        return tf.cond(chosen, lambda: product(layer, product(layer, x)), lambda: x)

    assert profiled(Call(function)).macs == 2 * 16


# Integers.


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantized_layers_keep_their_rows(mode: str) -> None:
    model = keras.Sequential([keras.Input((64,)), layers.Dense(128), layers.Dense(10)])
    model.quantize(mode, filters=lambda layer: isinstance(layer, layers.Dense))
    profile = profile_flops(model, BATCH)
    products = [2 * 64 * 128, 2 * 128 * 10]
    assert profile.inference == sum(row.forward_flops for row in profile.layers)
    assert profile.layers[-1].layer != model.name
    found = [row.integer_ops + 2 * row.macs for row in profile.layers]
    assert found == products
    if mode == "int8":
        assert list(profile.integer_ops.values()) == [sum(products)]
        assert profile.measurements()[0].details["integer_ops"] == profile.integer_ops
        assert [row.macs for row in profile.layers] == [0, 0]


def test_products_of_integers_are_counted_apart() -> None:
    def function(_: Call, x: Any) -> Any:
        whole = tf.cast(x, tf.int32)
        return tf.cast(tf.matmul(whole, whole, transpose_a=True)[:1] * whole, tf.float32)

    layer = Call(function)
    profile = profile_flops(keras.Sequential([keras.Input((4,)), layer]), BATCH)
    assert profile.integer_ops == {"MatMul": 2 * 4 * 4}
    assert profile.inference == 0
    inference = profile.measurements()[0]
    assert inference.value is None
    assert "integers only" in str(inference.reason)


def test_product_of_quantized_types_is_listed() -> None:
    def function(_: Call, x: Any) -> Any:
        quantized = tf.quantization.quantize(x, -1.0, 1.0, tf.quint8)
        out, low, high = tf.raw_ops.QuantizedMatMul(
            a=quantized.output,
            b=quantized.output,
            min_a=-1.0,
            max_a=1.0,
            min_b=-1.0,
            max_b=1.0,
            transpose_a=True,
            Toutput=tf.qint32,
        )
        return tf.quantization.dequantize(out, low, high)[:1] * x

    profile = profile_flops(keras.Sequential([keras.Input((4,)), Call(function)]), BATCH)
    assert "QuantizedMatMul" in profile.inference_unsupported
    assert (profile.inference_coverage or 1) < 1


# Losses, gradients and optimizers.


def test_loss_of_a_legacy_function() -> None:
    stack = [layers.Dense(6, use_bias=False)]
    model = keras.Sequential([keras.Input((12, 5)), *stack])
    model.compile("sgd", keras.losses.CTC())
    profile = profile_flops(model, BATCH, targets=tf.TensorSpec((1, 5), tf.int32))
    assert row_of(profile, stack[0]).training_core_flops == 2 * 12 * 2 * 5 * 6
    # Its two loops take a trip each time step, of 2 x 5 + 1 states.
    assert row_of(profile, "(loss)").forward_flops > 2 * 12 * (2 * 5 + 1)
    assert profile.unsupported == {}
    assert profile.coverage == 1


def test_products_of_an_optimizer_are_no_forward_pass() -> None:
    model = keras.Sequential([keras.Input((16,)), layers.Dense(8), layers.Dense(4)])
    model.compile(keras.optimizers.Muon(), "mse")
    profile = profile_flops(model, BATCH)
    assert sum(row.macs for row in profile.layers) == 16 * 8 + 8 * 4
    assert row_of(profile, "(optimizer)").training_core_flops > 0


def recomputed(layer: Call, x: Any) -> Any:
    return tf.recompute_grad(lambda x: product(layer, product(layer, x)))(x)


def in_a_scope() -> keras.layers.Layer:
    with keras.RematScope(mode="full"):
        return Call(product)


def squared(layer: Call, x: Any) -> Any:
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def square(x: Any) -> Any:
        return tf.matmul(x, x, transpose_a=True)[:1] + x, lambda dy: tf.matmul(x, dy[:4, :4])

    return square(product(layer, x))


@pytest.mark.parametrize(
    ("make", "macs", "core"),
    [
        # Two products, the first of them again, then two gradients of each.
        (lambda: Call(recomputed), 2 * 16, 7 * 2 * 16),
        # The product itself is not needed again.
        (in_a_scope, 16, 3 * 2 * 16),
        (lambda: Call(squared), 2 * 16, 3 * 2 * 16 + 2 * 16 + 2 * 16),
    ],
    ids=["recompute_grad", "RematScope", "custom_gradient"],
)
def test_what_the_backward_pass_does_again_is_no_forward_pass(
    make: Callable[[], Any], macs: int, core: int
) -> None:
    layer = make()
    profile = profile_flops(model_of(layers.LayerNormalization(), layer), BATCH)
    assert sum(row.macs for row in profile.layers) == macs
    assert row_of(profile, layer).macs == macs
    assert profile.training_core == core
    # Not in the forward column of any row either.
    forward = [row.forward_flops for row in profile.layers if row.layer != "(loss)"]
    assert sum(forward) == profile.inference


class Adversarial(keras.Model):  # type: ignore[misc]  # keras is untyped
    """Two nets, each with its optimizer; the step takes real examples alone."""

    def __init__(self) -> None:
        super().__init__()
        self.made = keras.Sequential([keras.Input((4,)), layers.Dense(6)])
        self.judge = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
        self.judge.compile("adam")
        self.own = {"made": keras.optimizers.SGD(), "other": [1, 2]}
        self.built = True

    def call(self, x: Any) -> Any:
        return self.judge(x)

    def train_step(self, x: Any) -> Any:
        noise = tf.ones((tf.shape(x)[0], 4))
        with tf.GradientTape(persistent=True) as tape:
            made = tf.reduce_mean(self.judge(self.made(noise)))
            loss = tf.reduce_mean(self.judge(x)) - made
        for net, optimizer in ((self.judge, self.judge.optimizer), (self.made, self.own["made"])):
            optimizer.apply(tape.gradient(loss, net.trainable_variables), net.trainable_variables)
        return {"loss": loss}


def test_several_optimizers_have_their_rows() -> None:
    model = Adversarial()
    model.compile()
    profile = profile_flops(model, BATCH, inputs=np.zeros((1, 6), np.float32))
    rows = {row.layer: row for row in profile.layers if "optimizer" in row.layer}
    judge, made = f"(optimizer {model.judge.name}/optimizer)", "(optimizer own 0)"
    assert set(rows) == {judge, made}
    assert rows[made].type == "SGD"
    assert rows[made].other_flops * BATCH == 2 * (4 * 6 + 6)
    assert rows[judge].other_flops * BATCH > 12 * 7
    assert profile.optimizer_step == pytest.approx(
        BATCH * (rows[made].other_flops + rows[judge].other_flops)
    )
    assert "given inputs alone" in profile.method


# Steps and batches.


class Weighted(keras.Model):  # type: ignore[misc]  # keras is untyped
    def train_step(self, data: Any) -> Any:
        x, y, weights = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True), weights)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


def weighted() -> keras.Model:
    inputs = keras.Input((6,))
    model = Weighted(inputs, layers.Dense(3)(inputs))
    model.compile("sgd", "mse")
    return model


def test_step_of_three_arguments() -> None:
    guessed = profile_flops(weighted(), BATCH)
    assert guessed.training_core == 2 * 2 * 6 * 3
    assert "given (inputs, targets, weights)" in guessed.method
    told = profile_flops(
        weighted(), BATCH, data=(np.zeros((1, 6)), np.zeros((1, 3)), np.zeros((1,)))
    )
    assert told.training == guessed.training
    with pytest.raises(FlopsError, match=r"cannot be traced: .*; pass .* `data`"):
        profile_flops(weighted(), BATCH, data=(np.zeros((1, 6)), np.zeros((1, 3))))
    with pytest.raises(InputError, match="shape and dtype"):
        profile_flops(weighted(), BATCH, data=(1.0, 2.0))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_states_of_a_fixed_batch(bidirectional: bool) -> None:
    recurrent = layers.LSTM(4, stateful=True)
    layer = layers.Bidirectional(recurrent) if bidirectional else recurrent
    model = keras.Sequential([keras.Input(batch_shape=(8, 7, 5)), layer, layers.Dense(2)])
    model.compile("sgd", "mse")
    size: Any = np.int64(8)
    profile = profile_flops(model, size)
    forward = (1 + bidirectional) * 7 * (5 + 4) * 4 * 4
    assert row_of(profile, layer).macs == forward
    assert 2 * forward < profile.inference < 3 * forward
    assert "one image, batch 8;" in profile.measurements()[0].method
    with pytest.raises(InputError, match="batch_size: received 4, accepted: 8, which"):
        profile_flops(model, 4)


# What is not counted, and formulas of a user.


def test_what_only_a_check_needs_is_listed_apart() -> None:
    def checked(layer: Call, x: Any) -> Any:
        tf.debugging.assert_less(tf.reduce_max(tf.matmul(x, layer.kernel)), 9.0)
        tf.print(tf.reduce_sum(x * 2.0))
        return product(layer, x)

    layer = Call(checked)
    profile = profile_flops(keras.Sequential([keras.Input((4,)), layer]), BATCH)
    assert profile.inference == 2 * 16
    # A product, the largest of 4 and a comparison; a product of 4 and their sum.
    assert profile.aside == {"Assert": 2 * 16 + 3 + 1, "PrintV2": 4 + 3}
    assert profile.measurements()[0].details["only_side_effects"] == profile.aside


def test_python_function_that_nothing_needs_is_listed() -> None:
    def logged(layer: Call, x: Any) -> Any:
        tf.py_function(lambda _: None, [x * 2.0], [])
        return product(layer, x)

    profile = profile_flops(keras.Sequential([keras.Input((4,)), Call(logged)]), BATCH)
    assert profile.inference == 2 * 16
    assert profile.inference_unsupported == {"EagerPyFunc (for EagerPyFunc only)": 1}
    assert (profile.inference_coverage or 1) < 1


class Inverse(layers.Layer):  # type: ignore[misc]  # keras is untyped
    def call(self, x: Any) -> Any:
        return tf.linalg.inv(x)


def inverse_model() -> keras.Model:
    return keras.Sequential([keras.Input((3, 3)), Inverse()])


def test_formula_of_a_user() -> None:
    try:
        register_formula("MatrixInverse", flops=lambda i, o: i[0][-1] * o[0][-1], macs=cubes)
        profile = profile_flops(inverse_model(), BATCH)
        assert profile.inference == 9 + 2 * 27
        assert profile.layers[0].macs == 27
        assert profile.inference_unsupported == {}
        assert profile.registered == {"MatrixInverse": 1}
        assert profile.measurements()[0].details["own_formulas"] == {"MatrixInverse": 1}
        register_formula("MatrixInverse", flops=lambda inputs, _: inputs[5][0])
        with pytest.raises(FlopsError, match=r"registered for MatrixInverse .* IndexError"):
            profile_flops(inverse_model(), BATCH)
        register_formula("MatrixInverse", flops=lambda *_: -1)
        with pytest.raises(FlopsError, match=r"returned -1; it must return a number from 0"):
            profile_flops(inverse_model(), BATCH)
    finally:
        REGISTERED.pop("MatrixInverse", None)


def cubes(inputs: Any, _: Any) -> int:
    return int(np.prod(inputs[0])) * int(inputs[0][-1])


@pytest.mark.parametrize(
    ("operation", "more", "says"),
    [
        ("MatrixInverze", {"flops": cubes}, "operation: received 'MatrixInverze', .* knows"),
        ("MatMul", {"flops": cubes}, "operation: received 'MatMul', .* does not count itself"),
        ("Reshape", {"flops": cubes}, "does not count itself"),
        ("PartitionedCall", {"flops": cubes}, "does not count itself"),
        ("", {"flops": cubes}, "operation: received ''"),
        (None, {"flops": cubes}, "operation: received None"),
        ("MatrixInverse", {}, "flops: received None"),
        ("MatrixInverse", {"macs": 5}, "macs: received 5"),
    ],
)
def test_formula_that_is_refused(operation: Any, more: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        register_formula(operation, **more)
    assert operation not in REGISTERED


# Memory.


def test_profiles_keep_no_graphs() -> None:
    stack = [layers.Dense(4, activation="silu"), layers.LSTM(2, activation="silu")]
    model = model_of(*stack, shape=(3, 4))

    def graphs() -> int:
        return sum(isinstance(each, FuncGraph) for each in gc.get_objects())

    profile_flops(model, BATCH)
    gc.collect()
    before, frozen = graphs(), gc.get_freeze_count()
    for _ in range(2):
        profile_flops(model, BATCH)
    assert graphs() == before
    assert gc.get_freeze_count() <= frozen
