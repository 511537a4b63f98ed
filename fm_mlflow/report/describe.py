"""The description of a run that the MLflow UI shows on its page, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fm_mlflow.analysis.prose.words import number
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.escaping import code_line, markdown
from fm_mlflow.naming import dataset_described, epochs_text, seeds_text, training_command
from fm_mlflow.report.figures import measured_and_estimated, training_figures
from fm_mlflow.results.benchmark import BenchmarkTraining
from fm_mlflow.results.compare import CompareResult
from fm_mlflow.settings.config import BenchmarkConfig, TrainConfig

if TYPE_CHECKING:
    from fm_mlflow.fitting import Stop


def describe_training(
    config: TrainConfig,
    dataset: Dataset,
    metrics: Mapping[str, float] | None = None,
    stopped: Stop | None = None,
    kept_epoch: int | None = None,
) -> str:
    """Describe a training run: what it does and, once there are `metrics`, what came out.

    Args:
        config: The run's settings.
        dataset: What it was trained on.
        metrics: Values of the whole run, by logged name.
        stopped: How it was stopped early, if it was.
        kept_epoch: The epoch whose weights the model has, where it is not the last.
    """
    held_out = dataset.validation
    validated = f"{len(held_out):,} held-out {dataset.noun}" if held_out else "the test set"
    lines = [
        f"**{markdown(config.model)}** on {markdown(dataset_described(config.dataset))}: "
        f"{len(dataset.train):,} training {dataset.noun}, "
        f"{epochs_text(config, stopped.epoch if stopped else None)}, batches of "
        f"{config.batch_size}, seed {config.seed}. Validated after each epoch on {validated}."
    ]
    if stopped is not None:
        best = "" if stopped.best_epoch is None else f" The best epoch was {stopped.best_epoch}."
        lines += ["", f"Stopped early, by {markdown(stopped.reason)}.{best}"]
    lines += _kept(kept_epoch)
    if metrics:
        lines += ["", "| | |", "|---|---|"]
        lines += [
            f"| {label} | {text} |" for label, text in training_figures(metrics, dataset.noun)
        ]
        lines += ["", "| | measured | rule of thumb |", "|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in measured_and_estimated(metrics)]
    if "<" not in config.model and not config.model.startswith("__main__:"):  # else: from Python
        lines += ["", "Repeat it:", "", code_line(training_command(config))]
    return "\n".join(lines)


def _kept(epoch: int | None) -> list[str]:
    return [] if epoch is None else ["", f"The model has the weights of epoch {epoch}."]


def describe_benchmark(
    config: BenchmarkConfig,
    trainings: Sequence[BenchmarkTraining],
    comparison: CompareResult | None = None,
) -> str:
    """Describe a benchmark: what it does, how each training ended, what they show together.

    `trainings` are those that are over, in the order in which they were started.
    """
    models = ", ".join(f"**{markdown(model)}**" for model in config.model_names)
    seeds = seeds_text(config)
    if config.seeds == "auto":
        seeds = f"as many seeds as the decision needs, {seeds},"
    lines = [
        f"{models} with {seeds} on {markdown(dataset_described(config.dataset))}, {config.epochs} "
        f"epochs, batches of {config.batch_size}; each training in a process of its own, in "
        "random order."
    ]
    if comparison is not None:
        lines += ["", markdown(comparison.comparison.summary)]
        lines += ["", f"The report is in run {comparison.run_id}."]
    if trainings:
        lines += ["", "| training | status | test accuracy | |", "|---|---|---|---|"]
    for each in trainings:
        accuracy = "" if each.test_accuracy is None else f"{each.test_accuracy:.4f}"
        row = (markdown(each.name), markdown(each.status), accuracy, markdown(each.error or ""))
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def describe_script(
    model: str,
    epochs: int,
    examples: int,
    metrics: Mapping[str, float],
    kept_epoch: int | None = None,
) -> str:
    """Describe a training that a script of somebody's own did.

    Args:
        model: What was trained.
        epochs: Epochs that were logged.
        examples: Of an epoch; 0 where nobody counted them.
        metrics: Values of the whole run, by logged name.
        kept_epoch: The epoch whose weights the model has, where it is not the last.
    """
    of = f" of {examples:,} examples" if examples else ""
    lines = [f"**{markdown(model)}**, trained by a script: {epochs:,} epochs{of}."]
    lines += [*_kept(kept_epoch), "", "| | |", "|---|---|"]
    tested = [name for name in metrics if name.startswith("test_")]
    lines += [f"| {markdown(name)} | {number(name, metrics[name])} |" for name in tested]
    figures = dict(training_figures(metrics)).items()
    lines += [f"| {label} | {text} |" for label, text in figures if not label.startswith("test ")]
    lines += ["", "| | measured | rule of thumb |", "|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in measured_and_estimated(metrics)]
    return "\n".join(lines)
