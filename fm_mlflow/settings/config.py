"""Settings: the one place that knows every default, bound and description.

The command line, the MLflow Project's entry points and the Python API all read them from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator
from typing_extensions import Self

from fm_mlflow.errors import InputError
from fm_mlflow.settings.base import Optional, Settings, parse
from fm_mlflow.settings.dataset import ACCEPTED, located
from fm_mlflow.settings.model_reference import (
    BUILTIN_DEFAULTS,
    BUILTIN_MODELS,
    MODEL_ACCEPTED,
    ModelReference,
    split_models,
    split_settings,
)
from fm_mlflow.settings.placement import CHECKPOINT_SECONDS, FLUSH_TIMEOUT, Placement
from fm_mlflow.settings.precision import PRECISION, Precision
from fm_mlflow.settings.selection import (
    COST,
    LARGER_IS_BETTER,
    LONGEST_METRIC,
    MARGIN,
    OUTPUT,
    PRICE,
    SMALLER_IS_BETTER,
    CostName,
    Seeds,
    check_metric,
    is_of_other_data,
    on_other_data,
)

MEASURED_PARTS = ("flops", "latency", "memory", "energy")
"""Costs that take time to measure; sizes, times and counts are always there."""

NOT_SHAPING = ("data_dir", "measure", "flush_timeout", "checkpoint_seconds")
"""Settings that do not change what a run trains, and so are not logged as its parameters."""

LATER_DEFAULTS = {"fit_loop": "auto", "precision": "float32"}
"""Settings of later versions, as earlier runs had them: with one or without, a run is the same."""
_MEASURE_ACCEPTED = f"any of {', '.join(MEASURED_PARTS)}, separated by commas; or none"


def measured_parts(text: str) -> frozenset[str]:
    """Return the costs to measure that a setting names, of `MEASURED_PARTS`."""
    parts = frozenset() if text == "none" else frozenset(text.split(","))
    if not parts <= set(MEASURED_PARTS):
        raise InputError("measure", text, _MEASURE_ACCEPTED)
    return parts


ModelName = Annotated[str, Field(json_schema_extra={"accepted": MODEL_ACCEPTED})]

MOST_EPOCHS = 1_000_000
_LARGEST_BATCH = 1_000_000
_LARGEST_SEED = 2**32 - 1


class Protocol(Settings):
    """How a model is trained, on what, and what is measured; whichever model and seed.

    The defaults are the reference protocol: Adam at 0.001, batches of 64, 5 epochs, validated on
    the test set.
    """

    group: ClassVar[str] = "How it is trained and measured"

    epochs: int = Field(5, ge=1, le=MOST_EPOCHS, description="Passes over the training images.")
    batch_size: int = Field(64, ge=1, le=_LARGEST_BATCH, description="Images per training step.")
    learning_rate: float = Field(0.001, gt=0, description="Step size of the optimizer.")
    optimizer: Literal["adam", "adamw", "nadam", "rmsprop", "sgd", "adagrad", "lion"] = Field(
        "adam", description="Keras optimizer, otherwise at its Keras defaults."
    )
    validation_split: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Last share of the training images held out for validation; "
        "0 validates on the test set.",
    )
    dataset: str = Field(
        "fashion_mnist",
        description="fashion_mnist; digits (scikit-learn's 8x8, enlarged to 28x28; no download); "
        "idx (any four IDX files in the data directory); a file.npz of your own; a folder of "
        "images by class (images/).",
        json_schema_extra={"accepted": ACCEPTED},
    )
    data_dir: str = Field(
        "",
        description="Folder of the data set's files; of fashion_mnist, empty: $FM_MLFLOW_DATA_DIR, "
        "the Keras cache, /usr/share/datasets/fashion-mnist, or a download.",
    )
    measure: str = Field(
        ",".join(MEASURED_PARTS),
        description=f"Costs to measure: any of {', '.join(MEASURED_PARTS)}, with commas; or none.",
        json_schema_extra={"accepted": _MEASURE_ACCEPTED},
    )
    fit_loop: Literal["auto", "keras"] = Field(
        "auto",
        description="auto: compiled chunks of steps, several times as fast; keras: `model.fit`.",
    )
    precision: Precision = PRECISION
    flush_timeout: float = FLUSH_TIMEOUT
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    @property
    def measured_parts(self) -> frozenset[str]:
        """The costs to measure, of `MEASURED_PARTS`."""
        return measured_parts(self.measure)

    @model_validator(mode="before")
    @classmethod
    def _locate_dataset(cls, settings: dict[str, object]) -> dict[str, object]:
        return located(settings)

    @model_validator(mode="after")
    def _check_protocol(self) -> Self:
        measured_parts(self.measure)
        return self


class _OneTraining(Settings):
    group: ClassVar[str] = "What is trained"

    model: ModelName = Field(
        "mlp",
        description=f"Model to train: {MODEL_ACCEPTED} (a function that returns a Keras model); "
        "arguments follow a question mark: cnn?filters=8,16&dense=32.",
    )
    seed: int = Field(0, ge=0, le=_LARGEST_SEED, description="Seed of weights, order and dropout.")

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        ModelReference.parse(self.model)
        return self


class TrainConfig(Protocol, _OneTraining):  # fields come in the order of the bases, last first
    """Everything that shapes one training run. Frozen; unknown names are refused."""

    _entry: str = PrivateAttr("")

    @property
    def entry(self) -> str:
        """The model as its benchmark lists it, with the settings that it alone has."""
        return self._entry or self.model

    @classmethod
    def of_entry(cls, entry: str, seed: int, shared: Mapping[str, object]) -> TrainConfig:
        """Return a training of a benchmark: `entry` is a model with settings of its own."""
        model, own = split_settings(entry)
        config = parse(cls, {**shared, "model": model, "seed": seed, **own})
        config._entry = entry
        return config


class _ManyTrainings(Seeds):
    group: ClassVar[str] = "What is trained"

    models: str = Field(
        ",".join(BUILTIN_MODELS), description=f"Models to train, with commas: {MODEL_ACCEPTED}."
    )
    jobs: int = Field(1, ge=1, le=1000, description="Trainings at a time; over 1 disturbs times.")
    order_seed: int = Field(0, ge=0, le=_LARGEST_SEED, description="Seed of the random order.")
    resume: str = Field(
        "", description="Id of a benchmark's run: do what it has left undone, with its settings."
    )

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models, one each, with arguments and settings of their own."""
        return split_models(self.models)

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        accepted = f"{MODEL_ACCEPTED}; several with commas, so no path may hold one"
        for name in self.model_names:
            try:
                ModelReference.parse(split_settings(name)[0])
            except InputError as error:
                raise InputError("models", name, accepted, BUILTIN_MODELS) from error
        if self.seeds == "auto" and len(self.model_names) < 2:
            raise InputError("seeds", self.seeds, "a number where there is one model")
        return self


class BenchmarkConfig(Placement, Protocol, _ManyTrainings):  # fields: of the last base first
    """Everything that shapes one benchmark: each model with each seed, then the comparison."""

    cost: CostName = COST
    metric: str = Field(
        "",
        max_length=LONGEST_METRIC,
        description="Metric that models are compared by; empty: test_accuracy, of numbers "
        "test_mae.",
        json_schema_extra={
            "accepted": f"the name of a logged metric, of up to {LONGEST_METRIC} characters"
        },
    )
    smaller_is_better: bool = SMALLER_IS_BETTER
    larger_is_better: bool = LARGER_IS_BETTER
    margin: float = MARGIN
    price_per_core_hour: Optional[float] = PRICE
    output: str = OUTPUT

    @model_validator(mode="after")
    def _check_metric(self) -> Self:
        check_metric(self.metric, self.smaller_is_better, self.larger_is_better)
        if self.metric and not is_of_other_data(self.metric):  # of the data trained on, or none
            accepted = "a metric of the test or the validation data: test_... or val_..."
            raise InputError("metric", self.metric, accepted, on_other_data(self.metric))
        return self

    @model_validator(mode="after")
    def _check_each_once(self) -> Self:
        known: list[object] = []
        for training in self.trainings(dict.fromkeys(self.model_names, 1)):
            reference = ModelReference.parse(training.model)
            arguments = {**BUILTIN_DEFAULTS.get(reference.name, {}), **reference.arguments}
            same = (reference.name, arguments, training.model_dump(exclude={"model"}))
            if same in known:
                text = f"each model once; {training.entry} is there twice"
                raise InputError("models", self.models, text)
            known.append(same)
        return self

    def trainings(self, seeds: Mapping[str, int] | None = None) -> list[TrainConfig]:
        """Return each training, model by model, of seeds from 0: so many, by default the most."""
        shared = {name: getattr(self, name) for name in Protocol.model_fields}
        return [
            TrainConfig.of_entry(entry, seed, shared)
            for entry in self.model_names
            for seed in range(self.most_seeds if seeds is None else seeds[entry])
        ]


class ResumeConfig(Settings):
    """Settings of `resume`. Frozen; unknown names are refused."""

    epochs: Optional[int] = Field(
        None, ge=1, le=MOST_EPOCHS, description="Passes over the images in all; more extend it."
    )
    data_dir: str = Field("", description="Folder of the IDX files; empty: where the run had them.")
    store: str = Field("", description="Tracking URI of the run; empty: the active one.")
    flush_timeout: float = FLUSH_TIMEOUT
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    take_over: bool = Field(
        False,
        description="Its process is known to be gone, or cut off: do not wait until it has shown "
        "no sign of life for two minutes. If it lives, it stops and logs nothing more.",
    )


class SyncConfig(Settings):
    """Settings of `sync`. Frozen; unknown names are refused."""

    store: str = Field(
        "",
        description="Tracking URI to deliver to; empty: the active one. Without ids, only the runs "
        "that were started with it.",
    )


class ReconcileConfig(Settings):
    """Settings of `reconcile`. Frozen; unknown names are refused."""

    dead_after: float = Field(
        3600.0,
        ge=300,
        description="Seconds without a sign of life after which another host's run is dead.",
    )
