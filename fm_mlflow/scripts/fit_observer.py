"""What the training steps of a `model.fit` receive: how many examples, and arrays of which kind.

Keras tells a callback none of that. It is read where it passes by, and no step is run differently
for it: TensorFlow's compiled step counts in a variable; JAX and PyTorch are given each batch in
Python.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras

from fm_mlflow.measure.flops.specs import Structure
from fm_mlflow.process.redaction import one_line

_log = logging.getLogger("fm_mlflow")


@dataclass(frozen=True)
class Spec:
    """Shape and type of an array; None stands for a size that the step does not know."""

    shape: tuple[int | None, ...]
    dtype: str


class FitObserver:
    """Observes the training steps of one fit.

    Args:
        model: Compiled.
        on_first_step: Called after the first call of the compiled step; must not raise.
        on_error: Called with what a step raises before the fit gets it; likewise.
    """

    def __init__(
        self,
        model: keras.Model,
        on_first_step: Callable[[], None],
        on_error: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        self._model = model
        self._on_first_step = on_first_step
        self._on_error = on_error
        self._calls = 0
        self._steps: _Steps | None = None
        self._function: Callable[..., Any] | None = None
        self._observed: Callable[..., Any] | None = None

    def attach(self) -> None:
        """Begin to observe; call it in `on_train_begin`, when Keras has made its step."""
        self._steps = steps = _KINDS[keras.backend.backend()].of(self._model)
        function = self._model.train_function

        def train_function(*arguments: Any) -> Any:
            try:
                result = function(*steps.passing(arguments))
            except BaseException as error:
                self._on_error(error)
                raise
            self._calls += 1
            if self._calls == 1:
                steps.end_first_call()
                self._on_first_step()
            return result

        self._model.train_function = self._observed = train_function
        self._function = function

    def detach(self) -> None:
        """Give the model its compiled step back, unless somebody has given it another meanwhile."""
        if self._observed is not None and self._model.train_function is self._observed:
            self._model.train_function = self._function
        self._function = self._observed = None

    @property
    def data(self) -> Structure:
        """Specs of what a step receives, (inputs, targets, weights) as a rule; None before."""
        return self._steps.data if self._steps and self._calls else None

    @property
    def batch_size(self) -> int | None:
        """Examples of the first step; None before it, and where they cannot be counted."""
        if self._steps is None or self._steps.has_failed or not self._calls:
            return None
        return self._steps.first or None

    @property
    def examples(self) -> int:
        """Examples that the steps have received so far; 0 where they cannot be counted."""
        return self._steps.examples if self._steps and not self._steps.has_failed else 0


class _Steps:
    """The steps of a fit that are given their batches in Python: those of PyTorch.

    Attributes:
        data: Specs of the first batch.
        has_failed: Some batch could not be counted, so that no count is true.
    """

    def __init__(self) -> None:
        self.data: Structure = None
        self._first = 0
        self._examples = 0
        self.has_failed = False

    @classmethod
    def of(cls, _model: keras.Model) -> _Steps:
        """Return the steps of a fit of the model that begins now."""
        return cls()

    @property
    def first(self) -> int:
        return self._first

    @property
    def examples(self) -> int:
        return self._examples

    def end_first_call(self) -> None:
        """Hear that the compiled step was called once."""

    def passing(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments of Keras' compiled step; note the batches that they hold."""
        for batch in arguments[0]:
            self.note(batch)
        return arguments

    def note(self, batch: Structure) -> None:
        """Count a batch; one that cannot be counted is none of the fit's business."""
        if self.has_failed:
            return
        try:
            self._count(batch)
        except Exception as error:  # data may be anything that the model's own step takes
            self.has_failed = True
            _log.warning("the examples of the steps cannot be counted: %s", one_line(error))

    def _count(self, batch: Structure) -> None:
        size = int(_leaf(batch).shape[0])
        if self.data is None:
            self.data, self._first = keras.tree.map_structure(_spec, batch), size
        self._examples += size


class _JaxSteps(_Steps):
    """The steps of a fit on JAX: they draw their batches from an iterator of Python's."""

    def passing(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        *state, batches = arguments
        return (*state, self._noted(batches))

    def _noted(self, batches: Iterator[Structure]) -> Iterator[Structure]:
        for batch in batches:
            self.note(batch)
            yield batch


class _TensorFlowSteps(_Steps):
    """The steps of a fit on TensorFlow, counted by variables of the traced step.

    Each operation costs every step some 10 µs: of the first batch's size there is a variable only
    where a call does several steps.
    """

    @classmethod
    def of(cls, model: keras.Model) -> _TensorFlowSteps:
        """Return those of an earlier fit, counting anew, while the model has the same function."""
        # Kept by the function itself: a table of models would keep them alive.
        known = getattr(model.train_function, _STEPS, None)
        if isinstance(known, cls) and not known.has_failed:
            known._counter.assign(0)
            known._first = 0
            return known
        # Another function may have been traced before anybody observed it.
        return cls(model)

    def __init__(self, model: keras.Model) -> None:
        import tensorflow as tf

        super().__init__()
        is_one_a_call = model.steps_per_execution == 1
        # Of all devices together, where the fit is distributed.
        with model.distribute_strategy.scope():
            self._counter, *first = (
                tf.Variable(
                    0,
                    trainable=False,
                    dtype=tf.int64,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )
                for _ in range(1 if is_one_a_call else 2)
            )
        self._first_size = first[0] if first else None
        step, of_the_script = model.train_step, vars(model).get("train_step")

        def train_step(data: Structure) -> Any:
            # Counted afterwards: TensorFlow derives seeds from the operations there are before.
            result = step(data)
            self.note(data)
            return result

        model.train_step = train_step
        try:
            model.make_train_function(force=True)
        finally:
            if of_the_script is None:
                del model.train_step
            else:
                model.train_step = of_the_script
        with contextlib.suppress(AttributeError):  # else the next fit is compiled again
            setattr(model.train_function, _STEPS, self)

    def _count(self, batch: Structure) -> None:
        import tensorflow as tf

        if self.data is None or not tf.executing_eagerly():  # the last batch may be smaller
            self.data = keras.tree.map_structure(_spec, batch)
        leaf = _leaf(batch)
        if isinstance(leaf, tf.RaggedTensor):
            size = leaf.nrows(tf.int64)
        elif leaf.shape.rank:
            size = tf.shape(leaf, out_type=tf.int64)[0]
        else:  # a scalar has no examples, whether that is known now or seen when the step runs
            size = tf.reduce_sum(tf.shape(leaf, out_type=tf.int64)[:1])
        if self._first_size is not None:
            is_first = tf.equal(self._counter, 0)
            self._first_size.assign(tf.where(is_first, size, self._first_size))
        self._counter.assign_add(size)

    def end_first_call(self) -> None:
        if self._first_size is None:
            self._first = self.examples

    @property
    def first(self) -> int:
        return self._first if self._first_size is None else int(self._first_size.numpy())

    @property
    def examples(self) -> int:
        return int(self._counter.numpy())

    def passing(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return arguments


_STEPS = "_fm_mlflow_steps"

_KINDS: dict[str, type[_Steps]] = {
    "tensorflow": _TensorFlowSteps,
    "jax": _JaxSteps,
    "torch": _Steps,
}


def _spec(array: Any) -> Spec | None:
    if array is None:
        return None
    return Spec(tuple(array.shape), keras.backend.standardize_dtype(array.dtype))


def _leaf(data: Structure) -> Any:
    return next(leaf for leaf in keras.tree.flatten(data) if leaf is not None)
