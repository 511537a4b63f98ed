"""A digest of a model's weights, which identifies a trained model."""

from __future__ import annotations

import hashlib

import keras
import numpy as np


def weights_digest(model: keras.Model) -> str:
    """SHA-256 of a model's weights, in hexadecimal: of shapes, types and values.

    It depends neither on the file that held them nor on the order or the names that Keras gives
    them, which loading may change.
    """
    digests = sorted(
        hashlib.sha256(
            f"{weight.dtype.name}{weight.shape}".encode() + np.ascontiguousarray(weight).tobytes()
        ).hexdigest()
        for weight in model.get_weights()
    )
    return hashlib.sha256("".join(digests).encode()).hexdigest()
