"""What commands print alike: a line, figures in two columns, and the commands that come next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from urllib.parse import urlsplit

from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from fm_mlflow.process.redaction import HIDDEN
from fm_mlflow.report.text import printable

# MLflow's UI opens on its view of language models unless told otherwise.
_TRAINING_VIEW = "workflowType=machine_learning"


def print_line(console: Console, text: str, style: str = "", *, wrapped: bool = True) -> None:
    """Print any text as text: no markup, no highlighted digits, no control characters.

    A line that is not `wrapped` is broken by the terminal alone, so that it can be copied.
    """
    console.print(Text(printable(text), style), soft_wrap=not wrapped)


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


def print_commands(console: Console, commands: Iterable[tuple[str, str]]) -> None:
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


def grid(columns: Iterable[Column], rows: Iterable[Iterable[str | Text]]) -> Padding:
    """Return texts in columns, as they stand under a title."""
    table = Table.grid(*columns, padding=(0, 2))
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return Padding(table, (0, 0, 1, 2), expand=False)
