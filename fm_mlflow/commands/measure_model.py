"""`measure_model`: what a Keras model costs, without a training and without a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fm_mlflow.errors import InputError
from fm_mlflow.results.measure import Measurements
from fm_mlflow.settings.config import measured_parts

if TYPE_CHECKING:
    import keras


def measure_model(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    batch_size: int = 64,
    measure: str = "flops,latency",
) -> Measurements:
    """Measure a built Keras model: sizes, FLOPs of a prediction and a training step, latency.

    Nothing is logged. Weights and random states are as before; an optimizer without variables gets
    them, as the first step of a fit would give it, because they count in the sizes.

    Args:
        model: Built; where it is compiled, its training step is profiled too.
        x: Inputs as `model.predict` takes them, a few hundred at best; the latency is of the first.
        y: Targets as `model.fit` takes them; needed where they cannot be told from the outputs.
        batch_size: Examples a training step.
        measure: `flops`, `latency`, both with a comma, or `none`, which leaves the sizes.

    Returns:
        Every cost with unit, method, samples and spread, or the reason why it is missing. It prints
        as a table.

    Raises:
        InputError: A parameter was refused.

    Examples:
        >>> print(fm_mlflow.measure_model(model, x_test[:256], batch_size=64))
    """
    parts = measured_parts(measure)
    if not parts <= {"flops", "latency"}:
        accepted = "flops, latency, both with a comma, or none; the rest is measured of a training"
        raise InputError("measure", measure, accepted)
    from fm_mlflow.measure.measurement import whole_number
    from fm_mlflow.measure.training import model_costs

    batch_size = whole_number("batch_size", batch_size)
    if not model.built:
        raise InputError("model", model.name, "a model that is built: call it once on an example")
    optimizer = model.optimizer if model.compiled else None
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)
    return Measurements(model_costs(model, x, y, batch_size, parts))
