"""A comparison on a terminal: what there is to know at once, within 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.report.contents import Contents, contents
from fm_mlflow.report.layout import Cell, Table
from fm_mlflow.report.terminal import browse_commands, print_commands
from fm_mlflow.report.text import printable
from fm_mlflow.results import CompareResult
from fm_mlflow.words import counted

_MOST_VERDICTS = 10
_NARROWEST_TEXT = 12


def print_compare_result(console: Console, result: CompareResult) -> None:
    """Show the answer, the figures behind it, where the whole report is and what to do next."""
    print_comparison(console, result.comparison)
    commands = [("The whole report", result.files[keys.REPORT_HTML_FILE])]
    commands += browse_commands(result.tracking_uri, result.experiment_id, result.run_id)
    console.print()
    print_commands(console, commands)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Show the answer and the figures behind it."""
    report = contents(comparison)
    printer = _Printer(console)
    printer.line(f"{comparison.experiment}: {report.scope}", "bold")
    printer.line(comparison.summary)
    if comparison.warnings:
        printer.heading(counted(len(comparison.warnings), "warning"), "bold yellow")
        printer.points(comparison.warnings)
    printer.table("Results", report.results)
    _print_decision(printer, report)
    printer.table("The notebook's estimates", report.estimates)
    printer.table("Pareto fronts of accuracy against cost", report.fronts)
    printer.table(report.targets.title, report.targets)
    if comparison.answers:
        printer.heading("Questions and answers")
        for each in comparison.answers:
            printer.line(each.question, "italic")
            printer.line(each.answer)
    _print_evidence(printer, report)
    if comparison.skipped:
        printer.heading(f"{counted(len(comparison.skipped), 'run')} skipped")
        printer.points(f"{each.count:,}: {each.reason}" for each in report.skipped)


def _print_decision(printer: _Printer, report: Contents) -> None:
    best = report.comparison.best
    printer.heading("Decision")
    printer.line(best.model if best.model is not None else "No model is chosen.")
    printer.line(best.reason)
    printer.points(f"{label}: {text}" for label, text in report.decision)


def _print_evidence(printer: _Printer, report: Contents) -> None:
    for each in report.evidence:
        printer.heading(f"Evidence: {each.table.title.lower()}")
        printer.points(each.sentences[:_MOST_VERDICTS])
        if more := len(each.sentences[_MOST_VERDICTS:]):
            printer.line(f"{counted(more, 'more verdict')} in the report.", "dim")


class _Printer:
    """Prints any text as text: no markup, no highlighting, no control characters."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, text: str, style: str = "", *, wrapped: bool = True) -> None:
        self._console.print(Text(printable(text), style), soft_wrap=not wrapped)

    def heading(self, text: str, style: str = "bold") -> None:
        self._console.print()
        self.line(text, style)

    def points(self, texts: Iterable[str]) -> None:
        for text in texts:
            lines = Text(printable(text)).wrap(self._console, self._console.width - 2)
            for number, line in enumerate(lines):
                line.rstrip()
                self._console.print(Text("  " if number else "- ").append_text(line))

    def table(self, heading: str, table: Table) -> None:
        if not table.rows:
            return
        self.heading(heading)
        shown = _table(table)
        if self._console.measure(shown).minimum <= self._console.width:
            self._console.print(shown)
        else:
            self._one_by_one(table)
        for note in table.notes:
            self.line(note, "dim")

    def _one_by_one(self, table: Table) -> None:
        """A row that is too wide for the terminal becomes a list."""
        for row in table.rows:
            self.line(" ".join(filter(None, (row[0].text, row[0].more))))
            for column, cell in zip(table.columns[1:], row[1:], strict=True):
                text = " ".join(filter(None, (cell.text, cell.more)))
                if text:
                    self.line(f"  {column.title}: {text}")


def _table(table: Table) -> RichTable:
    shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for position, column in enumerate(table.columns):
        cells = [row[position] for row in table.rows]
        words = max(len(word) for word in column.title.split())
        if column.numeric:
            # Figures are never broken over lines; their heads are, between words.
            width = max(words, *(max(len(cell.text), len(cell.more)) for cell in cells))
            heads = textwrap.wrap(column.title, width)
        else:
            width, heads = min(_NARROWEST_TEXT, max(len(cell.text) for cell in cells)), []
        shown.add_column(
            Text("\n".join(heads) or column.title),
            justify="right" if column.numeric else "left",
            vertical="top",
            overflow="fold",
            no_wrap=column.numeric,
            min_width=max(width, words),
        )
    for row in table.rows:
        shown.add_row(*(_shown(cell) for cell in row))
    return shown


def _shown(cell: Cell) -> Text:
    text = Text(printable(cell.text), "dim" if cell.is_missing else "")
    if cell.more:
        text.append(f"\n{printable(cell.more)}", "dim")
    return text
