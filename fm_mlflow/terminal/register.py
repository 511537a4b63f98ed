"""What a person sees of the registry: checks and gates, versions, the commands that come next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from urllib.parse import quote

from rich.cells import cell_len, set_cell_size
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Column

from fm_mlflow import keys
from fm_mlflow.analysis.prose.words import in_row
from fm_mlflow.analysis.records import DataSet
from fm_mlflow.report.promotion import outcome_sentence
from fm_mlflow.results.register import (
    Check,
    Registration,
    Rollback,
    VersionList,
)
from fm_mlflow.settings.registered import CHAMPION, PREVIOUS
from fm_mlflow.terminal.lines import (
    SafeConsole,
    grid,
    page_commands,
    print_commands,
    print_line,
    shell_uri,
    shown,
)

_VERDICTS = {
    True: shown("ok", "green"),
    False: shown("FAILED", "bold red"),
    None: shown("-", "dim"),
}
_CONSISTENT = shown("as logged", "yellow")
"""What the run says agrees with itself."""

_FIGURES = (keys.FLOPS_INFERENCE, keys.SIZE_INFERENCE, keys.LATENCY_P50)
_PORT = 5001
_COMMIT_DIGITS = 8
_MARKS = {
    "model": ("*", "measured by the process that ran the model's code, which could say otherwise"),
    "run": ("**", "of the predictions that the run logged: the model was not tested again"),
}


def print_registration(console: SafeConsole, result: Registration) -> None:
    """Show every check and gate, what was done, and what to do next."""
    console.print()
    print_line(console, f"{result.run_name} on {_data_set(result)}", "bold")
    console.print(Padding(result.reason, (0, 0, 1, 2)))
    checks: list[tuple[RenderableType, ...]] = [
        (
            _marked(check.figure, check.by),
            _value(check, check.logged),
            _value(check, check.measured),
            _CONSISTENT if check.passed and check.by == "run" else _VERDICTS[check.passed],
        )
        for check in result.checks
    ]
    console.print(_table(("verified", "logged", "found", ""), checks))
    if any(check.passed is None for check in result.checks):
        print_line(console, "  - shown, not compared", "dim")
    if result.gates:
        gates = [
            (_marked(each.name, each.by), each.bound, each.figure, _VERDICTS[each.passed])
            for each in result.gates
        ]
        console.print(_table(("gate", "required", "found", ""), gates))
    measured_by = {*(each.by for each in result.checks), *(each.by for each in result.gates)}
    for mark, meaning in (each for by, each in _MARKS.items() if by in measured_by):
        print_line(console, f"  {mark} {meaning}", "dim")
    if result.dataset_note:
        print_line(console, result.dataset_note)
    print_line(console, outcome_sentence(result), "bold")
    for each in result.needed:
        console.print(Padding(f"to pass: {each}", (0, 0, 0, 2)))
    if result.outcome in ("refused", "dry run"):
        return
    store = f"MLFLOW_TRACKING_URI={shell_uri(result.tracking_uri)}"
    uri = shlex.quote(f"models:/{result.name}@{CHAMPION}")
    serve = f"{store} mlflow models serve -m {uri} --env-manager local --port {_PORT}"
    classify = f"{store} fm-mlflow predict --model {uri} --input IMAGES.npy"
    pages = page_commands(result.tracking_uri, f"/#/models/{quote(result.name)}")
    commands = [*pages, ("Serve it", serve)]
    if any(check.figure == "class names" for check in result.checks):  # a classifier of images
        commands.append(("Classify a file of images", classify))
    print_commands(console, commands)


def _marked(name: str, by: str) -> str:
    return f"{name} {_MARKS[by][0]}" if by in _MARKS else name


def print_versions(console: SafeConsole, listed: VersionList) -> None:
    """Show the versions of a registered model, newest first."""
    if not listed.versions:
        print_line(console, f"{listed.name}: no version yet")
        return
    print_line(console, f"{listed.name}, on {_data_set(listed)}", "bold")
    metric = listed.versions[0].tags.get(keys.METRIC, keys.TEST_ACCURACY)
    by = "accuracy" if metric == keys.TEST_ACCURACY else metric
    heads = ("", "", by, "FLOPs", "size", "latency", "verified", "commit")
    rows: list[tuple[str, ...]] = [(*heads, "")]
    for version in listed.versions:
        created = datetime.fromtimestamp(version.created / 1000, timezone.utc).isoformat()
        figures = [(key, version.figure(key)) for key in (metric, *_FIGURES)]
        rows.append(
            (
                str(version.version),
                " ".join(version.aliases),
                *("-" if value is None else in_row(key, value) for key, value in figures),
                version.tags.get(keys.VERIFIED_AT, created).partition("T")[0],
                version.tags.get(keys.MLFLOW_GIT_COMMIT, "-")[:_COMMIT_DIGITS],
                version.tags.get(keys.MODEL, "not verified"),
            )
        )
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for at, (*row, model) in enumerate(rows):
        cells = (set_cell_size(*each) for each in zip(row, widths, strict=False))
        print_line(console, f"  {'  '.join(cells)}".rstrip(), "" if at else "dim")
        if model:  # names are long, and would be broken in a column
            print_line(console, f"  {' ' * widths[0]}  {model}", wrapped=False)


def print_rollback(console: SafeConsole, result: Rollback) -> None:
    """Show which version is the champion again."""
    name = f"{result.name}, on {_data_set(result)},"
    text = f"version {result.champion} of {name} is the {CHAMPION} again; "
    text += f"version {result.previous} is kept as {PREVIOUS}"
    print_line(console, text)


def _value(check: Check, value: float | str | None) -> RenderableType:
    if value is None:
        return shown("-", "dim")
    if isinstance(value, str):
        return value
    # Two figures that differ must not look alike.
    return repr(value) if check.passed is False else in_row(check.figure, value)


def _data_set(result: Registration | VersionList | Rollback) -> str:
    return str(DataSet(result.dataset or "", result.dataset_digest))


def _table(heads: Sequence[str], rows: Iterable[Iterable[RenderableType]]) -> Padding:
    columns = [Column(overflow="fold") for _ in heads]
    return grid(columns, [[shown(head, "dim") for head in heads], *rows])
