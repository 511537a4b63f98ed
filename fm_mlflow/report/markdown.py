"""A comparison as one Markdown file, and templates that escape every text of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.prose.words import counted
from fm_mlflow.escaping import code_line, markdown
from fm_mlflow.report.contents import contents
from fm_mlflow.report.layout import Cell, Table


def to_markdown(comparison: Comparison) -> str:
    """Return the report as Markdown: the same text for the same comparison."""
    return (
        environment(markdown)
        .get_template("report.md")
        .render(
            comparison=comparison,
            report=contents(comparison),
            counted=counted,
            grid=_grid,
            code=lambda line: Markup(code_line(line)),
        )
    )


@cache
def environment(shown: Callable[[str], str]) -> Environment:
    """Return templates that pass every text through `shown`, so that names inject no markup.

    Args:
        shown: Escapes any text for the format.
    """

    def finalize(value: object) -> object:
        if isinstance(value, Markup) or not isinstance(value, str):
            return value
        return Markup(shown(value))

    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _grid(table: Table) -> Markup:
    """Return a table and the notes below it."""
    lines = [
        _line(column.title for column in table.columns),
        "|" + "".join("---:|" if column.numeric else "---|" for column in table.columns),
        *(_line(_joined(cell) for cell in row) for row in table.rows),
    ]
    for note in table.notes:
        lines += ["", markdown(note)]
    return Markup("\n".join(lines))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(markdown, cells))} |"


def _joined(cell: Cell) -> str:
    text = f"{cell.key}: {cell.text}" if cell.key else cell.text
    separator = " " if cell.group is None else ", "
    return f"{text}{separator}{cell.more}" if cell.more else text
