"""How often trainings and trials were lost with their machines, and whether that was too often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from fm_mlflow.analysis.prose.words import counted


class Losses:
    """Counts what was lost, by run, and decides whether another machine continues it.

    Args:
        retries: How often one run is continued.
        notice: Hears what is decided, in one line.
    """

    def __init__(self, retries: int, notice: Callable[[str], None]) -> None:
        self._retries = retries
        self._notice = notice
        self._lost: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many losses there were, of all runs."""
        return self._lost.total()

    def may_continue(self, run_id: str, name: str, cause: str | None) -> bool:
        """Count a loss; tell whether the run is continued elsewhere.

        Args:
            run_id: What was lost.
            name: What a person calls it.
            cause: Why its place ended it.
        """
        self._lost[run_id] += 1
        losses = self._lost[run_id]
        if losses > self._retries:
            self._notice(f"{name} was lost {counted(losses, 'time')}; it is given up")
            return False
        self._notice(f"{name} was lost ({cause}); it is resumed: {losses} of {self._retries}")
        return True
