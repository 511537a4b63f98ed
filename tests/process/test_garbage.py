"""Garbage of a block is collected; what is frozen stays so only where others froze it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from fm_mlflow.process import garbage
from fm_mlflow.process.garbage import own_garbage_collected


class Circle:
    def __init__(self) -> None:
        self.own = self


@pytest.fixture
def _nothing_is_frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo, for the length of a test, what the tests freeze."""
    monkeypatch.setattr(garbage, "_others_freeze", False)
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.usefixtures("_nothing_is_frozen")
def test_what_it_freezes_is_unfrozen_at_the_end() -> None:
    for _ in range(2):
        with own_garbage_collected():
            circle = weakref.ref(Circle())
            with own_garbage_collected():
                assert gc.get_freeze_count() > 0
            assert gc.get_freeze_count() > 0
        assert circle() is None
        assert gc.get_freeze_count() == 0


@pytest.mark.usefixtures("_nothing_is_frozen")
def test_what_others_froze_stays_frozen() -> None:
    gc.freeze()
    for _ in range(2):
        with own_garbage_collected():
            circle = weakref.ref(Circle())
        assert circle() is None
        assert gc.get_freeze_count() > 0
