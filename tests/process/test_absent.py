"""A package that is not installed: its imports fail as ever, without a search."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec

import pytest

from fm_mlflow.process.absent import known_absent

ABSENT = "not_installed_at_all"


def test_what_is_absent_is_not_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []
    found = PathFinder.find_spec

    def search(name: str, *given: object) -> object:
        searched.append(name)
        return found(name, *given)  # type: ignore[arg-type]

    with known_absent(ABSENT):
        monkeypatch.setattr(PathFinder, "find_spec", search)
        with known_absent(ABSENT), pytest.raises(ModuleNotFoundError, match=ABSENT):
            importlib.import_module(f"{ABSENT}.within")
        assert find_spec(ABSENT) is None
        assert searched == []
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(ABSENT)
    assert searched == [ABSENT]


def test_what_is_installed_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with known_absent("colorsys"):
        assert importlib.import_module("colorsys").__name__ == "colorsys"
    assert "colorsys" in sys.modules
