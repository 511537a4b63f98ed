"""What a classifier gives: probabilities, or logits that a softmax makes probabilities of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def are_probabilities(outputs: NDArray[np.floating[Any]]) -> bool:
    """Tell whether outputs of shape (n, classes) are probabilities; else they are logits."""
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3))
