"""Steps that are compiled before the fit: the same fit, and nothing trained by then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from fm_mlflow.fitting import compile_ahead
from tests.fitting.nets import BATCH, TRAINING, dense, example_wise, run
from tests.fitting.test_fitting import OwnFit, OwnStep, with_dropout

_SEED = 3


def state(model: keras.Model) -> list[Any]:
    return [np.asarray(each) for each in (*model.variables, *model.optimizer.variables)]


# By XLA, in a session with parts, and with random numbers.
@pytest.mark.parametrize("build", [dense, example_wise, with_dropout])
def test_fit_is_the_same_bit_for_bit(build: Callable[[], keras.Model]) -> None:
    model = build()
    model.optimizer.build(model.trainable_variables)
    before = state(model)
    ahead = compile_ahead(model, TRAINING, BATCH, _SEED)
    assert ahead is not None
    for now, then in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(now, then)
    result = run(model, seed=_SEED, ahead=ahead)
    assert result.seconds > ahead.seconds
    other = build()
    expected = run(other, seed=_SEED)
    assert result.history["loss"] == expected.history["loss"]
    assert result.compiler == expected.compiler
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


class Fails(OwnStep):
    def train_step(self, data: Any) -> dict[str, Any]:
        raise ArithmeticError("a step of the user's")


@pytest.mark.parametrize("kind", [Fails, OwnFit])
def test_what_cannot_be_compiled_ahead_is_left_to_the_fit(kind: type[keras.Model]) -> None:
    assert compile_ahead(dense(kind), TRAINING, BATCH, _SEED) is None
