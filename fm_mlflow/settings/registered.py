"""Settings of `register` and `predict`: the model that is promoted, and the one that predicts."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from fm_mlflow import keys
from fm_mlflow.errors import InputError
from fm_mlflow.settings.base import Optional, Settings
from fm_mlflow.settings.selection import Choice

REGISTERED_MODEL = "fashion-mnist-classifier"
"""Name of the registered model of the default data set (`naming.registered_model_name`)."""

CHAMPION = "champion"
"""Alias of the version in use."""

PREVIOUS = "previous"
"""Alias of the version that was the champion before."""

_NAME_ACCEPTED = "1 to 200 characters, none of them / : or a quotation mark"


DIRECTIONS = ("smaller_is_better", "larger_is_better")
DECIDED_BY = ("metric", *DIRECTIONS, "cost")
"""Settings of a comparison that a promotion from it may not differ in."""


class RegisterConfig(Choice):
    """Which model to promote, and what it has to hold. Frozen; unknown names are refused."""

    group: ClassVar[str] = "What it must keep, and where it goes"

    run_id: str = Field(
        "", description="Training run whose model to register; empty takes the best, as compare."
    )
    benchmark: str = Field(
        "",
        description="Id of a benchmark's run: only its models are candidates, by its metric, cost "
        "and margin.",
    )
    name: str = Field(
        "",
        description="Name of the registered model; empty: by the data set, as digits-classifier.",
        json_schema_extra={"accepted": _NAME_ACCEPTED},
    )
    min_accuracy: Optional[float] = Field(None, ge=0, le=1, description="Lowest test accuracy.")
    min_metric: Optional[float] = Field(
        None, description="Lowest value of --metric; where less of it is better, the highest."
    )
    tolerance: float = Field(
        0.005,
        ge=0,
        le=1,
        description="How much worse than the champion it may be: in accuracy, or as a share of the "
        "champion's value of another --metric.",
    )
    against_champion: Literal["better", "not-worse"] = Field(
        "better",
        description="better: hardly worse than the champion, and better or cheaper; not-worse: the "
        "former alone, for a change that is to change no result.",
    )
    data_dir: str = Field("", description="Folder of the data; empty looks where the run had them.")
    verify_timeout: float = Field(
        600.0, gt=0, description="Seconds that running and measuring the model again may take."
    )
    dry_run: bool = Field(False, description="Verify and check, but change nothing.")
    junit: str = Field(
        "", description="JUnit file to write: a test case for each check and each gate."
    )
    summary: str = Field(
        "",
        description="Markdown file to write, for a pipeline's page: the model beside the champion, "
        "each gate, what is lacking.",
    )

    @model_validator(mode="before")
    @classmethod
    def _only_what_was_given(cls, values: dict[str, object]) -> dict[str, object]:
        """Leave out what is empty of what a benchmark was decided by: `mlflow run` gives all."""
        return {k: v for k, v in values.items() if v != "" or k not in DECIDED_BY}

    @model_validator(mode="after")
    def _check(self) -> RegisterConfig:
        if not re.fullmatch(r"""[^/:'"`]{0,200}""", self.name):
            raise InputError("name", self.name, _NAME_ACCEPTED)
        if self.min_accuracy is not None and self.metric != keys.TEST_ACCURACY:
            accepted = f"nothing where {self.metric} is compared: --min-metric is for any metric"
            raise InputError("min_accuracy", self.min_accuracy, accepted)
        if self.min_accuracy is not None and self.min_metric is not None:
            raise InputError("min_metric", self.min_metric, "nothing beside min_accuracy")
        return self


class PredictConfig(Settings):
    """What to predict with, from and to. Frozen; unknown names are refused."""

    model: str = Field(
        "",
        description="A model's URI as MLflow takes it, such as models:/digits-classifier@champion, "
        "or the id of a training run; empty: the champion of the only registered model.",
    )
    input: str = Field(
        "",
        description="A picture (.png, .jpg, .bmp, .webp) or a folder of them; an IDX file, "
        "compressed or not, or a .npy array; other examples: .npy, .npz or .csv.",
    )
    output: str = Field(
        "predictions.parquet",
        description="File to write, .parquet or .csv; one that exists is replaced at the end.",
    )

    @model_validator(mode="after")
    def _check(self) -> PredictConfig:
        if not self.input:
            raise InputError(
                "input",
                self.input,
                "a picture, a folder of pictures, an IDX, .npy, .npz or .csv file",
            )
        if not self.output.endswith((".parquet", ".csv")):
            raise InputError("output", self.output, "a file named .parquet or .csv")
        return self
