"""The files that describe the project agree with each other and with the code."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from pydantic import BaseModel

from fm_mlflow.cli import cli
from fm_mlflow.settings.config import BenchmarkConfig, TrainConfig
from fm_mlflow.settings.registered import RegisterConfig
from fm_mlflow.settings.selection import CompareConfig
from fm_mlflow.settings.sweep import SweepConfig
from tests.processes import PROJECT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((PROJECT / "conda.yaml").read_text())
ENTRY_POINTS = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
CONSTRAINTS = [Requirement(line) for line in (PROJECT / "constraints.txt").read_text().splitlines()]
SUPPORTED_PYTHONS = ["3.10", "3.11", "3.12", "3.13"]

OTHER_NAMES = {
    "PIL": "pillow",
    "pynvml": "nvidia-ml-py",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Distributions that are not called as what they are imported as."""

DECIDES = ("metric", "smaller_is_better", "larger_is_better", "cost")

OPTIONAL = {"jax", "nvml", "ray", "slurm", "sweep", "torch"}
"""Extras of users: what the package imports where it is installed."""

ENTRY_POINT_COMMANDS: dict[str, tuple[str, type[BaseModel]]] = {
    "main": ("train", TrainConfig),
    "compare": ("compare", CompareConfig),
    "benchmark": ("benchmark", BenchmarkConfig),
    "register": ("register", RegisterConfig),
    "sweep": ("sweep", SweepConfig),
}


def pinned_version(name: str, python: str) -> str:
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    (version,) = {
        next(iter(pin.specifier)).version
        for pin in CONSTRAINTS
        if canonicalize_name(pin.name) == canonicalize_name(name)
        and (pin.marker is None or pin.marker.evaluate(environment))
    }
    return version


def declared() -> list[Requirement]:
    groups = [PYPROJECT["dependencies"], *PYPROJECT["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group]


def test_conda_environment_installs_what_pyproject_declares() -> None:
    (pip,) = [entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict)]
    assert pip[0] == "-c constraints.txt"
    assert pip[1:] == PYPROJECT["dependencies"]


def test_conda_python_is_supported_and_exact() -> None:
    (python,) = [entry for entry in CONDA["dependencies"] if str(entry).startswith("python=")]
    version = python.removeprefix("python=")
    # MLflow's virtualenv manager would otherwise build the newest patch release from source.
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert version in SpecifierSet(PYPROJECT["requires-python"])


@pytest.mark.parametrize("python", SUPPORTED_PYTHONS)
def test_constraints_pin_every_declared_package_within_its_range(python: str) -> None:
    assert python in SpecifierSet(PYPROJECT["requires-python"])
    for requirement in declared():
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        assert pinned_version(requirement.name, python) in requirement.specifier, requirement


def test_the_source_archive_is_the_repository() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    if not tracked:
        pytest.skip("this is no clone")
    lines = [line.split() for line in (PROJECT / "MANIFEST.in").read_text().splitlines()]
    grafted = {words[1] for words in lines if words[:1] == ["graft"]}
    patterns = [pattern for words in lines if words[:1] == ["include"] for pattern in words[1:]]
    of_build = {"fm_mlflow", "MANIFEST.in", "pyproject.toml"}  # setuptools takes these by itself
    for name in {path.split("/")[0] for path in tracked} - grafted - of_build:
        assert any(fnmatch(name, pattern) for pattern in patterns), name


def test_constraints_hold_versions_and_nothing_else() -> None:
    for pin in CONSTRAINTS:
        assert pin.url is None
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin


def statements(path: Path) -> Iterator[ast.AST]:
    """Those of a file, in any depth; not the expressions, which are most of what it has."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        yield (node := waiting.pop())
        waiting += [each for each in ast.iter_child_nodes(node) if not isinstance(each, ast.expr)]


def test_imported_packages_and_declared_packages_are_the_same() -> None:
    imported = set()
    for path in (PROJECT / "fm_mlflow").rglob("*.py"):
        for node in statements(path):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    imported -= {*sys.stdlib_module_names, "fm_mlflow"}
    names = {canonicalize_name(OTHER_NAMES.get(module, module)) for module in imported}
    of_users = {k: v for k, v in PYPROJECT["optional-dependencies"].items() if k in OPTIONAL}
    groups = [PYPROJECT["dependencies"], *of_users.values()]
    assert names == {canonicalize_name(Requirement(d).name) for each in groups for d in each}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_entry_point_has_the_parameters_and_defaults_of_its_config(entry_point: str) -> None:
    command, config = ENTRY_POINT_COMMANDS[entry_point]
    parameters: dict[str, Any] = ENTRY_POINTS[entry_point]["parameters"]
    # Beside a benchmark a default that is given is a wish; so `mlflow run` must not give these.
    unsaid = DECIDES if entry_point == "register" else ()
    assert {name: spec["default"] for name, spec in parameters.items()} == {
        name: "" if field.default is None or name in unsaid else field.default
        for name, field in config.model_fields.items()
    }
    types = {int: "int", float: "float"}
    for name, field in config.model_fields.items():
        assert parameters[name]["type"] == types.get(field.annotation, "string")  # type: ignore[arg-type]

    line = ENTRY_POINTS[entry_point]["command"]
    assert line.split()[:4] == ["python", "-m", "fm_mlflow", command]
    options = {option.opts[0] for option in cli.commands[command].params}
    for name in parameters:
        assert f"--{name.replace('_', '-')} {{{name}}}" in line
        assert f"--{name.replace('_', '-')}" in options


def test_generated_pages_are_up_to_date() -> None:
    pages: dict[str, str] = runpy.run_path(str(PROJECT / "docs" / "generate.py"))["pages"]()
    for name, text in pages.items():
        assert (PROJECT / "docs" / name).read_text() == text, "run: python docs/generate.py"
    for name, command in cli.commands.items():
        assert command.hidden or f"## {name}\n" in pages["commands.md"]
