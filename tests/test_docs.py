"""What the pages tell readers to type is accepted as it stands there.

Every command in a block or within a sentence is parsed by the real parsers, settings included. What
takes seconds is run: by README's and the tutorial's steps of `.ci/run`, and by `.ci/how_to`.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from mlflow.cli import cli as mlflow_cli

from fm_mlflow.cli import cli
from fm_mlflow.settings.base import Settings, parse
from fm_mlflow.settings.config import (
    BenchmarkConfig,
    ReconcileConfig,
    ResumeConfig,
    SyncConfig,
    TrainConfig,
)
from fm_mlflow.settings.registered import PredictConfig, RegisterConfig
from fm_mlflow.settings.selection import CompareConfig
from fm_mlflow.settings.sweep import SweepConfig
from fm_mlflow.terminal.options import given_settings
from tests.processes import PROJECT

CONFIGS: dict[str, type[Settings]] = {
    "train": TrainConfig,
    "compare": CompareConfig,
    "benchmark": BenchmarkConfig,
    "sweep": SweepConfig,
    "register": RegisterConfig,
    "predict": PredictConfig,
    "resume": ResumeConfig,
    "sync": SyncConfig,
    "reconcile": ReconcileConfig,
    "doctor": Settings,
}
ENTRY_POINTS = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md")
    for path in PROJECT.glob(pattern)
    if path.name not in {"commands.md", "CHANGELOG.md"}  # generated; what was true once
)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_OURS = re.compile(r"(?:^|[\s$(])((?:python -m )?fm[_-]mlflow|mlflow) +(?=[a-z.-])")
_ABBREVIATED = re.compile(r"…|\.\.\.|\[[A-Z_]+\]")
_ENDS = {"&&", "||", ";", "|", ">", "2>&1", "&"}


def blocks(page: Path, *languages: str) -> list[str]:
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command of ours or of MLflow's that a page shows."""
    shell = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    comments = re.findall(r"#.*?((?:fm-)?mlflow .*)$", "\n".join(blocks(page, "python")), re.M)
    spans = _SPAN.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))
    shown = "\n".join(blocks(page, "text")).splitlines()
    at_start = [line for line in [*spans, *shown] if line.startswith(("fm-mlflow", "mlflow "))]
    for line in [*shell, *comments, *at_start]:
        found = _OURS.search(line)
        if found is None or _ABBREVIATED.search(line) or line[: found.start()].count("'") % 2:
            continue
        words = shlex.split(line[found.start(1) :].replace("`", ""), comments=True)
        end = next((at for at, word in enumerate(words) if word in _ENDS), len(words))
        yield words[:end]


def check_ours(arguments: list[str]) -> None:
    """Have the command line parse its words, and the command its settings."""
    whole = cli.make_context("fm-mlflow", [], resilient_parsing=True)
    name, *rest = arguments
    if name.startswith("-"):
        cli.make_context("fm-mlflow", arguments, resilient_parsing=True)
        return
    context = cli.commands[name].make_context(name, [*rest], whole, resilient_parsing=not rest)
    if rest:
        config = CONFIGS[name]
        with context:
            given = {each: context.params[each] for each in config.model_fields}
            parse(config, given_settings(given))


def check_mlflow(arguments: list[str]) -> None:
    """Have MLflow parse its words; and our project's parameters, where it runs that."""
    name, *rest = arguments
    group: Any = mlflow_cli
    above = click.Context(group)
    command = group.get_command(above, name)
    while isinstance(command, click.Group):
        name, *rest = rest
        command = command.get_command(above, name)
    assert command is not None, name
    context = command.make_context(name, [*rest], resilient_parsing=not rest)
    if context.params.get("uri") != ".":
        return
    entry = context.params["entry_point"]
    given = dict(each.split("=", 1) for each in context.params["param_list"])
    assert given.keys() <= ENTRY_POINTS[entry]["parameters"].keys()
    words = [word for key, value in given.items() for word in (f"--{key}", value)]
    check_ours(["train" if entry == "main" else entry, *words])


def test_every_command_of_every_page_is_accepted() -> None:
    checked: dict[str, int] = {}
    for page in PAGES:
        for program, *arguments in commands(page):
            ours = program != "mlflow"
            if program == "python":
                arguments = arguments[2:]
            try:
                (check_ours if ours else check_mlflow)(arguments)
            except Exception as error:
                pytest.fail(f"{page.name}: {shlex.join([program, *arguments])}: {error}")
            checked[page.name] = checked.get(page.name, 0) + 1
    assert {"README.md", "tutorial.md", "train.md", "sweep.md", "cluster.md"} <= checked.keys()
    assert sum(checked.values()) > 60


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fm-mlflow train --epoch 3", "No such option"),
        ("fm-mlflow benchmark --models mlp --seeds 0", "seeds"),
        ("fm-mlflow compare --cost flop", "cost"),
        ("mlflow run . -P modell=cnn", "modell"),
        ("mlflow run . -e sweep -P trials=none", "trials"),
        ("mlflow models serve --modl x", "No such option"),
    ],
)
def test_a_wrong_command_would_be_found(words: str, said: str) -> None:
    program, *arguments = shlex.split(words)
    with pytest.raises(Exception, match=said):
        (check_mlflow if program == "mlflow" else check_ours)(arguments)


@pytest.mark.parametrize("page", [each for each in PAGES if blocks(each, "python")])
def test_python_blocks_compile_and_what_they_import_is_there(page: Path) -> None:
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), block
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.Call):
                _check_keywords(node)


def _check_keywords(call: ast.Call) -> None:
    """Have the settings of our own functions parse the keywords whose values stand there."""
    name = ast.unparse(call.func).removeprefix("fm_mlflow.")
    config = CONFIGS.get(name)
    if config is None or not ast.unparse(call.func).startswith("fm_mlflow."):
        return
    given = {
        each.arg: ast.literal_eval(each.value)
        for each in call.keywords
        if each.arg and isinstance(each.value, ast.Constant)
    }
    parse(config, given)


def test_no_block_is_of_a_language_that_nobody_checks() -> None:
    languages = {
        (language, page.name)
        for page in PAGES
        for language, _ in _BLOCK.findall(page.read_text(encoding="utf-8"))
    }
    assert {language for language, _ in languages} <= {"sh", "python", "text", "yaml", "toml"}
