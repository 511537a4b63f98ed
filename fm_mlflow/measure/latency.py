"""How long a Keras model takes to predict, and how many predictions a second it gives."""

from __future__ import annotations

import statistics
import sys
import time
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np

from fm_mlflow import keys
from fm_mlflow.errors import InputError
from fm_mlflow.keys import Key
from fm_mlflow.measure.backends import backend
from fm_mlflow.measure.measurement import (
    Measurement,
    positive_number,
    whole_number,
)
from fm_mlflow.measure.quantiles import readings_needed, sample_quantile, summarised
from fm_mlflow.process.redaction import one_line

_WARM_UP_CALLS = 20
_WARM_UP_SHARE = 0.2
_LONGEST = 5
_PREDICT_CALLS = 10
_LOOK_AGAIN = 1.25
_QUANTILES = {keys.LATENCY_P50: 0.5, keys.LATENCY_P95: 0.95, keys.LATENCY_P99: 0.99}
_ORDER = "95% interval by order statistics"


class _Enough(NamedTuple):
    """When more calls would say little more.

    Attributes:
        calls: So many at least.
        within: How far the ends of a quantile's interval may lie apart: a share of it to each side.
    """

    calls: int
    within: Mapping[float, float]

    def is_reached(self, seconds: Sequence[float]) -> bool:
        """Tell whether calls that took so long are enough."""
        for share, within in self.within.items():
            value, interval = sample_quantile(seconds, share)
            if interval is None or interval[1] - interval[0] > 2 * within * value:
                return False
        return True


_OF_LATENCY = _Enough(400, {0.5: 0.01, 0.95: 0.05})  # the 99th percentile takes 368
_OF_THROUGHPUT = _Enough(50, {0.5: 0.01})


def measure_latency(
    model: keras.Model,
    example: Any,
    *,
    batch_size: int = 256,
    seconds: float = 0.6,
    model_predict: bool = True,
) -> list[Measurement]:
    """Time a built Keras model's predictions: one image at a time, then in batches.

    Args:
        model: Any Keras model that can be called on `example`.
        example: Input of shape (n, *input_shape), n >= 1: what `model.predict` takes, so also
            a list or a dict of arrays. Its first row is the image; rows are repeated to a batch.
        batch_size: Images a call, for the throughput.
        seconds: Most time for the calls that are counted, for the throughput a third of it: they
            end before where the interval of the median is within 1%, and that of the latency's 95th
            percentile within 5%. The latency of a slow model takes up to 5 times as long, because
            fewer than 72 calls show no 95th percentile.
        model_predict: Whether the details are to say what `model.predict` takes.

    Returns:
        `latency/p50_ms`, `latency/p95_ms`, `latency/p99_ms` and
        `throughput/inference_per_second`, in ms and images a second. Missing, with the reason,
        where the model fails or the sample does not support the figure. The first call, which
        traces the model, and `model.predict` on the same image are in the details of the first.
        The states of a recurrent or random layer are as before.

    Raises:
        InputError: There is no first row, the batch size is not a positive whole number, or the
            time is not a positive number.
    """
    shapes = [np.shape(array) for array in keras.tree.flatten(example)]
    if not shapes or not all(shape and shape[0] for shape in shapes):
        raise InputError("example", shapes, "arrays of shape (n, *input_shape), n from 1")
    batch_size = whole_number("batch_size", batch_size)
    seconds = positive_number("seconds", seconds)
    with _states_kept(model):
        return [
            *_latency(model, example, seconds, model_predict),
            _inference_throughput(model, example, batch_size, seconds / 3),
        ]


@contextmanager
def _states_kept(model: keras.Model) -> Iterator[None]:
    """Give a model's variables their values back: a prediction may change them."""
    kept = backend().kept_value
    before = [(variable, kept(variable)) for variable in model.variables]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


@contextmanager
def batch_call(model: keras.Model, example: Any, batch_size: int) -> Iterator[Callable[[], object]]:
    """Give a call that predicts a batch and waits for its output, as the throughput times it.

    The states of a recurrent or random layer are as before when the context ends.
    """
    with _states_kept(model):
        yield backend().compiled_call(model, _batch(example, batch_size))


def training_throughput(
    images: int, epoch_seconds: Sequence[float], beside: int = 0
) -> Measurement:
    """Compute `throughput/training_per_second` from what the epochs took.

    Args:
        images: Images of an epoch.
        epoch_seconds: Time of each epoch's training steps, validation left out, in order.
        beside: How many epochs, the first ones, ran beside other work of ours.

    Returns:
        Images over the median of the epochs; the first, which traces the model, and those beside
        other work are left out where there are others.
    """
    key = keys.THROUGHPUT_TRAINING
    if not epoch_seconds:
        return Measurement.missing(key, "images of an epoch / its seconds", "no epoch has ended")
    if not images:
        return Measurement.missing(key, "images of an epoch / its seconds", "nobody counted them")
    left_out = beside if 1 < beside < len(epoch_seconds) else 1
    counted = list(epoch_seconds[left_out:]) or list(epoch_seconds)
    which = "epochs but the first" if len(epoch_seconds) > 1 else "the only epoch, tracing included"
    if left_out > 1:
        which += f" {left_out}, beside which the model was read back"
    elif beside > 1:
        which += ", beside which the model was read back"
    rates = [images / each for each in counted]
    method = f"images of an epoch / seconds of its training steps, median of {which}"
    details = {"images": images, "epoch_seconds": list(epoch_seconds)}
    return summarised(key, rates, 0.5, method, details)


def _latency(
    model: keras.Model, example: Any, seconds: float, model_predict: bool
) -> list[Measurement]:
    image = keras.tree.map_structure(lambda array: np.asarray(array)[:1], example)
    # As many calls as the 95th percentile needs, even if each is slow.
    at_least = readings_needed(_QUANTILES[keys.LATENCY_P95])
    try:
        call = backend().compiled_call(model, image)
        first, *warm = _time_calls(call, seconds, at_least, enough=_OF_LATENCY)
    except Exception as error:  # any class may fail in its own way
        reason = f"the call failed: {one_line(error)}"
        return [Measurement.missing(key, f"one image {_how()}", reason) for key in _QUANTILES]
    details = {"first_call_ms": first * 1000}
    if model_predict:
        details |= _predict(model, image, seconds / 6)
    return [_quantile(key, warm, details) for key in _QUANTILES]


def _predict(model: keras.Model, image: Any, seconds: float) -> dict[str, Any]:
    """Time `model.predict`, which takes less than a model does: no array of text, for example."""
    try:
        call = partial(model.predict, image, verbose=0)
        first, *taken = _time_calls(call, seconds, 3, _PREDICT_CALLS, warm_up=0)
    except Exception as error:  # any class may fail in its own way
        return {"model_predict_failed": one_line(error)}
    return {
        "model_predict_first_call_ms": first * 1000,
        "model_predict_p50_ms": statistics.median(taken) * 1000,
        "model_predict_calls": len(taken),
    }


def _how() -> str:
    return f"{backend().CALLED}, output brought to NumPy, after warm-up"


def _quantile(key: Key, seconds: list[float], details: dict[str, Any]) -> Measurement:
    share = _QUANTILES[key]
    method = f"{100 * share:g}th percentile of calls: one image {_how()}; {_ORDER}"
    if len(seconds) < readings_needed(share):
        reason = (
            f"{len(seconds)} calls show no {100 * share:g}th percentile; "
            f"it takes {readings_needed(share)} or more"
        )
        return Measurement.missing(key, method, reason)
    milliseconds = [1000 * each for each in seconds]
    return summarised(key, milliseconds, share, method, details if key == keys.LATENCY_P50 else {})


def _inference_throughput(
    model: keras.Model, example: Any, batch_size: int, seconds: float
) -> Measurement:
    key = keys.THROUGHPUT_INFERENCE
    method = f"{batch_size} / median time of a call on {batch_size} images {_how()}; {_ORDER}"
    try:
        call = backend().compiled_call(model, _batch(example, batch_size))
        first, *warm = _time_calls(call, seconds, at_least=1, enough=_OF_THROUGHPUT)
    except Exception as error:  # also where the batch does not fit into memory
        return Measurement.missing(key, method, f"the call failed: {one_line(error)}")
    rates = [batch_size / each for each in warm]
    details = {"batch_size": batch_size, "first_call_ms": first * 1000}
    return summarised(key, rates, 0.5, method, details)


def _batch(example: Any, size: int) -> Any:
    """Return so many inputs: those of the example, again and again."""
    return keras.tree.map_structure(
        lambda array: np.resize(array, (size, *np.shape(array)[1:])), example
    )


def _time_calls(
    call: Callable[[], object],
    seconds: float,
    at_least: int,
    at_most: int = sys.maxsize,
    warm_up: int = _WARM_UP_CALLS,
    enough: _Enough | None = None,
) -> list[float]:
    """Return what the first call took (it traces), then each one after a warm-up, in seconds."""
    first = timeit.timeit(call, number=1)
    _repeat(call, seconds * _WARM_UP_SHARE, 1, warm_up)
    return [first, *_repeat(call, seconds, at_least, at_most, enough)]


def _repeat(
    call: Callable[[], object],
    seconds: float,
    at_least: int,
    at_most: int,
    enough: _Enough | None = None,
) -> list[float]:
    """Call for so many seconds, longer for `at_least` calls; time each by itself, in seconds.

    What has been timed is looked at now and then, and may be enough.
    """
    clock = time.perf_counter
    taken: list[float] = []
    look = enough.calls if enough else 0
    began = before = clock()
    while len(taken) < at_most:
        call()
        now = clock()
        taken.append(now - before)
        elapsed = now - began
        if elapsed > seconds and (len(taken) >= at_least or elapsed > _LONGEST * seconds):
            break
        if enough and len(taken) == look:
            if enough.is_reached(taken):
                break
            look = int(look * _LOOK_AGAIN)
        before = clock()
    return taken
