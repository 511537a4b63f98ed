"""Settings of a sweep: what is searched, by what, within which bounds and budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

from pydantic import Field, model_validator
from typing_extensions import Self

from fm_mlflow import keys
from fm_mlflow.errors import InputError
from fm_mlflow.settings.base import Optional, check_id
from fm_mlflow.settings.config import Protocol
from fm_mlflow.settings.model_reference import MODEL_ACCEPTED, ModelReference
from fm_mlflow.settings.placement import Placement
from fm_mlflow.settings.selection import FEWEST_SEEDS, MARGIN, Seeds
from fm_mlflow.settings.space import RANGES_ACCEPTED, TRAINING_SETTINGS, parse_space

SearchedCost = Literal[
    "flops/inference",
    "flops/training",
    "parameters/trainable",
    "size/inference_mib",
    "memory/peak_rss_mib",
]
"""Costs that a search weighs the metric against: the same wherever and whenever it runs."""

BOUNDS = {
    "max_flops": keys.FLOPS_INFERENCE,
    "max_training_flops": keys.FLOPS_TRAINING,
    "max_parameters": keys.PARAMETERS_TRAINABLE,
    "max_size_mib": keys.SIZE_INFERENCE,
}
"""Settings that bound what is known of a model before it is trained."""

OF_THE_PROOF = ("seeds", "max_seeds", "alpha", "margin")
"""Settings that say how the finalists are proven."""

_SPLIT_ACCEPTED = "a number above 0 and below 1: the test set selects nothing"
_METRIC_ACCEPTED = "a metric of the validation data, as it is logged each epoch: val_accuracy"


class _Search(Seeds):
    group: ClassVar[str] = "How it is searched and proven"

    model: str = Field(
        "mlp",
        description=f"Model to search: {MODEL_ACCEPTED}; arguments that follow a question mark "
        "stay as they are: cnn?dense=64.",
    )
    space: str = Field(
        "",
        description="What to search beside the ranges in the model's own annotations: "
        f"{RANGES_ACCEPTED}. Arguments of the model, {', '.join(TRAINING_SETTINGS)}.",
        json_schema_extra={"accepted": RANGES_ACCEPTED, "repeated": True},
    )
    metric: str = Field(
        keys.VAL_ACCURACY,
        description="What the search improves: a metric of the validation data.",
        json_schema_extra={"accepted": _METRIC_ACCEPTED},
    )
    cost: SearchedCost = Field(
        "flops/inference", description="What the search saves, and finalists are compared by."
    )
    trials: int = Field(24, ge=1, le=10_000, description="Settings to try, at most.")
    min_epochs: int = Field(
        1,
        ge=1,
        description="Epochs after which the weaker half of the trials stops for the first time; "
        "as many as --epochs stops none.",
    )
    budget_flops: Optional[float] = Field(
        None, gt=0, description="FLOPs of training after which the search begins no new round."
    )
    budget_minutes: Optional[float] = Field(
        None, gt=0, description="The same in minutes, those of earlier calls included."
    )
    max_flops: Optional[float] = Field(
        None, gt=0, description="Most FLOPs to predict an image; checked before training."
    )
    max_training_flops: Optional[float] = Field(
        None, gt=0, description="Most FLOPs to train on an image; checked before training."
    )
    max_parameters: Optional[float] = Field(
        None, gt=0, description="Most trainable parameters; checked before training."
    )
    max_size_mib: Optional[float] = Field(
        None, gt=0, description="Most MiB to ship for predicting; checked before training."
    )
    sampler: Literal["tpe", "random"] = Field(
        "tpe", description="How settings are proposed: learning from the trials, or at random."
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the proposals.")
    warm: bool = Field(
        True,
        description="Several trials one after the other in one process, where --cost is not "
        "memory; false: each in a process of its own.",
    )
    finalists: int = Field(
        4, ge=0, le=20, description="Settings to prove with fresh seeds, at most; 0 proves none."
    )
    margin: float = MARGIN
    jobs: int = Field(1, ge=1, le=1000, description="Processes at a time.")
    resume: str = Field(
        "", description="Id of a sweep's run: do what it has left undone, with its settings."
    )
    output: str = Field("sweep", description="Folder for the report's files.")


class SweepConfig(Placement, Protocol, _Search):  # fields: of the last base first
    """Everything that shapes one sweep. Frozen; unknown names are refused."""

    validation_split: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Last share of the training images held out: it selects, the test set proves.",
        json_schema_extra={"accepted": _SPLIT_ACCEPTED},
    )

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        if self.validation_split == 0:
            raise InputError("validation_split", 0, _SPLIT_ACCEPTED)
        ModelReference.parse(self.model)
        parse_space(self.space)
        if not self.metric.startswith("val_"):
            raise InputError("metric", self.metric, _METRIC_ACCEPTED)
        if self.min_epochs > self.epochs:
            raise InputError("min_epochs", self.min_epochs, f"up to --epochs: {self.epochs}")
        return self

    @property
    def is_warm(self) -> bool:
        """Whether a process takes several trials."""
        return self.warm and self.cost != keys.MEMORY_PEAK

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are set, by the logged name of what they bound."""
        values = ((key, getattr(self, option)) for option, key in BOUNDS.items())
        return {key: cast(float, value) for key, value in values if value is not None}

    def seeds_of_the_proof(self, entries: Sequence[str]) -> dict[str, Any]:
        """Return how many seeds the benchmark of the finalists trains, and what decides that."""
        if self.seeds == "auto" and len(entries) == 1:  # which leaves nothing to decide
            return {"seeds": FEWEST_SEEDS, "margin": self.margin}
        return {name: getattr(self, name) for name in OF_THE_PROOF}

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which weaker trials stop, ascending; the last are all of them."""
        rungs = []
        epochs = self.min_epochs
        while epochs * 1.5 <= self.epochs:  # a shorter step would not be worth a new process
            rungs.append(epochs)
            epochs *= 2
        return (*rungs, self.epochs)


class TrialsConfig(SweepConfig):
    """Which trials a process trains: the settings of `trials`, which `sweep` calls with its own."""

    group: ClassVar[str] = "Which trials"

    runs: str = Field("", description="Ids of trials and the epochs to reach: ID:EPOCHS,ID:EPOCHS.")

    @property
    def pieces(self) -> dict[str, int]:
        """The epochs to reach by the id of each trial's run."""
        found = {}
        for part in self.runs.split(","):
            run_id, _, epochs = part.partition(":")
            if not epochs.isdecimal():
                raise InputError("runs", self.runs, "ID:EPOCHS, several with commas")
            check_id("runs", run_id)
            found[run_id] = int(epochs)
        return found
