"""What a person sees of `doctor`."""

from __future__ import annotations

from rich.table import Column

from fm_mlflow.results.doctor import DoctorResult
from fm_mlflow.terminal.lines import SafeConsole, grid, shown

_STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}


def print_doctor(console: SafeConsole, result: DoctorResult) -> None:
    """Show one line a finding."""
    columns = (Column(no_wrap=True), Column(no_wrap=True), Column(overflow="fold"))
    rows = [
        (shown(each.state, _STYLES[each.state]), shown(each.what), shown(each.found))
        for each in result.findings
    ]
    console.print(grid(columns, rows))
