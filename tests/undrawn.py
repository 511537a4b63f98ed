"""Plots of trainings, drawn or not: matplotlib takes half a second to lay out two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from PIL import Image

from fm_mlflow.report import plots

_NAMES = ("save_learning_curve", "save_confusion_matrix", "save_memory_timeline")
_DRAWN = {name: getattr(plots, name) for name in _NAMES}


def _save_a_dot(*arguments: Any) -> None:
    Image.new("1", (1, 1)).save(arguments[-1])


@contextmanager
def undrawn() -> Iterator[None]:
    """Have trainings in this process save a picture of one dot for each plot."""
    with _plots_by(dict.fromkeys(_NAMES, _save_a_dot)):
        yield


@contextmanager
def drawn() -> Iterator[None]:
    """Have them draw what they draw for users, whatever holds for the tests around."""
    with _plots_by(_DRAWN):
        yield


@contextmanager
def _plots_by(functions: Mapping[str, Callable[..., None]]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, function in functions.items():
            patch.setattr(plots, name, function)
        yield
