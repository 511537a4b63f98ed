"""What registering a model says, as plain records: checks, gates, versions, the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fm_mlflow.errors import FmMlflowError
from fm_mlflow.results import Result

Outcome = Literal["registered", "moved", "unchanged", "refused", "dry run"]
"""A new version; the alias moved to an older one; nothing to do; nothing allowed; only looked."""

HOW_TO_LOG = (
    "`fm-mlflow train` logs one, and in a script `run.log_model(model, x[:8])` within "
    "`with fm_mlflow.track(...) as run:`"
)
"""What to do about a run without a model."""


@dataclass(frozen=True)
class Check:
    """One figure of a run, measured again.

    Attributes:
        figure: Its logged name, or what it is about.
        logged: What the run says, None where it does not.
        measured: What the logged model shows in a fresh process, None where it shows nothing.
        rule: What is demanded of the two, in words.
        passed: Whether that holds; None where nothing is demanded.
        by: Who found it: `us`, from files and predictions; or the `model` itself: the process that
            ran its code, which could have said something else; or the training `run`: it follows
            from what the run logged, which says nothing of the model.
    """

    figure: str
    logged: float | str | None
    measured: float | str | None
    rule: str
    passed: bool | None
    by: Literal["us", "model", "run"] = "us"


@dataclass(frozen=True)
class Gate:
    """One bound that a model must hold.

    Attributes:
        name: The option, or what it is held against.
        bound: What is demanded, in words.
        figure: What the model shows, in words.
        passed: Whether it holds.
        by: Who measured: `us`, or the process that ran the model's code.
        needed: What it would pass with, in words; empty where it passed.
    """

    name: str
    bound: str
    figure: str
    passed: bool
    by: Literal["us", "model"] = "us"
    needed: str = ""


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the registered model.

    Attributes:
        version: Its number.
        aliases: Names that point to it.
        run_id: The run that trained it; None where the registry does not say.
        model_uri: The logged model, `models:/<id>`; None likewise.
        tags: The evidence that it was promoted on, by name.
        created: Milliseconds since 1970.
    """

    version: int
    aliases: tuple[str, ...]
    run_id: str | None
    model_uri: str | None
    tags: Mapping[str, str]
    created: int

    def figure(self, name: str) -> float | None:
        """Return a figure of the evidence, None where there is none that is a number."""
        try:
            return float(self.tags[name])
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True)
class Champion:
    """The champion that a model was held against.

    Attributes:
        version: Its number.
        model: What was trained; empty where nothing says it.
        run_id: The run that trained it; None where the registry does not say.
        figures: Of its evidence, and what that lacks of its run, by logged name.
    """

    version: int
    model: str
    run_id: str | None
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Registration(Result):
    """What became of a promotion.

    Attributes:
        run_id: The run whose model it is.
        model_uri: The logged model, `models:/<id>`.
        name: The registered model.
        dataset: The data set that it belongs to, and that the model was verified on.
        dataset_digest: SHA-256 of its contents.
        metric: The metric that decides, by its logged name.
        direction: Which of two values of it is better: `higher` or `lower`.
        dataset_note: What says that, where the registered model has no record of it.
        version: The model's version there; None where there is none (yet).
        outcome: What was done.
        champion: The version that `champion` points to now.
        previous: The version that `previous` points to now.
        reason: Why this run.
        same_machine: Whether it was verified on the machine that trained it.
        checks: Every figure that was measured again.
        gates: Every bound.
        tracking_uri: The store, any password hidden.
        figures: Of the model, as far as they were measured again, else as its run logged them, by
            logged name.
        against: The champion that it was held against; None where there was none, or it was this.
        others: Which other runs would keep the bounds, where this one did not, in words.
    """

    run_id: str
    run_name: str
    model_uri: str
    name: str
    dataset: str
    dataset_digest: str
    metric: str
    direction: str
    dataset_note: str
    version: int | None
    outcome: Outcome
    champion: int | None
    previous: int | None
    reason: str
    same_machine: bool
    checks: tuple[Check, ...]
    gates: tuple[Gate, ...]
    tracking_uri: str
    figures: Mapping[str, float] = field(default_factory=dict)
    against: Champion | None = None
    others: str = ""

    @property
    def failed_checks(self) -> list[str]:
        """The figures that were not found again, one text each."""
        return [_failed(check) for check in self.checks if check.passed is False]

    @property
    def failures(self) -> list[str]:
        """What stands against it, one text a figure or bound."""
        gates = [
            f"{gate.name}: {gate.figure}, required: {gate.bound}"
            for gate in self.gates
            if not gate.passed
        ]
        return self.failed_checks + gates + ([self.others] if self.others else [])

    @property
    def needed(self) -> list[str]:
        """What would have to be true for it to pass, one text a figure or bound."""
        checks = [
            f"{check.figure}: a model that is what its run says; train it again, or find out what "
            "changed it"
            for check in self.checks
            if check.passed is False
        ]
        gates = [f"{gate.name}: {gate.needed}" for gate in self.gates if gate.needed]
        return checks + gates


def _failed(check: Check) -> str:
    logged = "nothing" if check.logged is None else check.logged
    measured = "nothing" if check.measured is None else check.measured
    return f"{check.figure}: logged {logged}, found {measured}, required: {check.rule}"


@dataclass(frozen=True)
class VersionList(Result):
    """The versions of a registered model, newest first.

    Attributes:
        name: The registered model.
        dataset: The data set that it belongs to; None where nothing says it.
        dataset_digest: SHA-256 of its contents; None likewise.
        versions: All of them.
        tracking_uri: The store, any password hidden.
    """

    name: str
    dataset: str | None
    dataset_digest: str | None
    versions: tuple[RegisteredVersion, ...]
    tracking_uri: str


@dataclass(frozen=True)
class Rollback(Result):
    """A champion that was brought back.

    Attributes:
        name: The registered model.
        dataset: The data set that it belongs to; None where nothing says it.
        dataset_digest: SHA-256 of its contents; None likewise.
        champion: The version that is the champion again.
        previous: The version that was it before.
        run_id: The run that trained the champion.
        tracking_uri: The store, any password hidden.
    """

    name: str
    dataset: str | None
    dataset_digest: str | None
    champion: int
    previous: int
    run_id: str | None
    tracking_uri: str


class GateError(FmMlflowError):
    """A model may not be promoted; nothing was changed.

    Args:
        reason: Which figure or bound is in the way.
        registration: What was checked, where it came that far (`Registration`).
    """

    exit_code = 3

    def __init__(self, reason: str, registration: Registration | None = None) -> None:
        super().__init__(f"not promoted: {' '.join(reason.split())}")
        self.registration = registration
