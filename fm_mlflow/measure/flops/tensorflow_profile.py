"""FLOPs on TensorFlow: counted in the traced graphs of a prediction and a training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import keras

from fm_mlflow import keys
from fm_mlflow.errors import FlopsError
from fm_mlflow.measure.flops.engine import Count, count
from fm_mlflow.measure.flops.graph import flatten
from fm_mlflow.measure.flops.marks import Marks
from fm_mlflow.measure.flops.result import FlopsProfile
from fm_mlflow.measure.flops.rows import OPTIMIZER
from fm_mlflow.measure.flops.specs import Structure, with_batch_size
from fm_mlflow.measure.flops.table import layer_table
from fm_mlflow.measure.flops.trace import (
    forget,
    tensor_specs,
    trace_prediction,
    trace_training_step,
)
from fm_mlflow.measure.measurement import MIB, Measurement
from fm_mlflow.measure.size import weight_bytes
from fm_mlflow.process.redaction import one_line

CONVENTION = (
    "1 multiply-add = 2 FLOPs; floating-point arithmetic, comparisons and elementary functions 1 "
    "an element; moving, copying, selecting (relu), converting data and drawing random numbers 0"
)
_INFERENCE = f"counted in the traced prediction, one image, batch {{}}; {CONVENTION}"
_WITNESS = (
    "keras-flops (TensorFlow's op profiler), one image, batch 1: it counts 0 for an operation that "
    "it has no formula for, a loop's body once, integers too"
)
_TRAINING = (
    "counted in the traced training step (loss, gradients, optimizer, metrics) at batch {}, given "
    f"{{}}, what executes only, / batch size; {CONVENTION}"
)
_TOLERANCE = 0.05
"""How far keras-flops may be off and still be taken to have seen the whole model."""
_WITNESS_MEMORY = 11
"""Times the memory of a model's weights that keras-flops takes."""
_MOST_WITNESSED_MIB = 16


def profile_prediction(
    model: keras.Model, images: int, inputs: Structure, batch_size: int, keras_flops: bool
) -> tuple[FlopsProfile, Structure]:
    """Profile a prediction of so many images; return the specs of its outputs, too."""
    marks = Marks()
    prediction = trace_prediction(model, inputs, marks)
    counted = _count(prediction)
    inference = round(counted.total / images)
    if not inference and not counted.integer:
        raise FlopsError(f"the model {model.name!r} does no arithmetic", "check its layers")
    figure, witness = None, Measurement.missing(keys.FLOPS_KERAS, _WITNESS, "it was not asked")
    if keras_flops:
        figure, witness = _ask_keras_flops(model, tensor_specs(inputs), counted)
    profile = FlopsProfile(
        batch_size=batch_size,
        inference=inference,
        integer_ops={kind: number / images for kind, number in counted.integer.items()},
        keras_flops=figure,
        witness=witness,
        layers=layer_table(marks.rows, counted, images),
        inference_unsupported=counted.unsupported,
        inference_coverage=counted.coverage,
        aside=counted.aside,
        registered=counted.registered,
        inference_method=_INFERENCE.format(images),
    )
    # As specs, which do not hold the graph.
    outputs = with_batch_size(prediction.structured_outputs, 1) if model.compiled else None
    return profile, outputs


def with_training(
    profile: FlopsProfile, model: keras.Model, steps: Mapping[str, Structure]
) -> FlopsProfile:
    """Add a training step to the profile of a prediction: the first that the model takes."""
    marks = Marks()
    step, given = trace_training_step(model, steps, marks)
    counted = _count(step)
    batch_size = profile.batch_size
    layers = layer_table(marks.rows, counted, batch_size)
    return replace(
        profile,
        training=float(counted.total / batch_size),
        training_core=float(counted.core / batch_size),
        optimizer_step=batch_size
        * sum(row.training_flops for row in layers if row.layer.startswith(OPTIMIZER[:-1])),
        layers=layers,
        unsupported=counted.unsupported,
        coverage=counted.coverage,
        aside=counted.aside,
        registered=counted.registered,
        method=_TRAINING.format(batch_size, given),
    )


def _count(traced: Any) -> Count:
    flat = flatten(traced.graph)
    try:
        return count(flat)
    finally:
        forget(flat)


def _ask_keras_flops(
    model: keras.Model, one_image: Structure, counted: Count
) -> tuple[int | None, Measurement]:
    """Ask keras-flops about the prediction that was counted; return its figure and the metric.

    The metric is missing where the figure contradicts the count: operations that keras-flops has
    no formula for are small change where they are elementwise, but not where they are products
    (einsum, 3D convolutions); nor is a loop's body that it counts once.
    """
    missing = partial(Measurement.missing, keys.FLOPS_KERAS, _WITNESS)
    try:
        weights = weight_bytes(model) / MIB
        if weights > _MOST_WITNESSED_MIB:
            return None, missing(
                f"the model has {weights:,.1f} MiB of weights; keras-flops takes {_WITNESS_MEMORY} "
                f"times that memory and is not asked above {_MOST_WITNESSED_MIB} MiB"
            )
        from fm_mlflow.measure.flops import keras_flops_compat

        figure = keras_flops_compat.get_flops(model, one_image)
        blind = [
            each for each in counted.operations if not keras_flops_compat.has_formula(each.kind)
        ]
    except (Exception, SystemExit) as error:  # a witness that fails must not fail a run
        return None, missing(f"keras-flops: {one_line(error)}")
    least = counted.total - sum(each.other for each in blind)
    if not (1 - _TOLERANCE) * least <= figure <= (1 + _TOLERANCE) * counted.total:
        return figure, missing(
            f"keras-flops does not see the whole model: its figure ({figure:,}) leaves products "
            "out or counts too many"
        )
    without_formula = dict.fromkeys((each.kind for each in blind), 0.0)
    for each in blind:
        without_formula[each.kind] += float(each.core + each.other)
    difference = round(counted.total) - figure
    details = {"difference": difference, "without_formula": without_formula}
    return figure, replace(Measurement.exact(keys.FLOPS_KERAS, figure, _WITNESS), details=details)
