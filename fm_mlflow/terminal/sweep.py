"""What a person sees at the end of a sweep."""

from __future__ import annotations

from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.prose.words import figure, number
from fm_mlflow.report.describe_sweep import flattered, spent_sentences
from fm_mlflow.results.sweep import SweepResult
from fm_mlflow.terminal.lines import (
    SafeConsole,
    browse_commands,
    pairs,
    print_commands,
    print_line,
)


def print_sweep(console: SafeConsole, result: SweepResult) -> None:
    """Show what is recommended and why, the finalists, and what the search took."""
    config = result.config
    console.print()
    print_line(console, result.run_name, "bold")
    print_line(console, f"  recommended: {result.advice}", "bold")
    print_line(console, f"  {result.reason}")
    console.print()
    title = cost_title(config.cost)
    print_line(console, "finalists" if result.finalists else "the front of the search", "bold")
    for each in result.finalists:
        print_line(console, f"  {each.entry}{' (the default)' if each.is_default else ''}")
        shown = [
            "" if each.searched is None else f"search {number(config.metric, each.searched)}",
            "" if each.proven is None else f"proof {number(config.metric, each.proven)}",
            "" if each.cost is None else f"{title}: {figure(config.cost, each.cost)}",
        ]
        print_line(console, f"    {', '.join(filter(None, shown)) or 'not proven'}")
    for trial in () if result.finalists else result.front:
        settings = ", ".join(f"{name} {text}" for name, text in trial.settings.items())
        value = "-" if trial.value is None else number(config.metric, trial.value)
        cost = figure(config.cost, trial.costs[config.cost])
        print_line(console, f"  {settings}")
        print_line(console, f"    {config.metric} {value}, {title}: {cost}")
    console.print()
    for sentence in [*spent_sentences(result), flattered(result)]:
        if sentence:
            print_line(console, sentence)
    console.print()
    files = [("report", path) for name, path in result.files.items() if name.endswith(".html")]
    console.print(pairs([*files, ("run", result.run_id)]))
    print_commands(
        console, browse_commands(result.tracking_uri, result.experiment_id, result.run_id)
    )
