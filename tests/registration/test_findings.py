"""Messages of a model's process, as no honest one would send them; and what an honest one sends."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.registration.figures import Figures
from fm_mlflow.registration.findings import (
    Figure,
    Findings,
    from_bytes,
    labels_in_turn,
    most_bytes,
    to_bytes,
)
from fm_mlflow.registration.scores import scores

IMAGES, CLASSES = 4, 3
FIGURE = Figure(value=3.5, method="counted", reason=None, interval=(3.0, 4.0))
FINDINGS = Findings(
    measurements={keys.FLOPS_INFERENCE: FIGURE},
    threads="automatic within, automatic between",
    weights=6,
    weights_digest="ab" * 32,
    example="predicted",
    penalty=0.0,
    loss_of_turns=None,
    type="float32",
)
OUTPUTS = np.full((IMAGES, CLASSES), 1 / CLASSES, np.float32)
MESSAGE = to_bytes(FINDINGS, OUTPUTS)
HEAD, _, VALUES = MESSAGE.partition(b"\n")


def head(**other: Any) -> bytes:
    """A head that differs in some fields."""
    return json.dumps({**json.loads(HEAD), **other}).encode()


def figures(name: str, **other: Any) -> dict[str, Any]:
    return {"measurements": {name: {**FIGURE.model_dump(), **other}}}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_is_sent_is_what_is_read(dtype: type) -> None:
    outputs: NDArray[Any] = np.random.default_rng(0).normal(size=(IMAGES, CLASSES)).astype(dtype)
    sent = FINDINGS.model_copy(update={"type": outputs.dtype.name})
    findings, read = from_bytes(to_bytes(sent, outputs), IMAGES, CLASSES)
    assert (findings, read.dtype) == (sent, outputs.dtype)
    assert np.array_equal(read, outputs)
    assert len(to_bytes(sent, outputs)) < most_bytes(IMAGES, CLASSES)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "it sent no findings"),
        (HEAD, "it sent no findings"),
        (b" " * 300_000 + MESSAGE, "it sent no findings"),
        (b"EVIL\n" + VALUES, "not the expected JSON"),
        (b"[" * 100_000 + b"\n" + VALUES, "not the expected JSON"),
        (b"null\n" + VALUES, "not the expected JSON"),
        (HEAD.replace(b"3.5", b"NaN") + b"\n" + VALUES, "value"),
        (HEAD.replace(b"3.5", b"1e999") + b"\n" + VALUES, "value"),
        (HEAD.replace(b"3.5", b"9" * 5000) + b"\n" + VALUES, ""),
        (HEAD.replace(b"3.5", b'"EVIL"') + b"\n" + VALUES, "value"),
        (head(EVIL=1) + b"\n" + VALUES, "not the expected JSON"),
        (head(weights=-1) + b"\n" + VALUES, "(weights)"),
        (head(weights=True) + b"\n" + VALUES, "(weights)"),
        (head(weights_digest="EVIL") + b"\n" + VALUES, "(weights_digest)"),
        (head(example="EVIL" * 1000) + b"\n" + VALUES, "(example)"),
        (head(type="object") + b"\n" + VALUES, "(type)"),
        (head(penalty=None) + b"\n" + VALUES, "(penalty)"),
        (head(**figures("EVIL")) + b"\n" + VALUES, "figures that it was not asked for"),
        # Those of the run, and of the process that judges, are not its to say.
        (head(**figures(keys.TEST_ACCURACY)) + b"\n" + VALUES, "was not asked for"),
        (head(**figures(keys.MEMORY_PEAK)) + b"\n" + VALUES, "was not asked for"),
        (HEAD + b"\n" + VALUES[:-4], "it sent 44 bytes of predictions where 4 x 3 values"),
        (HEAD + b"\n" + VALUES + MESSAGE, "bytes of predictions where 4 x 3 values"),
        (head(type="float64") + b"\n" + VALUES, "of float64 take 96"),
        (to_bytes(FINDINGS, OUTPUTS * np.float32("nan")), "not all finite"),
        (to_bytes(FINDINGS, OUTPUTS * np.float32("inf")), "not all finite"),
        (b"\x93NUMPY" + bytes(1000), "it sent no findings"),
    ],
)
def test_anything_else_is_refused_in_our_own_words(message: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=r"sent|predictions") as error:
        from_bytes(message, IMAGES, CLASSES)
    assert reason in str(error.value)
    assert "EVIL" not in str(error.value)
    assert len(str(error.value)) < 200


def cross_entropy(probabilities: NDArray[Any], labels: NDArray[Any]) -> float:
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("penalty", [0.0, 0.25])
@pytest.mark.parametrize("kind", ["softmax", "logits", "cut", "another loss", "not compiled"])
def test_accuracy_and_loss_need_labels_that_only_the_judge_has(kind: str, penalty: float) -> None:
    logits = np.random.default_rng(1).normal(scale=9, size=(200, CLASSES))
    labels = np.random.default_rng(2).integers(0, CLASSES, 200)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    counted = np.clip(probabilities, 1e-7, 1 - 1e-7) if kind == "cut" else probabilities
    of_turns = cross_entropy(counted, labels_in_turn(200, CLASSES)) + penalty
    findings = FINDINGS.model_copy(
        update={
            "penalty": penalty,
            "loss_of_turns": {"another loss": 200 * of_turns, "not compiled": None}.get(
                kind, of_turns
            ),
        }
    )
    outputs = logits if kind == "logits" else probabilities
    found = scores(findings, outputs, probabilities, kind == "logits", labels)
    assert found["test_accuracy"]["value"] == np.mean(probabilities.argmax(axis=1) == labels)
    if kind in ("another loss", "not compiled"):
        assert "test_loss" not in found
    else:
        expected = cross_entropy(counted, labels) + penalty
        assert found["test_loss"]["value"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("penalty", [0.0, -0.4])
def test_a_loss_with_what_only_the_model_can_say_is_marked(penalty: float) -> None:
    figures: dict[str, float] = {keys.TEST_LOSS: 0.1}
    check = Figures(figures, figures, same_machine=True).loss(penalty)
    assert (check.passed, check.by) == (True, "model" if penalty else "us")


def test_a_loss_that_is_infinite_does_not_hold_for_any_other() -> None:
    outputs = np.full((200, CLASSES), 1 / CLASSES)
    labels = (labels_in_turn(200, CLASSES) + 1) % CLASSES
    outputs[0, labels[0]] = 0.0
    of_turns = cross_entropy(outputs, labels_in_turn(200, CLASSES))
    findings = FINDINGS.model_copy(update={"penalty": 0.0, "loss_of_turns": of_turns})
    with np.errstate(divide="ignore"):
        assert "test_loss" not in scores(findings, outputs, outputs, False, labels)
