"""Keeps Python's garbage collector from looking where there is none, and lets traced graphs go."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Look for cycles less often while millions of objects come that will stay.

    Python would go through all of them again and again: a quarter of the time that TensorFlow and
    MLflow take to import, half of the time that MLflow takes to read 10,000 runs. The peak of
    memory is the same.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


_others_freeze = False
"""Whether objects were found frozen that are not ours to unfreeze."""


@contextmanager
def own_garbage_collected() -> Iterator[None]:
    """Collect at the end what was made inside and is garbage, and look at nothing else.

    A graph of TensorFlow is a circle of ten thousands of objects, which otherwise stays until
    Python happens to go through all objects of the process.
    """
    global _others_freeze
    # To count a million frozen objects takes 50 ms, so it is done once.
    _others_freeze = _others_freeze or gc.get_freeze_count() > 0
    is_first = not _others_freeze
    if is_first:
        gc.freeze()
    try:
        with rare_garbage_collection():
            yield
    finally:
        gc.collect()
        if is_first:
            gc.unfreeze()
            _others_freeze = False  # what was found frozen inside was ours


def forget_gradients(names: Iterable[str]) -> None:
    """Let graphs go through which nobody will differentiate any more.

    TensorFlow keeps the gradient of every `tf.custom_gradient` that it has traced for as long as
    the process lives, and with it the graph and the variables that it holds: 40 MiB for a profile
    of a small net, as the sum of an optimizer's gradients over devices is one.

    Args:
        names: Of the gradients, as operations `IdentityN` have them.
    """
    ops = sys.modules.get("tensorflow.python.framework.ops")
    # In another version of TensorFlow the memory may stay in use.
    kept = getattr(getattr(ops, "gradient_registry", None), "_registry", {})
    for name in names:
        kept.pop(name, None)
