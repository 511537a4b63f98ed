"""What the process that ran a model says of it, as bytes: foreign, so bounded and checked."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pydantic_core
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from fm_mlflow import keys

ASKED = frozenset(
    {
        *(keys.PARAMETERS_TRAINABLE, keys.PARAMETERS_NON_TRAINABLE, keys.SIZE_PARAMETERS),
        *(keys.SIZE_WEIGHTS, keys.SIZE_INFERENCE, keys.SIZE_H5),
        *(keys.FLOPS_INFERENCE, keys.FLOPS_TRAINING, keys.FLOPS_TRAINING_CORE, keys.FLOPS_KERAS),
        *(keys.LATENCY_P50, keys.LATENCY_P95, keys.LATENCY_P99, keys.THROUGHPUT_INFERENCE),
        keys.MEMORY_LOAD,
    }
)
"""The figures that only a process that runs the model can measure. It is believed no others."""

TYPES = ("float16", "float32", "float64")
"""In which the outputs may come."""

TEXT_CHARACTERS = 1000
_HEAD_BYTES = 256 * 1024
_MOST_ITEM_BYTES = 8

_Text = Annotated[str, Field(max_length=TEXT_CHARACTERS)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Figure(_Strict):
    """A measurement, as far as a verification uses it; see `measure.Measurement`."""

    value: FiniteFloat | None
    method: _Text
    reason: _Text | None
    interval: tuple[FiniteFloat, FiniteFloat] | None


class Findings(_Strict):
    """What the model's process says.

    Attributes:
        measurements: Figures by logged name, those of `ASKED` at most.
        threads: TensorFlow's, as in the tag `fm_mlflow.machine`.
        weights: How many there are.
        weights_digest: As in the tag `fm_mlflow.weights_digest`.
        example: How the model took the logged input example: "predicted", or what went wrong.
        penalty: What the model adds to its loss whatever the labels, by its regularizers.
        loss_of_turns: Its compiled loss if the test images' labels were those of `labels_in_turn`;
            None where the loaded model is not compiled.
        type: Of the outputs.
    """

    measurements: dict[str, Figure] = Field(max_length=len(ASKED))
    threads: _Text
    weights: int = Field(ge=0, le=10**9)
    weights_digest: str = Field(pattern="^[0-9a-f]{64}$")
    example: _Text
    penalty: FiniteFloat
    loss_of_turns: FiniteFloat | None
    type: Literal[TYPES]  # type: ignore[valid-type]


def by(key: str) -> Literal["us", "model"]:
    """Say who measures a figure: this process, or the one that runs the model's code."""
    return "model" if key in ASKED else "us"


def labels_in_turn(images: int, classes: int) -> NDArray[np.int32]:
    """Return the labels 0, 1, 2, … over and over: a loss of them shows which loss it is."""
    return np.arange(images, dtype=np.int32) % np.int32(classes)


def most_bytes(images: int, classes: int) -> int:
    """Return how long an answer may be at most."""
    return _HEAD_BYTES + images * classes * _MOST_ITEM_BYTES


def to_bytes(findings: Findings, outputs: NDArray[np.floating]) -> bytes:
    """Return findings and a model's outputs as one message: a line of JSON, then the values."""
    head = pydantic_core.to_json(findings, inf_nan_mode="null")
    return head + b"\n" + np.ascontiguousarray(outputs).tobytes()


def from_bytes(message: bytes, images: int, classes: int) -> tuple[Findings, NDArray[np.floating]]:
    """Read a message that may be anything.

    Args:
        message: Not longer than `most_bytes`.
        images: How many outputs there must be.
        classes: How many values each must have.

    Returns:
        The findings, and outputs of shape (images, classes), all finite.

    Raises:
        ValueError: It is no such message; says what is wrong, in nothing but our own words.
    """
    head, end, values = message.partition(b"\n")
    if not end or len(head) > _HEAD_BYTES:
        raise ValueError("it sent no findings")
    try:
        findings = Findings.model_validate_json(head)
    except ValidationError as error:
        raise ValueError(f"what it sent is not what was asked for ({_place(error)})") from None
    if not ASKED.issuperset(findings.measurements):
        raise ValueError("it sent figures that it was not asked for")
    dtype = np.dtype(findings.type)
    expected = images * classes * dtype.itemsize
    if len(values) != expected:
        raise ValueError(
            f"it sent {len(values):,} bytes of predictions where {images:,} x {classes} values of "
            f"{findings.type} take {expected:,}"
        )
    outputs = np.frombuffer(values, dtype).reshape(images, classes)
    if not np.isfinite(outputs).all():
        raise ValueError("its predictions are not all finite numbers")
    return findings, outputs


def _place(error: ValidationError) -> str:
    """Name the field where it began to go wrong; its own names, which are foreign, are left out."""
    first = error.errors(include_url=False, include_input=False)[0]
    known = {*Findings.model_fields, *Figure.model_fields, *ASKED}
    place = [str(part) for part in first["loc"] if part in known]
    return ".".join(place) or "not the expected JSON"
