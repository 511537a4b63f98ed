"""FLOPs of a Keras model: one prediction, one training step, a whole fit, each layer."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from fm_mlflow import keys
from fm_mlflow.errors import FlopsError, InputError
from fm_mlflow.escaping import csv_field
from fm_mlflow.keys import Key
from fm_mlflow.measure.flops.engine import Count, count
from fm_mlflow.measure.flops.graph import flatten
from fm_mlflow.measure.flops.marks import OPTIMIZER, Marks
from fm_mlflow.measure.flops.table import COLUMNS, LayerFlops, layer_table
from fm_mlflow.measure.flops.trace import (
    Structure,
    fixed_batch_size,
    forget,
    input_specs,
    target_specs,
    trace_prediction,
    trace_training_step,
    with_batch_size,
)
from fm_mlflow.measure.measurement import MIB, Measurement, whole_number
from fm_mlflow.measure.size import weight_bytes
from fm_mlflow.process.garbage import own_garbage_collected
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
_CORE = "matrix products and convolutions of `flops/training`; 1 multiply-add = 2 FLOPs"
_FIT = (
    "`flops/training` over {} images x {} epochs, the optimizer's part once a step ({} steps of up "
    "to {} images), the rest in proportion to images; validation not included"
)
_TOLERANCE = 0.05
"""How far keras-flops may be off and still be taken to have seen the whole model."""
_WITNESS_MEMORY = 11
"""Times the memory of a model's weights that keras-flops takes."""
_MOST_WITNESSED_MIB = 16


@dataclass(frozen=True)
class FlopsProfile:
    """What a model costs in floating-point operations.

    Attributes:
        batch_size: Images a training step.
        inference: FLOPs of one prediction of one image.
        integer_ops: Operations on integers in products and convolutions of one prediction, by type
            (of a quantized model); they are no FLOPs.
        keras_flops: What keras-flops says of one prediction; None where it was not asked or failed.
        witness: The same as `flops/keras_flops`, with why it differs, or why it is missing.
        layers: The table by layer; of the prediction where the model is not compiled.
        inference_unsupported: Operations of the prediction that execute and have no count: how
            many there are, by type.
        inference_coverage: Of the prediction's operations that do arithmetic, the share that is
            counted, 0 to 1.
        training: FLOPs of one training step per image, None for a model that is not compiled.
        training_core: Of these, in matrix products and convolutions.
        optimizer_step: FLOPs of the optimizer in one step, whatever the batch size.
        unsupported: As `inference_unsupported`, of the training step.
        coverage: As `inference_coverage`, of the training step.
        aside: FLOPs a step that only assertions, prints and the like need, by the operation; of the
            prediction where the model is not compiled. They are in no other figure.
        registered: Operations that are counted by a formula of yours: how many, by type.
        inference_method: How the figure of a prediction came about, convention included.
        method: How the training figures came about, convention included.
    """

    batch_size: int
    inference: int
    integer_ops: Mapping[str, float]
    keras_flops: int | None
    witness: Measurement
    layers: tuple[LayerFlops, ...]
    inference_unsupported: Mapping[str, int]
    inference_coverage: float
    training: float | None = None
    training_core: float | None = None
    optimizer_step: float = 0.0
    unsupported: Mapping[str, int] = field(default_factory=dict)
    coverage: float = 1.0
    aside: Mapping[str, int] = field(default_factory=dict)
    registered: Mapping[str, int] = field(default_factory=dict)
    inference_method: str = "counted in the traced prediction"
    method: str = "counted in the traced training step"

    def fit_flops(self, n_images: int, epochs: int) -> float | None:
        """FLOPs of a whole fit, its smaller last batch included; None if not compiled.

        All but the optimizer's part is taken in proportion to images.
        """
        if self.training is None:
            return None
        steps = epochs * -(-n_images // self.batch_size)
        per_image = self.training - self.optimizer_step / self.batch_size
        return epochs * n_images * per_image + steps * self.optimizer_step

    def to_csv(self) -> str:
        """Return `flops/layers.csv`: `layers` with a heading; whole numbers without a point."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.layers:
            values = astuple(row)
            writer.writerow(map(_field, values))
        return text.getvalue()

    def measurements(
        self, n_images: int | None = None, epochs: int | None = None
    ) -> list[Measurement]:
        """Return the figures as measurements, `flops/keras_flops` last.

        `flops/training_total` is among them if the size of the fit is given.

        Args:
            n_images: Images that the fit trains on.
            epochs: Times that it sees each.
        """
        inference = {
            "coverage": self.inference_coverage,
            "unsupported": dict(self.inference_unsupported),
            "keras_flops": self.keras_flops,
        }
        inference |= {"integer_ops": dict(self.integer_ops)} if self.integer_ops else {}
        training = {
            "coverage": self.coverage,
            "unsupported": dict(self.unsupported),
            "batch_size": self.batch_size,
        }
        own = {"only_side_effects": dict(self.aside), "own_formulas": dict(self.registered)}
        own = {name: found for name, found in own.items() if found}
        inference |= own
        training |= own
        found = [
            _measurement(keys.FLOPS_INFERENCE, self.inference, self.inference_method, inference),
            _measurement(keys.FLOPS_TRAINING, self.training, self.method, training),
            _measurement(keys.FLOPS_TRAINING_CORE, self.training_core, _CORE, training),
        ]
        if n_images is not None and epochs is not None:
            steps = -(-n_images // self.batch_size)
            method = _FIT.format(n_images, epochs, epochs * steps, self.batch_size)
            total = self.fit_flops(n_images, epochs)
            found.append(_measurement(keys.FLOPS_TRAINING_TOTAL, total, method, training))
        return [*found, self.witness]


def profile_flops(
    model: keras.Model,
    batch_size: int,
    *,
    inputs: Structure = None,
    targets: Structure = None,
    data: Structure = None,
    keras_flops: bool = False,
) -> FlopsProfile:
    """Count the FLOPs of a built Keras model: a prediction and, if compiled, a training step.

    The training step is `model.train_step` as `fit` runs it: loss, gradients, optimizer, metrics.
    Counted is what executes: operations that an output or the update of a variable needs, in
    called functions, branches and loops too (a loop as often as it runs). The convention is that
    of `fm_mlflow.measure.flops.formulas`. The model is traced, not run: weights, optimizer state,
    metrics and random states are as before.

    Args:
        model: Built; layers may be nested, shared or frozen.
        batch_size: Images a training step.
        inputs: An example of the model's inputs, or specs of them (anything with `shape` and
            `dtype`, whose first size is replaced); needed where the model declares none, or not
            their sizes.
        targets: The same of the labels; needed where they are neither class numbers for a sparse
            loss nor of the output's shape.
        data: The same of all that `train_step` gets, where that is not (inputs, targets); without
            it and `targets`, inputs alone and (inputs, targets, weights) are tried as well.
        keras_flops: Whether to ask keras-flops, too; it takes 11 times the memory of the weights.

    Raises:
        InputError: The batch size is not a positive whole number, or not the model's own.
        FlopsError: The model is not built or cannot be traced, a size is unknown, or there is
            nothing to count.
    """
    batch_size = whole_number("batch_size", batch_size)
    if not model.built:
        raise FlopsError(f"the model {model.name!r} is not built", "call it once on an example")
    fixed = fixed_batch_size(model)
    with own_garbage_collected():
        profile, outputs = _profile_prediction(model, batch_size, fixed, inputs, keras_flops)
        if not model.compiled:
            return profile
        x = input_specs(model, batch_size, inputs)
        y = target_specs(model, outputs, batch_size, targets)
        steps: dict[str, Structure] = {"(inputs, targets)": (x, y)}
        if data is not None:
            steps = {"what was passed as `data`": with_batch_size(data, batch_size)}
        elif targets is None:
            alone = {"inputs alone": x}
            # Without a loss of its own, a step has no use for targets.
            steps = {**steps, **alone} if model.loss is not None else {**alone, **steps}
            weights = tf.TensorSpec((batch_size,), tf.float32)
            steps["(inputs, targets, weights)"] = (x, y, weights)
        try:
            return _with_training(profile, model, steps)
        except FlopsError:
            if fixed in (None, batch_size):
                raise
            accepted = f"{fixed}, which the model is built for"
            raise InputError("batch_size", batch_size, accepted) from None


def _profile_prediction(
    model: keras.Model, batch_size: int, fixed: int | None, inputs: Structure, keras_flops: bool
) -> tuple[FlopsProfile, Structure]:
    """Profile a prediction of one image, or of as many as the model takes; and its outputs."""
    images = fixed or 1
    few_images = input_specs(model, images, inputs)
    marks = Marks()
    prediction = trace_prediction(model, few_images, marks)
    counted = _count(prediction)
    inference = round(counted.total / images)
    if not inference and not counted.integer:
        raise FlopsError(f"the model {model.name!r} does no arithmetic", "check its layers")
    figure, witness = None, Measurement.missing(keys.FLOPS_KERAS, _WITNESS, "it was not asked")
    if keras_flops:
        figure, witness = _ask_keras_flops(model, few_images, counted)
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


def _with_training(
    profile: FlopsProfile, model: keras.Model, steps: dict[str, Structure]
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


def _measurement(
    key: Key, value: float | None, method: str, details: Mapping[str, Any]
) -> Measurement:
    if value is None:
        return Measurement.missing(key, method, "the model is not compiled")
    if not value:
        integers = "it computes with integers only, see `integer_ops` in flops/layers.csv"
        reason = integers if "integer_ops" in details else "nothing of it executes"
        return Measurement.missing(key, method, reason)
    return Measurement(str(key), value, key.unit, method, samples=1, spread=0.0, details=details)


def _field(value: float | str) -> float | str:
    if isinstance(value, str):  # a layer has the name that its author gave it
        return csv_field(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
