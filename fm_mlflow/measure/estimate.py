"""The rules of thumb that the measured costs are compared with.

They take every kernel weight once, so they are wrong wherever a weight is used more than once (a
convolution uses it at every output position), and they charge the first layer for a gradient with
respect to the images that nobody needs. They are kept because people still use them.
"""

from __future__ import annotations

import math

import keras

from fm_mlflow import keys
from fm_mlflow.measure.measurement import MIB, Measurement

_KERNELS = "kernel weights: every trainable variable whose name ends in 'kernel'"


def estimates(model: keras.Model) -> list[Measurement]:
    """Compute the three estimates of a built Keras model.

    Returns:
        `estimate/inference_flops` = 2 x kernel weights, `estimate/training_flops` = 3 x that (both
        an image), `estimate/training_memory_mib` = weights, gradients and one copy of state in
        float32.
    """
    kernel_weights = sum(
        math.prod(weight.shape)
        for weight in model.trainable_weights
        if weight.name.endswith("kernel")
    )
    figures = {
        keys.ESTIMATE_INFERENCE_FLOPS: ("2", 2 * kernel_weights),
        keys.ESTIMATE_TRAINING_FLOPS: ("3 x 2", 6 * kernel_weights),
        keys.ESTIMATE_TRAINING_MEMORY: ("3 x 4 bytes", 12 * kernel_weights / MIB),
    }
    if kernel_weights == 0:
        reason = "the model has no trainable kernel"
        return [Measurement.missing(key, _KERNELS, reason) for key in figures]
    return [
        Measurement.exact(key, value, f"estimated, {factor} x {_KERNELS}")
        for key, (factor, value) in figures.items()
    ]
