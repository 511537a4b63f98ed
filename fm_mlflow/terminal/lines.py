"""The console, on which every text is text, and what commands print alike.

Only this file makes styled text of strings (rich's `Text`; ruff refuses it elsewhere), so that no
name from a store, a file or a model reaches a terminal unescaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.progress import Task, TextColumn
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text
from typing_extensions import override

from fm_mlflow.escaping import HIDDEN, printable, shortened

# MLflow's UI opens on its view of language models unless told otherwise.
_TRAINING_VIEW = "workflowType=machine_learning"


_LONGEST_TEXT = 1000


def shown(text: str, style: str = "") -> Text:
    """Return a text to be printed as it is: escaped, on one line, shortened if very long."""
    return Text(printable(shortened(text, _LONGEST_TEXT)), style)


class SafeConsole(Console):
    """A console that shows strings as they are: no markup, no emoji codes, no highlighting.

    Whatever draws them, no control character of a text reaches the terminal; styles are only those
    that this package gives.
    """

    @override
    def render_str(self, text: str, *, style: Any = "", **_: Any) -> Text:
        return shown(text, style)

    @override
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text == "\n" or segment.text.isprintable():
                yield segment
            else:  # of text that a library made, a traceback say
                lines = map(printable, segment.text.split("\n"))
                yield Segment("\n".join(lines), segment.style)


class SafeColumn(TextColumn):
    """A column of a progress display that shows texts as they are, on one line each."""

    @override
    def render(self, task: Task) -> Text:
        return shown(self.text_format.format(task=task))


def print_line(console: SafeConsole, text: str, style: str = "", *, wrapped: bool = True) -> None:
    """Print any text as text, on one line, or as many as a narrow terminal needs.

    A line that is not `wrapped` is broken by the terminal alone, so that it can be copied.
    """
    line = shown(text, style) if wrapped else Text(printable(text), style)
    console.print(line, soft_wrap=not wrapped)


def browse_commands(tracking_uri: str, experiment_id: str, run_id: str) -> list[tuple[str, str]]:
    """Return how to open a run in MLflow's UI: a label and the command or address."""
    return page_commands(tracking_uri, f"/#/experiments/{experiment_id}/runs/{run_id}")


def page_commands(tracking_uri: str, path: str) -> list[tuple[str, str]]:
    """Return how to open a page of MLflow's UI: a label and the command or address."""
    page = f"{path}?{_TRAINING_VIEW}"
    if tracking_uri.startswith(("http://", "https://")):
        server = urlsplit(tracking_uri)
        address = server._replace(netloc=server.netloc.rpartition("@")[2]).geturl()
        return [("Browse it", address.rstrip("/") + page)]
    return [
        ("Browse it", f"mlflow ui --backend-store-uri {shell_uri(tracking_uri)}"),
        ("and open", f"http://127.0.0.1:5000{page}"),
    ]


def print_commands(console: SafeConsole, commands: Iterable[tuple[str, str]]) -> None:
    """Show commands, each under its label, never wrapped: they are there to be copied."""
    for label, command in commands:
        print_line(console, f"{label}:", "bold")
        print_line(console, f"  {command}", wrapped=False)


def shell_uri(uri: str) -> str:
    """Return a store for a shell; one with a password is left to the variable that holds it."""
    return '"$MLFLOW_TRACKING_URI"' if HIDDEN in uri else shlex.quote(uri)


def pairs(rows: Iterable[tuple[str, str]]) -> Padding:
    """Return labels and texts as two columns."""
    return grid((Column(style="dim", no_wrap=True), Column(overflow="fold")), rows)


def grid(columns: Iterable[Column], rows: Iterable[Iterable[RenderableType]]) -> Padding:
    """Return texts in columns, as they stand under a title."""
    table = Table.grid(*columns, padding=(0, 2))
    for row in rows:
        table.add_row(*row)
    return Padding(table, (0, 0, 1, 2), expand=False)
