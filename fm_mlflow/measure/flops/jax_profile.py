"""FLOPs on JAX: XLA's analysis of what JAX lowers; matrix products and convolutions exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import keras
from jax.extend.core import jaxpr_as_fun

from fm_mlflow import keys
from fm_mlflow.errors import FlopsError
from fm_mlflow.measure.backends.on_jax import prediction
from fm_mlflow.measure.flops.jaxpr_products import count_products, inner_jaxprs, live_equations
from fm_mlflow.measure.flops.model_code import build_metrics, first_step, model_code
from fm_mlflow.measure.flops.result import FlopsProfile
from fm_mlflow.measure.flops.specs import Structure, with_batch_size
from fm_mlflow.measure.measurement import Measurement

_XLA = (
    "XLA's cost analysis of the HLO that JAX lowers, before optimisation ({}); all its arithmetic, "
    "integers too, 1 multiply-add = 2 FLOPs; a loop's body as often as it runs, of a condition the "
    "dearest branch; left out: taps of a convolution on padding, and exp, log, tanh and the like "
    "(`transcendentals`)"
)
_INFERENCE = "one image, batch {}"
_TRAINING = (
    "training step (loss, gradients, optimizer, metrics) at batch {}, given {}, / batch size"
)
_CORE = (
    "matrix products and convolutions in the jaxpr of the training step, taps on padding too; "
    "1 multiply-add = 2 FLOPs"
)
_WITNESS = "keras-flops (TensorFlow's op profiler), one image, batch 1"


def profile_prediction(
    model: keras.Model, images: int, inputs: Structure, batch_size: int, _keras_flops: bool
) -> tuple[FlopsProfile, Structure]:
    """Profile a prediction of so many images; return the specs of its outputs, too."""
    weights = _of_variables(model.variables)
    with model_code("prediction cannot be lowered"):
        traced = jax.jit(prediction(model)).trace(weights, _shapes(inputs))
        flops, elementary = _xla(traced.jaxpr)
    if not flops:
        raise FlopsError(f"the model {model.name!r} does no arithmetic", "check its layers")
    profile = FlopsProfile(
        batch_size=batch_size,
        inference=round(flops / images),
        integer_ops={},
        keras_flops=None,
        witness=Measurement.missing(keys.FLOPS_KERAS, _WITNESS, "Keras' backend is JAX"),
        layers=(),
        inference_unsupported=dict(count_products(traced.jaxpr.jaxpr).unsupported),
        inference_coverage=None,
        beside={"transcendentals": elementary / images},
        inference_method=_XLA.format(_INFERENCE.format(images)),
    )
    return profile, with_batch_size(traced.out_info[0], 1)


def with_training(
    profile: FlopsProfile, model: keras.Model, steps: Mapping[str, Structure]
) -> FlopsProfile:
    """Add a training step to the profile of a prediction: the first that the model takes."""

    def lower(data: Structure) -> FlopsProfile:
        with model_code("training step cannot be lowered"):
            build_metrics(model, data)
            optimizer = [] if model.optimizer is None else model.optimizer.variables
            state = tuple(
                _of_variables(variables)
                for variables in (
                    model.trainable_variables,
                    model.non_trainable_variables,
                    optimizer,
                    model.metrics_variables,
                )
            )
            traced = jax.jit(model.train_step).trace(state, _shapes(data))
            flops, elementary = _xla(traced.jaxpr)
            products = count_products(traced.jaxpr.jaxpr)
            optimizer_flops = _optimizer_flops(model)
        return replace(
            profile,
            training=flops / profile.batch_size,
            training_core=products.flops / profile.batch_size,
            optimizer_step=optimizer_flops,
            unsupported=dict(products.unsupported),
            coverage=None,
            training_beside={"transcendentals": elementary / profile.batch_size},
            core_method=_CORE,
        )

    profiled, given = first_step(model, steps, lower)
    method = _XLA.format(_TRAINING.format(profile.batch_size, given))
    return replace(profiled, method=method)


def _optimizer_flops(model: keras.Model) -> float:
    """FLOPs of the optimizer in one step, whatever the batch size."""
    if model.optimizer is None:
        return 0.0
    weights = _of_variables(model.trainable_variables)
    state = _of_variables(model.optimizer.variables)
    traced = jax.jit(model.optimizer.stateless_apply).trace(state, weights, weights)
    return _xla(traced.jaxpr)[0]


def _xla(closed: Any) -> tuple[float, float]:
    """Return FLOPs, and transcendental functions beside them.

    XLA takes the body of a loop once, whatever is known of its trips: the rest is added.
    """
    flops, elementary = _lowered(jaxpr_as_fun(closed), closed.in_avals)
    for loop in _loops(closed.jaxpr):
        operands = [variable.aval for variable in loop.invars]
        once = _lowered(lambda *a, loop=loop: loop.primitive.bind(*a, **loop.params), operands)
        body, trips = _xla(loop.params["jaxpr"]), loop.params["length"]
        flops += trips * body[0] - once[0]
        elementary += trips * body[1] - once[1]
    return flops, elementary


def _lowered(function: Any, arguments: Sequence[Any]) -> tuple[float, float]:
    """Return what XLA says of a function, a loop's body taken once.

    Lowered for the host, whatever the model runs on: XLA for GPUs tells only what it has compiled.

    Raises:
        FlopsError: JAX has no device of the host, and XLA for its device tells nothing.
    """
    with jax.default_device(_host()):
        analysis = jax.jit(function).lower(*arguments).cost_analysis()
    if analysis is None:
        raise FlopsError(
            f"XLA tells no costs of what it has not compiled for {jax.default_backend()}",
            "let JAX have the host, too: JAX_PLATFORMS=cuda,cpu",
        )
    return analysis.get("flops", 0.0), analysis.get("transcendentals", 0.0)


def _host() -> Any:
    """Return JAX's device of the host; None, its own choice, where JAX_PLATFORMS leaves it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _loops(jaxpr: Any, *, in_condition: bool = False) -> Iterator[Any]:
    """Yield the loops of known length, those in other loops left out.

    Raises:
        FlopsError: A loop runs as often as its data say.
    """
    for equation in live_equations(jaxpr):
        name = equation.primitive.name
        if name == "while" or (name == "scan" and in_condition):
            raise FlopsError(
                "a loop runs as often as the data say, and XLA counts its body once",
                "take TensorFlow as the backend to count it",
            )
        if name == "scan":
            yield equation
        else:
            for inner in inner_jaxprs(equation):
                yield from _loops(inner, in_condition=in_condition or name == "cond")


def _of_variables(variables: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(variable.shape, variable.dtype) for variable in variables]


def _shapes(structure: Structure) -> Structure:
    """Return specs as JAX has them, in the types that it gives arrays (int32 for int64)."""
    return keras.tree.map_structure(
        lambda spec: (
            None
            if spec is None
            else jax.ShapeDtypeStruct(spec.shape, jax.dtypes.canonicalize_dtype(spec.dtype))
        ),
        structure,
    )
