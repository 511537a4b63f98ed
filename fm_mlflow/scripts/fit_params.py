"""Parameters of several fits in one run: a store keeps each as it was first logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOST_TOLD = 20
"""Fits whose differences are logged; a script may fit in a loop."""


class FitParams:
    """Names the parameters of a run's fits: those of later ones only where they differ."""

    def __init__(self) -> None:
        self.fits = 0
        self._first: dict[str, Any] = {}

    def named(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters of the fit that is under way as they are logged: `fit_2/epochs`."""
        if self.fits <= 1:
            self._first |= params
            return dict(params)
        if self.fits > _MOST_TOLD:
            return {}
        differing = {name for name, value in params.items() if self._first.get(name) != value}
        return {f"fit_{self.fits}/{name}": params[name] for name in params if name in differing}
