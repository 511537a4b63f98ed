"""A comparison on a terminal: the decision and the figures behind it; the report has the rest."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from itertools import repeat

from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table as RichTable

from fm_mlflow import keys
from fm_mlflow.analysis.choice import chosen_run
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.prose.words import capitalised, counted
from fm_mlflow.report.contents import contents
from fm_mlflow.report.layout import Cell, Table
from fm_mlflow.results.compare import CompareResult
from fm_mlflow.results.register import HOW_TO_LOG
from fm_mlflow.terminal.lines import (
    SafeConsole,
    browse_commands,
    print_commands,
    print_line,
    shell_uri,
    shown,
)

_MOST_WARNINGS = 3
_MOST_REASONS = 3
_NARROWEST_TEXT = 12
_GAP = 2


def print_compare_result(console: SafeConsole, result: CompareResult, benchmark: str = "") -> None:
    """Show the decision, the figures behind it, where the report is and what to do next.

    Args:
        console: Where to.
        result: The comparison.
        benchmark: Id of the finished benchmark whose end this is.
    """
    print_comparison(console, result.comparison)
    console.print()
    print_line(console, f"The whole report: {result.files[keys.REPORT_HTML_FILE]}", wrapped=False)
    commands = browse_commands(result.tracking_uri, result.experiment_id, result.run_id)
    best = chosen_run(result.comparison)
    if best is not None and best.model_uri is None:
        print_line(console, f"Run {best.run_id} has no logged model to register: {HOW_TO_LOG}.")
    elif best is not None and best.version is not None:  # else nothing of it can be verified
        which = ("--benchmark", benchmark) if benchmark else ("--run-id", best.run_id)
        # A benchmark says itself by what it was decided.
        more = () if benchmark else result.comparison.objective.options
        words = ["fm-mlflow register", which[0], shlex.quote(which[1]), *more]
        command = f"MLFLOW_TRACKING_URI={shell_uri(result.tracking_uri)} {' '.join(words)}"
        commands.append(("Register the best model, verified", command))
    print_commands(console, commands)


def print_comparison(console: SafeConsole, comparison: Comparison) -> None:
    """Show the decision, the warnings and the results."""
    report = contents(comparison)
    print_line(console, report.title, "dim")
    print_line(console, comparison.headline, "bold")
    for line in filter(None, (comparison.evidence, f"{capitalised(report.scope)}.")):
        print_line(console, line)
    facts = (fact for fact in report.decision if fact[0].startswith(("Compared", "Excluded")))
    _print_points(console, (": ".join(fact) for fact in facts))
    if warnings := comparison.warnings:
        console.print()
        print_line(console, counted(len(warnings), "warning"), "bold yellow")
        _print_points(console, warnings[:_MOST_WARNINGS])
        if more := len(warnings) - _MOST_WARNINGS:
            _print_points(console, [f"{more} more in the report"] if more > 0 else [])
    keyed = [row[0] for row in report.results.rows if row[0].key]
    if keyed:
        console.print()
        print_line(console, "Models", "bold")
        _print_points(console, (f"{c.text}, {c.more}" for c in keyed), (c.key for c in keyed))
    if report.results.rows:
        console.print()
        _print_table(console, report.results)
    _print_skipped(console, report.skipped)


def _print_skipped(console: SafeConsole, skipped: Sequence[tuple[str, int, list[str]]]) -> None:
    """Say how many runs were left out and why: each reason once."""
    for reason, count, _ in skipped[:_MOST_REASONS]:
        print_line(console, f"{counted(count, 'run')} skipped: {reason}.", "dim")
    if more := sum(count for _, count, _ in skipped[_MOST_REASONS:]):
        print_line(console, f"{counted(more, 'more run')} skipped; the report says why.", "dim")


def _print_points(
    console: SafeConsole, texts: Iterable[str], marks: Iterable[str] = repeat("-")
) -> None:
    for mark, text in zip(marks, texts, strict=False):
        point = RichTable.grid(padding=(0, 1, 0, 0))
        point.add_row(mark, text)
        console.print(point)


def _text(cell: Cell) -> str:
    """Return what stands in a cell: where groups have letters, a list above explains them."""
    return cell.key or cell.text


def _print_table(console: SafeConsole, table: Table) -> None:
    """Print a table whose figures are never broken or cut; as a list where that is too wide."""
    names, *figures = zip(*table.rows, strict=True)
    widths = [
        max(*(cell_len(word) for word in column.title.split()), *map(_width, cells))
        for column, cells in zip(table.columns[1:], figures, strict=True)
    ]
    room = console.width - sum(widths) - _GAP * len(widths)
    wanted = max(map(_width, names))
    if room < min(wanted, _NARROWEST_TEXT):
        _print_list(console, table)
        return
    drawn = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0)
    )
    for column, width in zip(table.columns, [min(wanted, room), *widths], strict=True):
        drawn.add_column(
            column.title,
            justify="right" if column.numeric else "left",
            overflow="fold",
            width=width,
        )
    for row in table.rows:
        drawn.add_row(*map(_shown, row))
    console.print(drawn)


def _print_list(console: SafeConsole, table: Table) -> None:
    for row in table.rows:
        print_line(console, " ".join(filter(None, (_text(row[0]), row[0].more))))
        for column, cell in zip(table.columns[1:], row[1:], strict=True):
            print_line(console, f"  {column.title}: {cell.text} {cell.more}".rstrip())


def _width(cell: Cell) -> int:
    return max(cell_len(_text(cell)), cell_len(cell.more))


def _shown(cell: Cell) -> Group:
    more = [shown(cell.more, "dim")] if cell.more else []
    return Group(shown(_text(cell), "dim" if cell.is_missing else ""), *more)
