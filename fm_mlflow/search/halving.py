"""Rounds of a search: new settings, and successive halving of those that were begun.

A round is a function of the seed and of what the rounds before have shown: neither the time that
trials take nor the number of processes changes what is proposed or who goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fm_mlflow.search.fronts import point_of, ranks
from fm_mlflow.search.proposals import propose
from fm_mlflow.search.trials import Piece, Trial
from fm_mlflow.settings.space import Range

NEW_A_ROUND = 6
"""New trials a round: enough for a process to be worth its start, few enough to learn between."""

_KEPT = 2
"""One in so many goes on from each rung."""


@dataclass(frozen=True)
class Search:
    """How a space is searched.

    Attributes:
        space: What is searched.
        defaults: The settings that the model has by itself, where it has; they are tried first.
        rungs: Epochs after which the weaker half stops; the last are all.
        trials: How many at most.
        seed: Of the proposals.
        sampler: `tpe` or `random`.
    """

    space: Mapping[str, Range]
    defaults: Mapping[str, str] | None
    rungs: tuple[int, ...]
    trials: int
    seed: int
    sampler: str

    def next_round(self, known: Sequence[Trial], turn: int) -> list[Piece]:
        """Return what is to be done in a round; nothing where the search is over.

        Args:
            known: All trials, by number, as the rounds before have left them.
            turn: Number of the round, from 0.
        """
        pieces = [
            Piece(trial.number, trial.settings, epochs, trial.is_default)
            for trial, epochs in self._promoted(known)
        ]
        count = min(NEW_A_ROUND, self.trials - len(known))
        number = len(known)
        if count > 0 and number == 0 and self.defaults is not None:
            pieces.append(Piece(0, self.defaults, self.rungs[0], is_default=True))
            count, number = count - 1, 1
            known = [Trial(0, self.defaults)]
        if count > 0:
            proposed = propose(
                self.space,
                known,
                count,
                seed=self.seed,
                turn=turn,
                startup=NEW_A_ROUND,
                sampler=self.sampler,
            )
            pieces += [
                Piece(number + at, settings, self.rungs[0]) for at, settings in enumerate(proposed)
            ]
        return pieces

    def _promoted(self, known: Sequence[Trial]) -> list[tuple[Trial, int]]:
        """Return the trials that go on from their rung, and to how many epochs.

        Of all that reached a rung the better half goes on: first by fronts of metric and cost,
        then by the metric; the default always does, because all are measured by it.
        """
        promoted = []
        for rung, following in zip(self.rungs, self.rungs[1:], strict=False):
            reached = [trial for trial in known if rung in trial.values and trial.cost is not None]
            at_rung = [trial.up_to(rung) for trial in reached]
            points = [point for trial in at_rung if (point := point_of(trial)) is not None]
            order = sorted(
                zip(ranks(points), points, reached, strict=True),
                key=lambda each: (each[0], -each[1][0], each[1][1], each[2].number),
            )
            for place, (_, _, trial) in enumerate(order):
                is_better = place < len(order) // _KEPT or len(order) == 1
                if (is_better or trial.is_default) and trial.epochs == rung and not trial.failed:
                    promoted.append((trial, following))
        return sorted(promoted, key=lambda each: each[0].number)
