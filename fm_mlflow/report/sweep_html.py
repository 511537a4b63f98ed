"""A sweep as one HTML page that needs nothing else: search and proof apart."""

from __future__ import annotations

from markupsafe import Markup

from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.prose.words import NOT_MEASURED, capitalised, counted, figure, number
from fm_mlflow.escaping import html
from fm_mlflow.naming import dataset_title, model_name, seeds_text
from fm_mlflow.report.describe_sweep import flattered, spent_sentences
from fm_mlflow.report.layout import Cell, Table, columns
from fm_mlflow.report.markdown import environment
from fm_mlflow.report.sweep_plots import cost_text, parallel_coordinates, sweep_plots
from fm_mlflow.results.sweep import Finalist, SweepResult

_MOST_ROWS = 200


def to_html(result: SweepResult) -> str:
    """Return the report as a page: the same bytes for the same sweep."""
    config = result.config
    title = f"{model_name(config.model)} on {dataset_title(config.dataset)}"
    return (
        environment(html)
        .get_template("sweep.html")
        .render(
            title=title,
            result=result,
            recommended=model_name(result.advice),
            reason=capitalised(result.reason).rstrip("."),
            scope=_scope(result),
            spent=spent_sentences(result),
            flattered=flattered(result),
            proof=proof_table(result),
            front=_front_table(result),
            trials=_trials_table(result),
            plots=sweep_plots(result),
            wide=parallel_coordinates(result),
            svg=Markup,
        )
    )


def proof_table(result: SweepResult) -> Table:
    """Return the finalists: what the search said of each, and what fresh seeds show."""
    config = result.config
    rows = tuple(
        (
            Cell(each.entry, "the default" if each.is_default else ""),
            _cell(config.metric, each.searched),
            _proven(config.metric, each),
            _cell(config.metric, each.flattered),
            Cell(NOT_MEASURED if each.cost is None else figure(config.cost, each.cost)),
            Cell(each.against_default or ("-" if each.is_default else NOT_MEASURED)),
        )
        for each in result.finalists
    )
    heads = ("finalist", "search", f"proof, {seeds_text(config)}", "flattered by")
    base = columns(1, *heads, cost_title(config.cost))
    against = columns(1, "against the default")
    return Table("Finalists", (*base, *against), rows)


def _proven(metric: str, each: Finalist) -> Cell:
    if each.proven is None:
        return Cell(NOT_MEASURED)
    if each.proven_low is None or each.proven_high is None:
        return Cell(number(metric, each.proven))
    ends = f"{number(metric, each.proven_low)} to {number(metric, each.proven_high)}"
    return Cell(number(metric, each.proven), ends)


def _cell(metric: str, value: float | None) -> Cell:
    return Cell(NOT_MEASURED if value is None else number(metric, value))


def _front_table(result: SweepResult) -> Table:
    rows = tuple(
        (
            Cell(_settings(trial.settings), f"trial {trial.number}"),
            _cell(result.config.metric, trial.value),
            Cell(cost_text(result, trial) or NOT_MEASURED),
        )
        for trial in result.front
    )
    heads = ("settings", result.config.metric, cost_title(result.config.cost))
    return Table("Front of the search", columns(1, *heads), rows)


def _trials_table(result: SweepResult) -> Table:
    rows = tuple(
        (
            Cell(f"{trial.number}", "the default" if trial.is_default else ""),
            Cell(_settings(trial.settings)),
            Cell(trial.status, trial.note),
            Cell(f"{trial.epochs}"),
            _cell(result.config.metric, trial.value),
            Cell(cost_text(result, trial) or NOT_MEASURED),
        )
        for trial in result.trials[:_MOST_ROWS]
    )
    heads = ("trial", "settings", "status", "epochs", result.config.metric)
    more = len(result.trials) - len(rows)
    notes = (f"{more} more are in trials.csv.",) if more > 0 else ()
    return Table("Trials", columns(3, *heads, cost_title(result.config.cost)), rows, notes)


def _settings(settings: object) -> str:
    pairs = settings.items() if hasattr(settings, "items") else ()
    return ", ".join(f"{name} {text}" for name, text in pairs)


def _scope(result: SweepResult) -> str:
    config = result.config
    return (
        f"{counted(len(result.trials), 'trial')} of up to {config.epochs} epochs, sampler "
        f"{config.sampler}, seed {config.seed}; {config.metric} on {config.validation_split:.0%} "
        f"of the training images, against {cost_title(config.cost)}."
    )
