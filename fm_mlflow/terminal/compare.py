"""A comparison on a terminal: what there is to know at once, within 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import repeat

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.prose.words import counted
from fm_mlflow.report.contents import Contents, contents
from fm_mlflow.report.layout import Cell, Table
from fm_mlflow.report.text import printable
from fm_mlflow.results.compare import CompareResult
from fm_mlflow.terminal.next_commands import browse_commands, print_commands

_MOST_VERDICTS = 10
_MOST_ESTIMATES = 12
_NARROWEST_TEXT = 12
_GAP = "  "


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
    keyed = [row[0] for row in report.results.rows if row[0].key]
    if keyed:
        printer.heading("Models")
        printer.points((f"{cell.text}, {cell.more}" for cell in keyed), [c.key for c in keyed])
    printer.table("Results", report.results)
    _print_decision(printer, report)
    if len(report.estimates.rows) <= _MOST_ESTIMATES:
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
    """Show what is said of accuracy; of costs, the tables above say enough for a terminal."""
    verdicts = report.comparison.verdicts
    words = [v.words for v in verdicts if v.metric == keys.TEST_ACCURACY][:_MOST_VERDICTS]
    if words:
        printer.heading("Evidence")
        printer.points(words)
        if more := len(verdicts) - len(words):
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

    def points(self, texts: Iterable[str], marks: Iterable[str] = repeat("-")) -> None:
        for mark, text in zip(marks, texts, strict=False):
            lines = Text(printable(text)).wrap(self._console, self._console.width - len(mark) - 1)
            for number, line in enumerate(lines):
                line.rstrip()
                indent = f"{mark} " if number == 0 else " " * (len(mark) + 1)
                self._console.print(Text(indent).append_text(line))

    def table(self, heading: str, table: Table) -> None:
        if not table.rows:
            return
        self.heading(heading)
        widths = _widths(table, self._console.width)
        if widths:
            self._console.print(_drawn(table, widths))
        else:
            self._one_by_one(table)
        for note in table.notes:
            self.line(note, "dim")

    def _one_by_one(self, table: Table) -> None:
        """A table that is too wide for the terminal becomes a list."""
        for row in table.rows:
            self.line(_on_one_line(row[0]))
            for column, cell in zip(table.columns[1:], row[1:], strict=True):
                if cell.text:
                    self.line(f"  {column.title}: {_on_one_line(cell)}")


def _on_one_line(cell: Cell) -> str:
    return " ".join(filter(None, (cell.key or cell.text, cell.more)))


def _text(cell: Cell) -> str:
    """Return what stands in a cell: where groups have letters, a list above explains them."""
    return printable(cell.key or cell.text)


def _widths(table: Table, available: int) -> list[int] | None:
    """Share out the width: figures are never broken or cut, text gets what is left.

    Returns:
        One width a column; None where there is too little.
    """
    wanted = []
    least = []
    for position, column in enumerate(table.columns):
        cells = [row[position] for row in table.rows]
        content = max(max(cell_len(_text(cell)), cell_len(cell.more)) for cell in cells)
        head = max(map(len, column.title.split()))
        wanted.append(max(content, head))
        least.append(wanted[-1] if column.numeric else max(min(content, _NARROWEST_TEXT), head))
    room = available - len(_GAP) * (len(wanted) - 1)
    if sum(least) > room:
        return None
    widths = least
    while sum(widths) < room and widths != wanted:
        narrowest = min((width, i) for i, width in enumerate(widths) if width < wanted[i])[1]
        widths[narrowest] += 1
    return widths


def _drawn(table: Table, widths: Sequence[int]) -> RichTable:
    padding = (0, len(_GAP) - 1, 0, 0)  # rich adds a blank between columns
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
    for column, width in zip(table.columns, widths, strict=True):
        drawn.add_column(
            # Broken between words alone.
            Text("\n".join(textwrap.wrap(column.title, width, break_long_words=False))),
            justify="right" if column.numeric else "left",
            vertical="top",
            overflow="fold",
            width=width,
        )
    for row in table.rows:
        drawn.add_row(*(_shown(cell) for cell in row))
    return drawn


def _shown(cell: Cell) -> Text:
    text = Text(_text(cell), "dim" if cell.is_missing else "")
    if cell.more:
        text.append(f"\n{printable(cell.more)}", "dim")
    return text
