"""Adam by TensorFlow's one kernel for it, instead of a dozen operations on each variable.

Keras writes Adam as operations on whole arrays, each of which reads and writes all of a variable's
numbers. XLA joins them, TensorFlow does not: they were a tenth of the reference CNN's step, a third
of a dense net's that XLA does not compile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from fm_mlflow.process.redaction import one_line

_log = logging.getLogger(__name__)


@contextmanager
def fused_adam(optimizer: Any) -> Iterator[None]:
    """Let Adam and AdamW, while a step is traced, update each variable in one operation.

    The kernel computes what `keras.optimizers.Adam.update_step` does, in the same order. One thing
    it rounds differently: `1 - beta`, which Keras takes from Python's numbers. With `beta_2=0.999`
    the first updates are larger by 6 millionths, and later ones by less.
    Sparse gradients, AMSGrad, subclasses and other optimizers are left to Keras, as is every
    variable from the first one on for which the operation cannot be had. Any optimizer may be
    given; it is as before when the context ends.
    """
    if type(optimizer) not in (keras.optimizers.Adam, keras.optimizers.AdamW) or optimizer.amsgrad:
        yield
        return
    by_keras = optimizer.update_step
    powers: dict[Any, tuple[Any, Any]] = {}
    works = True

    def fused(gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = optimizer._get_variable_index(variable)
        moments = optimizer._momentums[index].value, optimizer._velocities[index].value
        dtype = variable.dtype
        betas = [tf.cast(beta, dtype) for beta in (optimizer.beta_1, optimizer.beta_2)]
        # The same for all variables; a branch (gradient accumulation) has a graph of its own.
        scope = tf.compat.v1.get_default_graph(), dtype
        if scope not in powers:
            step = tf.cast(optimizer.iterations + 1, dtype)
            powers[scope] = tf.pow(betas[0], step), tf.pow(betas[1], step)
        for each in (variable, *moments):
            each.read_value()  # so that the traced function knows this variable as its own
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=moments[0].handle,
            v=moments[1].handle,
            beta1_power=powers[scope][0],
            beta2_power=powers[scope][1],
            lr=tf.cast(learning_rate, dtype),
            beta1=betas[0],
            beta2=betas[1],
            epsilon=tf.cast(optimizer.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )

    def update_step(gradient: Any, variable: Any, learning_rate: Any) -> None:
        nonlocal works
        if works and isinstance(gradient, tf.Tensor):
            try:
                fused(gradient, variable, learning_rate)
            except Exception as error:
                works = False
                _log.warning("Adam is left to Keras: %s", one_line(error))
            else:
                return
        by_keras(gradient, variable, learning_rate)

    optimizer.update_step = update_step
    try:
        yield
    finally:
        del optimizer.update_step
