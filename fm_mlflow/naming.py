"""What runs and models are called, and the command that repeats a run."""

from __future__ import annotations

import shlex

from fm_mlflow.config import NOT_SHAPING, BenchmarkConfig, Protocol, TrainConfig


def training_name(model: str, seed: int) -> str:
    """Name a training among those of a benchmark; a path by its last part."""
    return f"{model_name(model)}, seed {seed}"


def model_name(model: str) -> str:
    """Name a model; a path by its last part."""
    return model.replace("\\", "/").rpartition("/")[2]


def run_name(config: TrainConfig) -> str:
    """Name a run by what a reader of the runs table looks for; a path by its last part."""
    return f"{model_name(config.model)}, {epochs_text(config)}, seed {config.seed}"


def benchmark_name(config: BenchmarkConfig) -> str:
    """Name a benchmark by what a reader of the runs table looks for."""
    models = ", ".join(model_name(model) for model in config.model_names)
    seeds = "1 seed" if config.seeds == 1 else f"{config.seeds} seeds"
    return f"benchmark of {models}, {seeds}"


DATASET_TITLES = {"fashion_mnist": "Fashion-MNIST", "digits": "scikit-learn's digits"}


def training_command(config: TrainConfig) -> str:
    """Return the command that repeats a run: what differs from the defaults, and the model."""
    command = ["fm-mlflow", "train", "--model", config.model]
    for name, field in TrainConfig.model_fields.items():
        value = getattr(config, name)
        if name not in ("model", *NOT_SHAPING) and value != field.default:
            command += [f"--{name.replace('_', '-')}", str(value)]
    if config.dataset == "idx":
        command += ["--data-dir", "FOLDER"]
    return shlex.join(command)


def epochs_text(config: Protocol) -> str:
    """Say how many epochs a run has."""
    return "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"


def dataset_title(config: Protocol) -> str:
    """Name the data set as a person would."""
    return DATASET_TITLES.get(config.dataset, "IDX files")
