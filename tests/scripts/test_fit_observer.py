"""What is seen of the steps of a fit, whatever the fit is given."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from fm_mlflow.scripts.fit_observer import FitObserver
from fm_mlflow.scripts.fit_surroundings import (
    Given,
    callbacks_of_fit,
    data_of_fit,
    first_examples,
    made_up_examples,
)
from tests.scripts.nets import (
    LABELS,
    Batches,
    Noisy,
    OwnStep,
    Scalars,
    X,
    Y,
    regression,
    texts,
    two_by_two,
)


class Watching(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
    """Observes a fit as `CostCallback` does."""

    def __init__(self) -> None:
        super().__init__()
        self.first_steps = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.callbacks = callbacks_of_fit()
        self.data = data_of_fit(self.model)
        self.observer = FitObserver(self.model, self._count)
        self.observer.attach()

    def _count(self) -> None:
        self.first_steps += 1

    def on_train_end(self, logs: Any = None) -> None:
        self.observer.detach()


def watch(model: keras.Model, *data: Any, **options: Any) -> Watching:
    watching = Watching()
    before = model.train_function
    model.fit(*data, verbose=0, callbacks=[watching], **options)
    assert "train_step" not in vars(model)
    assert model.train_function is not None
    assert before is None or model.train_function is before or options
    assert watching.first_steps == 1
    assert any(each is watching for each in watching.callbacks)
    return watching


def _forever() -> Iterator[tuple[Any, Any]]:
    while True:
        yield X[:20], Y[:20]


@pytest.mark.parametrize(
    ("data", "options", "batch_size", "examples"),
    [
        ((X, Y), {"batch_size": 32, "epochs": 2}, 32, 200),
        ((X, Y), {"batch_size": 300}, 100, 100),
        ((X, Y), {"validation_split": 0.2, "batch_size": 20}, 20, 80),
        ((tf.data.Dataset.from_tensor_slices((X, Y)).batch(30),), {}, 30, 100),
        ((Batches(),), {}, 20, 100),
        ((_forever(),), {"steps_per_epoch": 3}, 20, 60),
        ((X, Y), {"sample_weight": np.ones(100), "batch_size": 50}, 50, 100),
    ],
    ids=["arrays", "one batch", "split", "tf.data", "PyDataset", "generator", "weights"],
)
def test_batch_size_and_examples_are_those_of_the_steps(
    data: tuple[Any, ...], options: dict[str, Any], batch_size: int, examples: int
) -> None:
    seen = watch(regression(), *data, **options).observer

    assert (seen.batch_size, seen.examples) == (batch_size, examples)
    inputs, targets, *weights = seen.data
    assert (inputs.shape[1:], inputs.dtype, len(targets.shape)) == ((12,), "float32", 1)
    assert len(weights) == ("sample_weight" in options)


@pytest.mark.parametrize("how", ["steps_per_execution", "jit_compile", "run_eagerly"])
def test_compilations_of_all_kinds_are_seen(how: str) -> None:
    model = regression(**{how: 3 if how == "steps_per_execution" else True})

    seen = watch(model, X, Y, batch_size=32, epochs=2).observer

    assert (seen.batch_size, seen.examples) == (32, 200)


def test_a_second_fit_is_not_compiled_again_and_counts_anew() -> None:
    model = regression()
    watch(model, X, Y, batch_size=32)
    compiled = model.train_function

    seen = watch(model, X[:60], Y[:60], batch_size=20).observer

    assert model.train_function is compiled
    assert (seen.batch_size, seen.examples) == (20, 60)


def test_a_fit_is_seen_after_one_that_nobody_saw() -> None:
    model = regression()
    model.fit(X, Y, verbose=0)

    assert watch(model, X, Y, batch_size=50).observer.examples == 100


@pytest.mark.parametrize("build", [regression, Noisy])
def test_observing_changes_nothing_of_the_training(build: Callable[[], keras.Model]) -> None:
    losses = []
    for callbacks in ([], [Watching()]):
        keras.utils.set_random_seed(1)
        model = build()
        model.compile("sgd", "mse")
        targets = () if build is Noisy else (Y,)
        fitted = model.fit(X, *targets, verbose=0, epochs=2, callbacks=callbacks)
        losses.append(fitted.history["loss"])

    assert losses[0] == losses[1]


def test_structures_texts_and_own_steps_are_seen() -> None:
    model, inputs, targets = two_by_two()
    seen = watch(model, inputs, targets).observer
    assert set(seen.data[0]) == {"table", "text"}
    assert set(seen.data[1]) == {"price", "kind"}

    model, data = texts()
    assert watch(model, data).observer.data[0].dtype == "string"

    own = OwnStep()
    own.compile("sgd")
    assert watch(own, X).observer.data.shape[1:] == (12,)


def test_a_distributed_fit_counts_the_examples_of_all_devices() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = regression()

    assert watch(model, X, Y, batch_size=25).observer.examples == 100


def test_the_first_examples_are_those_of_the_data() -> None:
    expected = (X[:10], Y[:10])
    batched = tf.data.Dataset.from_tensor_slices((X, Y)).batch(30)
    for x, y in ((X, Y), (tf.constant(X), Y), (batched, None), (Batches(), None)):
        for found, wanted in zip(first_examples(Given(x, y), 10), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    mapping = first_examples(Given({"a": X, "b": LABELS}, None, Y), 3)
    np.testing.assert_array_equal(mapping[0]["b"], LABELS[:3])
    assert first_examples(Given(_forever())) is None


def test_examples_that_are_made_up_have_the_shapes_and_types_of_the_step() -> None:
    model, data = texts()
    texts_specs = watch(model, data).observer.data
    model, inputs, targets = two_by_two()
    specs = watch(model, inputs, targets).observer.data

    made_up = made_up_examples(specs)
    words = made_up_examples(texts_specs)[0]

    assert made_up[0]["table"].shape[1:] == (12,)
    assert made_up[0]["text"].dtype.kind == "i"
    assert words.dtype.kind == "U"


def test_a_model_is_freed_after_its_fit() -> None:
    model = regression()
    watch(model, X, Y)
    alive = weakref.ref(model)
    del model
    gc.collect()

    assert alive() is None


def test_what_a_script_put_on_its_model_stays() -> None:
    model = regression()
    seen = []
    step = model.train_step

    def own(data: Any) -> Any:
        seen.append(data)
        return step(data)

    model.train_step = own
    model.fit(X, Y, verbose=0, callbacks=[Watching()])
    assert seen
    assert model.train_step is own

    class Remaking(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:  # as after a change of what is trained
                self.model.make_train_function(force=True)
                self.made = self.model.train_function

    remaking = Remaking()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[Watching(), remaking])
    assert model.train_function is remaking.made


def test_data_that_have_no_examples_do_not_fail_the_fit() -> None:
    for data in (tf.data.Dataset.from_tensor_slices(X[:3, 0]), tf.data.Dataset.range(2).map(_flat)):
        model = Scalars()
        model.compile("sgd")
        seen = watch(model, data).observer
        assert (seen.batch_size, seen.examples) == (None, 0)
    model = Scalars()
    model.compile("sgd")
    ragged = tf.data.Dataset.from_tensor_slices(tf.ragged.constant([[1.0, 2.0], [3.0], []]))
    seen = watch(model, ragged.batch(2)).observer
    assert (seen.batch_size, seen.examples) == (2, 3)


def _flat(number: Any) -> Any:
    """Return a scalar whose shape is unknown before the step runs."""
    scalar = tf.cast(number, "float32")
    return tf.numpy_function(lambda x: x, [scalar], tf.float32)
