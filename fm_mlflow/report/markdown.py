"""A comparison as one Markdown file."""

from __future__ import annotations

from markupsafe import Markup

from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.report import contents
from fm_mlflow.report.contents import Cell, Table
from fm_mlflow.report.templating import environment
from fm_mlflow.report.text import markdown, printable


def to_markdown(comparison: Comparison) -> str:
    """Return the report as Markdown: the same text for the same comparison."""
    template = environment(markdown, escaped=True).get_template("report.md")
    return template.render(
        comparison=comparison,
        contents=contents,
        subtitle=contents.subtitle(comparison),
        grid=_grid,
        code=_code,
        evidence=contents.evidence(comparison),
        metrics=contents.all_metrics(comparison),
        skipped=contents.skipped(comparison),
    )


def _grid(table: Table) -> Markup:
    """Return a table and the notes below it."""
    lines = [
        "| " + " | ".join(markdown(column.title) for column in table.columns) + " |",
        "|" + "".join("---:|" if column.numeric else "---|" for column in table.columns),
        *("| " + " | ".join(markdown(_joined(cell)) for cell in row) + " |" for row in table.rows),
    ]
    for note in table.notes:
        lines += ["", markdown(note)]
    return Markup("\n".join(lines))


def _joined(cell: Cell) -> str:
    separator = ", " if cell.group is not None else " "
    return f"{cell.text}{separator}{cell.more}" if cell.more else cell.text


def _code(line: str) -> Markup:
    """Return a line of a code block: indented, which nothing in it can end."""
    return Markup(f"    {printable(line)}")
