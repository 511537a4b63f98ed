"""What `sweep` returns: the search, the proof, and what both together recommend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fm_mlflow.results import Result
from fm_mlflow.results.compare import CompareResult
from fm_mlflow.settings.space import Range
from fm_mlflow.settings.sweep import SweepConfig

TrialStatus = Literal["trained", "stopped", "bounded out", "failed"]


@dataclass(frozen=True)
class SweepTrial:
    """What came of one trial.

    Attributes:
        number: In the order of the proposals.
        settings: What was proposed, as text by name.
        status: Trained to the end; stopped at a rung; not trained, because of a bound; failed.
        epochs: That it was trained for.
        value: The metric of the validation data after these; None where there is none.
        curve: The same by epoch.
        costs: What is known of its model before training, by logged name.
        training_flops: Of its training steps; None where they were not counted.
        note: Which bound it exceeds, or why it failed.
        is_default: Whether these are the settings that the model has by itself.
        on_front: Whether no other trial of as many epochs is better and as cheap.
    """

    number: int
    run_id: str
    settings: Mapping[str, str]
    status: TrialStatus
    epochs: int
    value: float | None
    curve: Mapping[int, float]
    costs: Mapping[str, float]
    training_flops: float | None
    note: str = ""
    is_default: bool = False
    on_front: bool = False


@dataclass(frozen=True)
class Finalist:
    """Settings that were trained from scratch with fresh seeds, and what that showed.

    Attributes:
        entry: The model as a benchmark lists it, with arguments and settings of its own.
        number: Of its trial; None of a default that was no trial.
        is_default: Whether these are the settings that the model has by itself.
        group: What the comparison calls it; empty where none of its trainings finished.
        searched: The metric of the validation data in the search.
        proven: Mean over the fresh seeds of the same metric on the test set.
        proven_low: Lower end of its 95% interval; None for one seed.
        proven_high: Upper end, likewise.
        cost: The sweep's cost, by the fresh trainings.
        against_default: The comparison's verdict on it and the default, in words.
    """

    entry: str
    number: int | None
    is_default: bool
    group: str = ""
    searched: float | None = None
    proven: float | None = None
    proven_low: float | None = None
    proven_high: float | None = None
    cost: float | None = None
    against_default: str = ""

    @property
    def flattered(self) -> float | None:
        """By how much the search's figure is above the proven one; None where one is missing."""
        if self.searched is None or self.proven is None:
            return None
        return self.searched - self.proven


@dataclass(frozen=True)
class Spent:
    """What a search took, and what was saved.

    Attributes:
        seconds: Wall time, of all calls together.
        flops: Of the training steps of all trials; those that were not counted are left out.
        epochs: Trained, of all trials together.
        full_epochs: That all trials would have taken to the last rung.
        bounded_out: Trials that a bound kept from training.
        bounded_flops: What training these would have taken, where it was counted.
        stopped: Trials that halving stopped early.
    """

    seconds: float
    flops: float
    epochs: int
    full_epochs: int
    bounded_out: int
    bounded_flops: float
    stopped: int


@dataclass(frozen=True)
class SweepResult(Result):
    """A sweep.

    Attributes:
        run_id: The parent run.
        tracking_uri: The store, any password hidden.
        space: What was searched, as text.
        ranges: The same by name.
        trials: By number.
        finalists: The default first.
        recommended: The finalist to change to, as a benchmark lists it; empty for no change.
        reason: Why, in words.
        importance: Share of the metric's variance that each setting explains; empty where that
            is not known.
        ended: Why the search ended, in words.
        comparison: Of the finalists; None where none was trained.
        files: Where the report is, by name.
    """

    run_id: str
    run_name: str
    experiment_id: str
    tracking_uri: str
    config: SweepConfig
    space: str
    ranges: Mapping[str, Range]
    trials: tuple[SweepTrial, ...]
    finalists: tuple[Finalist, ...]
    recommended: str
    reason: str
    spent: Spent
    importance: Mapping[str, float] = field(default_factory=dict)
    ended: str = ""
    comparison: CompareResult | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def advice(self) -> str:
        """The recommended settings; else that there is no change, or nothing to base one on."""
        return self.recommended or ("no change" if self.comparison else "nothing, without proof")

    @property
    def front(self) -> tuple[SweepTrial, ...]:
        """The trials on the front, the best metric first."""
        on_front = (trial for trial in self.trials if trial.on_front)
        cost = self.config.cost
        # Along a front, what is better is dearer.
        return tuple(sorted(on_front, key=lambda trial: -trial.costs.get(cost, 0.0)))
