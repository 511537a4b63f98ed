"""Writes the pages that follow from the code: `python docs/generate.py`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from fm_mlflow import keys
from fm_mlflow.cli import cli
from fm_mlflow.terminal.options import Command

FOLDER = Path(__file__).parent


def pages() -> dict[str, str]:
    """Return each generated page, by its name in this folder."""
    return {"commands.md": "\n".join(_commands()), "keys.md": "\n".join(_keys())}


def _commands() -> Iterator[str]:
    yield "# Commands and their options\n"
    yield "Generated from the settings. The parameters of the MLflow Project (`-P NAME=VALUE`) and"
    yield "of the Python functions have the same names, with `_` for `-`.\n"
    whole = cli.make_context("fm-mlflow", [], resilient_parsing=True)
    for name, command in cli.commands.items():
        if command.hidden:
            continue
        assert isinstance(command, Command)
        context = command.make_context(name, [], whole, resilient_parsing=True)
        usage = " ".join(["fm-mlflow", name, *command.collect_usage_pieces(context)])
        yield f"## {name}\n\n`{usage}`\n"
        yield f"{inspect.cleandoc(command.help or '')}\n"
        for title, records in command.groups(context).items():
            yield f"**{title}**\n\n| option | |\n|---|---|"
            yield from (f"| `{option}` | {text.replace('|', '')} |" for option, text in records)
            yield ""


def _keys() -> Iterator[str]:
    yield "# Names in the tracking store\n"
    yield "Generated from `fm_mlflow/keys.py`."
    by_group: dict[str, list[keys.Key]] = {}
    for key in keys.all_keys():
        by_group.setdefault(key.group, []).append(key)
    for group, members in by_group.items():
        yield f"\n## {group}\n\n| name | unit | meaning |\n|---|---|---|"
        yield from (f"| `{key}` | {key.unit} | {key.meaning} |" for key in members)
    yield ""


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
