"""The description of a run that the MLflow UI shows on its page, as Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from fm_mlflow.config import NOT_SHAPING, TrainConfig
from fm_mlflow.data import Dataset
from fm_mlflow.report.figures import measured_and_estimated, training_figures
from fm_mlflow.report.text import markdown

DATASET_TITLES = {"fashion_mnist": "Fashion-MNIST", "digits": "scikit-learn's digits"}


def describe_training(
    config: TrainConfig, dataset: Dataset, metrics: Mapping[str, float] | None = None
) -> str:
    """Describe a training run: what it does and, once it is known, what came out.

    Args:
        config: The run's settings.
        dataset: What it trains on.
        metrics: Values of the whole run by logged name, or None before there are any.
    """
    held_out = dataset.validation
    validated = f"{len(held_out):,} held-out images" if held_out else "the test set"
    lines = [
        f"**{markdown(config.model)}** on {dataset_title(config)}: {len(dataset.train):,} training "
        f"images, {config.epochs} epochs, batches of {config.batch_size}, seed {config.seed}. "
        f"Validated after each epoch on {validated}."
    ]
    if metrics:
        lines += ["", "| | |", "|---|---|"]
        lines += [f"| {label} | {text} |" for label, text in training_figures(metrics)]
        lines += ["", "| | measured | rule of thumb |", "|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in measured_and_estimated(metrics)]
    if "<" not in config.model and not config.model.startswith("__main__:"):  # else: from Python
        lines += ["", "Repeat it:", "", f"    {training_command(config)}"]
    return "\n".join(lines)


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


def dataset_title(config: TrainConfig) -> str:
    """Name the data set as a person would."""
    return DATASET_TITLES.get(config.dataset, "IDX files")
