"""Packages that are not installed: their imports fail as ever, without a search."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder

import pytest

from fm_mlflow.process.absent import known_absent


def test_what_is_absent_is_not_searched_for_and_the_rest_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched: list[str] = []
    found = PathFinder.find_spec

    def find_spec(name: str, *given: object) -> object:
        searched.append(name)
        return found(name, *given)  # type: ignore[arg-type]

    with known_absent(["not_installed_at_all", "colorsys"]):
        monkeypatch.setattr(PathFinder, "find_spec", find_spec)
        for _ in range(2):
            with pytest.raises(ModuleNotFoundError, match="No module named 'not_installed_at_all'"):
                importlib.import_module("not_installed_at_all.within")
        assert searched == []
        monkeypatch.delitem(sys.modules, "colorsys", raising=False)
        importlib.import_module("colorsys")
        assert searched == ["colorsys"]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("not_installed_at_all")
    assert searched == ["colorsys", "not_installed_at_all"]
