"""What a model of any kind scores on data of any kind, and what it predicts of each example."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.data.model_io import (
    are_probabilities,
    to_probabilities,
    two_classes,
    widened,
)
from fm_mlflow.fitting.metric_names import MetricNames

_TEST = "test_"
_SEVERAL = "the model has several outputs"


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        metrics: `test_loss` and the model's own metrics, each with `test_` before its name.
        predictions: Arrays of `predictions/test.npz`, a row an example: `label` and `probability`
            of classes, `target` and `prediction` of numbers; empty where there are none.
        why_not: Why there are none.
    """

    metrics: dict[str, float]
    predictions: dict[str, NDArray[Any]]
    why_not: str = ""


def evaluate(
    model: keras.Model, x: Any, y: Any, batch_size: int | None, names: MetricNames
) -> Evaluation:
    """Evaluate a compiled model, and have it predict.

    Args:
        model: Compiled.
        x: What `model.evaluate` takes.
        y: Targets, where `x` is arrays.
        batch_size: Examples at a time, where `x` is arrays.
        names: What the model's metrics are called.
    """
    results = model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True)
    metrics = {_test_name(name): value for name, value in names.logged(results).items()}
    if y is None:
        targets, outputs, why_not = _by_batch(model, x)
        if why_not:
            return Evaluation(metrics, {}, why_not)
    else:
        targets, outputs = y, model.predict(x, batch_size=batch_size, verbose=0)
    if _are_several(outputs) or _are_several(targets):
        return Evaluation(metrics, {}, _SEVERAL)
    targets = np.asarray(keras.ops.convert_to_numpy(targets))
    if len(targets) != len(outputs):
        why_not = f"{len(outputs)} predictions of {len(targets)} targets"
        return Evaluation(metrics, {}, why_not)
    outputs = widened(outputs)  # NumPy's files know no bfloat16
    predictions = _classes(model, targets, outputs)
    if predictions is not None:
        right = predictions["probability"].argmax(axis=1) == predictions["label"]
        metrics[keys.TEST_ACCURACY] = float(np.mean(right))
    elif targets.reshape(len(targets), -1).shape == outputs.reshape(len(outputs), -1).shape:
        predictions = {"target": targets.reshape(outputs.shape), "prediction": outputs}
    else:
        why_not = f"targets of shape {targets.shape}, outputs of shape {outputs.shape}"
        return Evaluation(metrics, {}, why_not)
    return Evaluation(metrics, predictions)


def _test_name(name: str) -> str:
    prefix, slash, own = name.rpartition("/") if name.startswith("user/") else ("", "", name)
    return f"{prefix}{slash}{_TEST}{own}"


def _by_batch(model: keras.Model, data: Any) -> tuple[Any, Any, str]:
    """Return targets and outputs of data that give batches, or why there are none.

    Both of one pass: data that are shuffled come in another order the next time.
    """
    if isinstance(data, Iterator):
        return None, None, "a generator gives its batches once, and the scores took them"
    is_indexed = isinstance(data, keras.utils.PyDataset)
    targets, outputs = [], []
    for batch in (data[index] for index in range(data.num_batches)) if is_indexed else data:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if y is None:
            return None, None, "the data give no targets apart from the inputs"
        output = model.predict_on_batch(x)
        if _are_several(y) or _are_several(output):
            return None, None, _SEVERAL
        targets.append(np.asarray(keras.ops.convert_to_numpy(y)))
        outputs.append(output)
    if not targets:
        return None, None, "the data are empty"
    return np.concatenate(targets), np.concatenate(outputs), ""


def _are_several(part: Any) -> bool:
    return isinstance(part, (dict, list, tuple))


def gives_logits(model: keras.Model) -> bool | None:
    """Tell by a model's loss whether it gives logits; None where the loss does not say.

    It does not if it is none of classes, or of somebody's own, whatever it is called.
    """
    if "crossentropy" not in _loss_name(model):
        return None
    loss = model.loss
    if isinstance(loss, keras.losses.Loss):
        said: bool | None = loss.get_config().get("from_logits")
        return said
    is_keras = isinstance(loss, str) or getattr(loss, "__module__", "").startswith("keras.")
    return False if is_keras else None


def _loss_name(model: keras.Model) -> str:
    loss = model.loss
    name = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", ""))
    return str(name).lower()


def _classes(
    model: keras.Model, targets: NDArray[Any], outputs: NDArray[Any]
) -> dict[str, NDArray[Any]] | None:
    """Return labels and probabilities where the model's loss is one of classes."""
    takes_logits, name = gives_logits(model), _loss_name(model)
    if "crossentropy" not in name or outputs.ndim != 2:
        return None
    if takes_logits is None:
        shares = np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs
        takes_logits = not are_probabilities(shares)
    if "binary" in name:
        if outputs.shape[1] != 1 or not np.isin(targets, (0, 1)).all():
            return None  # several labels an example
        label = targets.reshape(len(targets)).astype(np.int64)
        return {"label": label, "probability": two_classes(outputs, takes_logits)}
    probability = to_probabilities(outputs, takes_logits)
    if "sparse" in name:
        label = targets.reshape(len(targets)).astype(np.int64)
    elif targets.shape == outputs.shape:
        label = targets.argmax(axis=1)
    else:
        return None
    return {"label": label, "probability": probability}
