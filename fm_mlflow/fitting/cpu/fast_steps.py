"""The fastest training steps that a model and this machine allow, and the ways to fall back."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import keras

from fm_mlflow.fitting.cpu import onednn
from fm_mlflow.fitting.cpu.adam import fused_adam
from fm_mlflow.fitting.cpu.parts import in_parts, may_move, parts_of
from fm_mlflow.fitting.cpu.session import CannotMoveError, SessionSteps
from fm_mlflow.fitting.examples import Examples, Window
from fm_mlflow.fitting.steps import Compiler, Steps
from fm_mlflow.process.redaction import one_line

_log = logging.getLogger(__name__)


def fast_steps(
    model: keras.Model,
    examples: Examples,
    window: Window,
    batch_size: int,
    compiler: Compiler | None,
) -> Steps | None:
    """Set up a model's training steps the fastest way that works.

    Whatever fails while a way is set up, the next plainer one is tried; nothing has been trained
    by then. `Steps.description` says which way it is. The model's optimizer must be built; the
    other arguments are those of `Steps`: a compiler that is given keeps the steps out of a session.

    Returns:
        The steps; None where only `Steps` without any acceleration is left.
    """
    settings = examples, window, batch_size
    with fused_adam(model.optimizer):
        for parts, with_onednn in _sessions(model, batch_size) if compiler is None else ():
            step = in_parts(model, parts) if parts > 1 else model.train_step
            try:
                return SessionSteps(step, *settings, parts, with_onednn)
            except CannotMoveError as error:
                _log.info("the training step stays out of a session: %s", error)
                break
            except Exception as error:
                wanted = f"parts: {parts}, oneDNN's kernels: {with_onednn}"
                _log.warning("no session for the training steps (%s): %s", wanted, one_line(error))
        try:
            return Steps(model.train_step, *settings, compiler)
        except Exception as error:  # the caller sees it again, if the model is to blame
            _log.debug("the training steps cannot be accelerated: %s", one_line(error))
            return None


def _sessions(model: keras.Model, batch_size: int) -> Iterable[tuple[int, bool]]:
    """Return the sessions to try: in how many parts, and whether to ask for oneDNN's kernels."""
    try:
        parts = parts_of(model, batch_size)
        left_off = onednn.is_left_off() and may_move(model)
    except Exception as error:
        _log.warning("no session for the training steps: %s", one_line(error))
        return ()
    ways = dict.fromkeys([(parts, left_off), (parts, False), (1, left_off)])
    ways.pop((1, False), None)  # gains nothing
    return ways
