"""What a profile of FLOPs holds: the figures, the table by layer, both as they are logged."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, fields
from typing import Any

from fm_mlflow import keys
from fm_mlflow.escaping import csv_field
from fm_mlflow.keys import Key
from fm_mlflow.measure.measurement import Measurement

_CORE = "matrix products and convolutions of `flops/training`; 1 multiply-add = 2 FLOPs"
_FIT = (
    "`flops/training` over {} images x {} epochs, the optimizer's part once a step ({} steps of up "
    "to {} images), the rest in proportion to images; validation not included"
)


@dataclass(frozen=True)
class LayerFlops:
    """One row of the table. All FLOPs and multiply-adds are per image.

    Attributes:
        layer: Path in nested models; in parentheses: what belongs to no layer.
        type: Class.
        output_shape: None stands for the batch size.
        parameters: Weights, shared ones once.
        macs: Multiply-adds of the forward pass.
        forward_flops: Forward pass, loss.
        weight_gradient_flops: Backward pass, for the layer's own weights only.
        input_gradient_flops: Backward pass, whatever a layer before it needs.
        other_flops: Optimizer, metrics.
        training_flops: The four before, together.
        training_core_flops: Of these, in matrix products and convolutions.
        integer_ops: Operations on integers in products and convolutions (of a quantized layer);
            they are no FLOPs.
        share_percent: Of all training_flops.
    """

    layer: str
    type: str
    output_shape: str
    parameters: int
    macs: float
    forward_flops: float
    weight_gradient_flops: float
    input_gradient_flops: float
    other_flops: float
    training_flops: float
    training_core_flops: float
    integer_ops: float
    share_percent: float


COLUMNS = tuple(field.name for field in fields(LayerFlops))
"""Columns of `flops/layers.csv`."""


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
        layers: The table by layer; of the prediction where the model is not compiled. Empty where
            the counter sees no layers (on JAX and PyTorch).
        inference_unsupported: Operations of the prediction that execute and have no count: how
            many there are, by type.
        inference_coverage: Of the prediction's operations that do arithmetic, the share that is
            counted, 0 to 1; None where the counter does not say.
        training: FLOPs of one training step per image, None for a model that is not compiled.
        training_core: Of these, in matrix products and convolutions.
        optimizer_step: FLOPs of the optimizer in one step, whatever the batch size.
        unsupported: As `inference_unsupported`, of the training step.
        coverage: As `inference_coverage`, of the training step.
        aside: FLOPs a step that only assertions, prints and the like need, by the operation; of the
            prediction where the model is not compiled. They are in no other figure.
        registered: Operations that are counted by a formula of yours: how many, by type.
        beside: What the counter tells of a prediction beside FLOPs, per image, by name.
        training_beside: The same of the training step.
        inference_method: How the figure of a prediction came about, convention included.
        method: How the training figures came about, convention included.
        core_method: How `training_core` came about.
    """

    batch_size: int
    inference: int
    integer_ops: Mapping[str, float]
    keras_flops: int | None
    witness: Measurement
    layers: tuple[LayerFlops, ...]
    inference_unsupported: Mapping[str, int]
    inference_coverage: float | None
    training: float | None = None
    training_core: float | None = None
    optimizer_step: float = 0.0
    unsupported: Mapping[str, int] = field(default_factory=dict)
    coverage: float | None = 1.0
    aside: Mapping[str, int] = field(default_factory=dict)
    registered: Mapping[str, int] = field(default_factory=dict)
    beside: Mapping[str, float] = field(default_factory=dict)
    training_beside: Mapping[str, float] = field(default_factory=dict)
    inference_method: str = "counted in the traced prediction"
    method: str = "counted in the traced training step"
    core_method: str = _CORE

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
        inference: dict[str, Any] = {
            "coverage": self.inference_coverage,
            "unsupported": dict(self.inference_unsupported),
            "keras_flops": self.keras_flops,
        }
        inference |= {"integer_ops": dict(self.integer_ops)} if self.integer_ops else {}
        training: dict[str, Any] = {
            "coverage": self.coverage,
            "unsupported": dict(self.unsupported),
            "batch_size": self.batch_size,
        }
        own = {"only_side_effects": dict(self.aside), "own_formulas": dict(self.registered)}
        own = {name: found for name, found in own.items() if found}
        inference |= {**own, **self.beside}
        training |= {**own, **self.training_beside}
        found = [
            _measurement(keys.FLOPS_INFERENCE, self.inference, self.inference_method, inference),
            _measurement(keys.FLOPS_TRAINING, self.training, self.method, training),
            _measurement(keys.FLOPS_TRAINING_CORE, self.training_core, self.core_method, training),
        ]
        if n_images is not None and epochs is not None:
            steps = -(-n_images // self.batch_size)
            method = _FIT.format(n_images, epochs, epochs * steps, self.batch_size)
            total = self.fit_flops(n_images, epochs)
            found.append(_measurement(keys.FLOPS_TRAINING_TOTAL, total, method, training))
        return [*found, self.witness]


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
