"""Which trainings run on which machine, and how many of them at a time."""

from __future__ import annotations


class Places:
    """Counts the trainings that share a machine, as far as an executor names machines."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}
        self._most: dict[str, int] = {}

    def enter(self, run_id: str, host: str) -> None:
        """Note that a training runs on a host."""
        if not host or self._now.get(run_id) == host:
            return
        self._now[run_id] = host
        beside = [each for each, place in self._now.items() if place == host]
        for each in beside:
            self._most[each] = max(self._most.get(each, 0), len(beside))

    def leave(self, run_id: str) -> None:
        """Note that a training does not run any more, for now or at all."""
        self._now.pop(run_id, None)

    def most(self, run_id: str) -> int | None:
        """Return how many there were at a time, itself included; None of unknown places."""
        return self._most.get(run_id)
