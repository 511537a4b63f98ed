"""What runs and models are called, and the commands that repeat them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fm_mlflow.escaping import printable
from fm_mlflow.settings.base import Settings, parse
from fm_mlflow.settings.config import NOT_SHAPING, BenchmarkConfig, Protocol, TrainConfig
from fm_mlflow.settings.dataset import FROM_PYTHON, is_own, last_part
from fm_mlflow.settings.model_reference import ARGUMENT_PREFIX, BUILTIN_DEFAULTS, ModelReference
from fm_mlflow.settings.selection import Seeds

OWN_EXPERIMENT = "fm_mlflow"
"""The experiment of runs for which nobody chose one."""

UNNAMED = ("idx",)
"""Names of data sets that do not say which data they are."""

DIGEST_DIGITS = 8
"""As many digits of a digest are shown, and tell data sets apart."""

_LONGEST_REGISTERED = 100


def training_name(model: str, seed: int) -> str:
    """Name a training among those of a benchmark; a path by its last part."""
    return f"{model_name(model)}, seed {seed}"


def model_name(model: str) -> str:
    """Name a model, with its arguments; a path by its last part."""
    name, mark, arguments = model.partition("?")
    return name.replace("\\", "/").rpartition("/")[2] + mark + arguments


def plain_name(model: Any) -> str:
    """Return a Keras model's name, without the number that Keras appends to one that it made up.

    `sequential_3` is the fourth model of that class in its process, which says nothing of it.
    """
    made_up = re.fullmatch(r"(.+?)_\d+", model.name)
    if made_up and made_up[1].replace("_", "") == type(model).__name__.lower():
        return made_up[1]
    return str(model.name)


def run_name(config: TrainConfig, done: int | None = None) -> str:
    """Name a run by what a reader of the runs table looks for; a path by its last part.

    Args:
        config: The run's settings.
        done: Epochs that it had, where it was stopped early.
    """
    return f"{model_name(config.model)}, {epochs_text(config, done)}, seed {config.seed}"


def benchmark_name(config: BenchmarkConfig) -> str:
    """Name a benchmark by what a reader of the runs table looks for."""
    models = ", ".join(model_name(model) for model in config.model_names)
    seeds = seeds_text(config)
    return f"benchmark of {models}, {seeds}"


def seeds_text(config: Seeds) -> str:
    """Say how many seeds each model has."""
    if config.seeds == "auto":
        return f"up to {config.max_seeds} seeds"
    return "1 seed" if config.seeds == 1 else f"{config.seeds} seeds"


def command_line(
    command: str,
    config: Settings,
    *,
    always: Collection[str] = (),
    leave_out: Collection[str] = (),
) -> str:
    """Return a command as it is typed in a shell, with what differs from the defaults.

    Args:
        command: What follows `fm-mlflow`.
        config: The settings.
        always: Names of settings to give whatever they are.
        leave_out: Names of settings not to give.
    """
    words = ["fm-mlflow", command]
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if name in always or (name not in leave_out and value != field.default):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def training_config(model: str, params: Mapping[str, object]) -> TrainConfig:
    """Return the settings of a run from its parameters; its data folder may be anywhere.

    Raises:
        InputError: It is no run of `fm-mlflow train`.
    """
    settings = {name: params[name] for name in TrainConfig.model_fields if name in params}
    prefix, defaults = ARGUMENT_PREFIX, BUILTIN_DEFAULTS.get(model, {})
    given = {
        name.removeprefix(prefix): str(value)
        for name, value in params.items()
        if name.startswith(prefix) and defaults.get(name.removeprefix(prefix)) != value
    }
    dataset = str(settings.get("dataset", ""))
    if is_own(dataset):  # of which `mlflow run` has logged the path
        settings["dataset"] = last_part(dataset)
    folder = {"data_dir": "FOLDER"} if dataset == "idx" or is_own(dataset) else {}
    return parse(TrainConfig, {**settings, "model": str(ModelReference(model, given)), **folder})


def training_command(config: TrainConfig, seeds: Sequence[int] = ()) -> str:
    """Return the command that repeats a run.

    Args:
        config: The run's settings.
        seeds: Repeat it with these instead of its own.
    """
    left_out = {*NOT_SHAPING, *(["seed"] if seeds else [])}
    if config.dataset == "idx" or is_own(config.dataset):
        config = config.model_copy(update={"data_dir": "FOLDER"})
        left_out.remove("data_dir")
    command = command_line("train", config, always=["model"], leave_out=left_out)
    if len(seeds) > 1:
        return f"for seed in {' '.join(map(str, seeds))}; do {command} --seed $seed; done"
    return f"{command} --seed {seeds[0]}" if seeds else command


def epochs_text(config: Protocol, done: int | None = None) -> str:
    """Say how many epochs a run has, and `done` of them where it was stopped early."""
    text = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    return text if done is None else f"{done} of {text}"


def registered_model_name(dataset: str, digest: str | None, kind: str = "classifier") -> str:
    """Name the registered model that takes the models of a data set: `digits-classifier`.

    Any text gives a name that every registry accepts. Two names may give the same; a registered
    model takes one data set only.

    Args:
        dataset: The data set's name; foreign text.
        digest: Of its contents, None where it is not known; names what has no name of its own.
        kind: What the models are.
    """
    named = "" if dataset in UNNAMED else _plain(dataset)
    unnamed = _plain(f"idx {(digest or '')[:DIGEST_DIGITS]}")
    return f"{named or unnamed}-{kind}"


def _plain(text: str) -> str:
    """Keep the letters a-z and digits of a text, the others become hyphens."""
    return re.sub("[^a-z0-9]+", "-", text.lower())[:_LONGEST_REGISTERED].strip("-")


def dataset_title(dataset: str) -> str:
    """Name a data set as a person would."""
    titles = {
        "fashion_mnist": "Fashion-MNIST",
        "digits": "scikit-learn's digits",
        "idx": "IDX files",
        FROM_PYTHON: "data from Python",
    }
    return titles.get(dataset, printable(dataset))


def dataset_described(dataset: str) -> str:
    """Name a data set, and say what its pictures were before they got 28x28."""
    enlarged = " (8x8, enlarged to 28x28)" if dataset == "digits" else ""
    return dataset_title(dataset) + enlarged
