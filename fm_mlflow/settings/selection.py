"""Settings of what reads a store: which runs, what is compared, how the best is chosen."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator
from typing_extensions import Self

from fm_mlflow import keys
from fm_mlflow.errors import InputError
from fm_mlflow.settings.base import Optional, Settings, Words

CostName = Literal[
    "flops/training",
    "flops/inference",
    "parameters/trainable",
    "memory/peak_rss_mib",
    "size/inference_mib",
    "latency/p50_ms",
    "time/fit_seconds",
    "energy/training_joules",
    "energy/inference_joules_per_1000",
    "energy/gpu_training_joules",
    "energy/gpu_inference_joules_per_1000",
]
"""Costs that a comparison weighs accuracy against (`fm_mlflow.analysis.costs`)."""


class Bounds(Settings):
    """What a model may cost at most. A model in which the cost was not measured exceeds it."""

    group: ClassVar[str] = "What the best may cost at most"

    max_training_flops: Optional[float] = Field(
        None, gt=0, description="Most FLOPs per training example."
    )
    max_flops: Optional[float] = Field(None, gt=0, description="Most FLOPs per prediction.")
    max_parameters: Optional[float] = Field(None, gt=0, description="Most trainable parameters.")
    max_peak_rss_mib: Optional[float] = Field(
        None, gt=0, description="Most resident memory of a training, in MiB."
    )
    max_size_mib: Optional[float] = Field(
        None, gt=0, description="Most MiB of what is shipped to predict."
    )
    max_latency_ms: Optional[float] = Field(
        None, gt=0, description="Longest median latency of a prediction, in ms."
    )
    max_fit_seconds: Optional[float] = Field(None, gt=0, description="Longest fit, in seconds.")


LONGEST_METRIC = 250
"""Characters of a metric's name in MLflow."""

USER_PREFIX = "user/"
"""Before a metric of the user's whose name is one of ours."""

OTHER_DATA = ("test_", "val_")
"""How metrics begin that are not of the training data, after `USER_PREFIX`."""

COST: CostName = Field(
    "flops/inference",
    description="Cost that decides between models of indistinguishable accuracy.",
)
OUTPUT: str = Field("comparison", description="Folder for the report's files.")
SMALLER_IS_BETTER: bool = Field(
    False, description="Less of the metric is better; by default its name says (mae: less)."
)
LARGER_IS_BETTER: bool = Field(
    False, description="More of the metric is better, whatever its name says."
)


def check_metric(metric: str, smaller_is_better: bool, larger_is_better: bool) -> None:
    """Refuse a metric that models cannot be compared by.

    Raises:
        InputError: It is a cost, or both directions were asked for.
    """
    if smaller_is_better and larger_is_better:
        raise InputError("larger_is_better", "true", "one of the two directions")
    if metric in get_args(CostName):
        accepted = "a metric that is no cost: models are compared by every cost in any case"
        raise InputError("metric", metric, accepted)


def is_of_other_data(metric: str) -> bool:
    """Tell whether a metric's name says that it is of the test or the validation data."""
    return metric.removeprefix(USER_PREFIX).startswith(OTHER_DATA)


def on_other_data(metric: str) -> tuple[str, ...]:
    """Return what a metric of the training data is called on the others: `test_mae`, `val_mae`."""
    prefix = USER_PREFIX if metric.startswith(USER_PREFIX) else ""
    return tuple(f"{prefix}{data}{metric.removeprefix(prefix)}" for data in OTHER_DATA)


MARGIN: float = Field(
    0.005,
    gt=0,
    le=1,
    description="Models are equivalent that differ by less: in accuracy, or as a share of another "
    "metric.",
)
PRICE: Optional[float] = Field(
    None, gt=0, description="Price of a core for an hour; costs are then in money, too."
)


MOST_SEEDS = 1000
FEWEST_SEEDS = 3
"""With which a benchmark of as many seeds as needed begins: two say too little of the spread."""


class Seeds(Settings):
    """How many seeds each model of a benchmark gets."""

    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] | Literal["auto"] = Field(
        5,
        description="Trainings of each model, with seeds from 0; auto: as many as it takes to "
        "decide.",
        json_schema_extra={"accepted": f"auto, or a whole number from 1 to {MOST_SEEDS}"},
    )
    max_seeds: int = Field(
        20, ge=FEWEST_SEEDS, le=MOST_SEEDS, description="With --seeds auto: most of each model."
    )
    alpha: float = Field(
        0.05,
        ge=0.0001,
        le=0.5,
        description="With --seeds auto: probability of any wrong verdict, at most.",
    )

    @property
    def most_seeds(self) -> int:
        """How many trainings of a model there are at most."""
        return self.max_seeds if self.seeds == "auto" else self.seeds

    @model_validator(mode="after")
    def _check_seeds(self) -> Self:
        for name in ("max_seeds", "alpha"):
            value = getattr(self, name)
            if self.seeds != "auto" and value != type(self).model_fields[name].default:
                raise InputError(name, value, "nothing without --seeds auto")
        return self


class Selection(Settings):
    """Which training runs of a store are meant."""

    group: ClassVar[str] = "Which runs"

    experiment: str = Field(
        "", description="Experiment; empty: the active one, else fm_mlflow; that of named runs."
    )
    runs: Words = Field("", description="Ids of runs to compare, with commas; others' runs too.")
    models: Words = Field("", description="Only these models, with commas.")
    dataset: str = Field(
        "",
        description="Only runs on this data set: its name, or how its digest begins; empty ranks "
        "those on the data of most runs.",
    )
    filter: str = Field("", description="MLflow filter of the runs: params.epochs = '5'.")


class RunsConfig(Selection):
    """Which runs `runs` returns. Frozen; unknown names are refused."""

    status: Literal["all", "FINISHED", "FAILED", "KILLED", "RUNNING"] = Field(
        "all", description="Only runs of this status."
    )


class Choice(Bounds, Selection):  # fields in the order of the bases, last first
    """Which runs are compared, by what, and by which rule the best is chosen."""

    group: ClassVar[str] = "How the best is chosen"

    cost: CostName = COST
    metric: str = Field(
        keys.TEST_ACCURACY,
        min_length=1,
        max_length=LONGEST_METRIC,
        description="Metric that models are compared by, as it was logged: test_..., val_... or "
        "one of your own, none of the training data.",
        json_schema_extra={
            "accepted": f"the name of a logged metric, of up to {LONGEST_METRIC} characters"
        },
    )
    smaller_is_better: bool = SMALLER_IS_BETTER
    larger_is_better: bool = LARGER_IS_BETTER

    @model_validator(mode="after")
    def _check_metric(self) -> Self:
        check_metric(self.metric, self.smaller_is_better, self.larger_is_better)
        return self


class CompareConfig(Choice):
    """Everything that shapes one comparison. Frozen; unknown names are refused."""

    group: ClassVar[str] = "Report"

    target_accuracy: Optional[float] = Field(
        None,
        gt=0,
        le=1,
        description="Validation accuracy for the cost to reach it; empty takes one that all reach.",
    )
    target: Optional[float] = Field(
        None, description="The same for any --metric: a value of it in validation."
    )
    margin: float = MARGIN
    price_per_core_hour: Optional[float] = PRICE
    top: int = Field(10, ge=2, le=1000, description="Most accurate models compared in pairs.")
    pictures: int = Field(
        12,
        ge=0,
        le=48,
        description="Test images of a kind, wrongly classified, that the report shows; 0: none.",
    )
    output: str = OUTPUT

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if self.target_accuracy is not None and self.target is not None:
            raise InputError("target", self.target, "nothing beside target_accuracy")
        if self.target_accuracy is not None and self.metric != keys.TEST_ACCURACY:
            accepted = f"nothing where {self.metric} is compared: --target is for any metric"
            raise InputError("target_accuracy", self.target_accuracy, accepted)
        return self
