"""The programs in examples/, run as a user runs them."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot
import pytest
import yaml

from fm_mlflow import keys
from fm_mlflow.cli import cli
from fm_mlflow.results.register import Check, Gate
from tests.processes import PROJECT
from tests.quick_costs import quick_costs as quick_costs  # a fixture
from tests.stores import Store
from tests.terminal.test_register import VERIFIED


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(PROJECT / "examples" / f"{name}.py"), run_name="__main__")


def test_each_example_is_short() -> None:
    for path in (PROJECT / "examples").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path.name


def workflow_steps() -> list[dict[str, Any]]:
    workflow = yaml.safe_load((PROJECT / "examples" / "ci" / "github-actions.yml").read_text())
    steps: list[dict[str, Any]] = workflow["jobs"]["promote"]["steps"]
    return steps


LACKS_GAIN = Gate("gain over version 3", "better, or lower cost", "-0.10 points", False)
BREAKS_BOUND = Gate("--min-accuracy", "at least 0.88", "0.87", False)
HOLDS = Gate("accuracy v version 3", "not below it", "-0.10", True)
CHANGED = Check(keys.TEST_ACCURACY, 0.99, 0.9, "equal", False)


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("bash")), reason="runs bash and jq")
@pytest.mark.parametrize(
    ("exit_code", "changes", "job"),
    [
        (0, {"outcome": "registered"}, 0),
        (3, {"gates": (HOLDS, LACKS_GAIN)}, 0),
        (3, {"gates": (BREAKS_BOUND, HOLDS, LACKS_GAIN)}, 3),
        (3, {"gates": (replace(HOLDS, passed=False),)}, 3),
        (3, {"gates": (HOLDS, LACKS_GAIN), "checks": (CHANGED,)}, 3),
        (3, {"gates": (HOLDS,)}, 3),  # another process was faster
        (3, None, 3),  # of another data set: there is no result
        (1, None, 1),
        (2, {"gates": (HOLDS, LACKS_GAIN)}, 2),
    ],
)
def test_the_workflow_takes_a_lack_of_gain_alone_for_no_failure(
    exit_code: int, changes: dict[str, Any] | None, job: int, tmp_path: Path
) -> None:
    (promote,) = (each["run"] for each in workflow_steps() if "Promote" in each.get("name", ""))
    said = "" if changes is None else json.dumps(replace(VERIFIED, **changes).to_dict())
    (tmp_path / "said.json").write_text(said)
    (program := tmp_path / "fm-mlflow").write_text(f"#!/bin/sh\ncat said.json\nexit {exit_code}\n")
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", promote],
        cwd=tmp_path,
        env={"PATH": path, "BENCHMARK": "b"},
        capture_output=True,
    )
    assert done.returncode == job, done.stderr


def test_the_commands_of_the_workflow_are_those_of_the_command_line() -> None:
    steps = [step.get("run", "") for step in workflow_steps()]
    lines = [re.split(r" \|\| | >", line)[0] for step in steps for line in step.splitlines()]
    commands = [shlex.split(line) for line in lines if line.startswith("fm-mlflow")]
    assert [words[1] for words in commands] == ["benchmark", "register", "register"]
    whole = cli.make_context("fm-mlflow", [], resilient_parsing=True)
    taken = []
    for _, name, *arguments in commands:
        context = cli.commands[name].make_context(name, arguments, whole)  # or it is refused
        taken.append(context.params)
    train, check, promote = taken
    assert train["models"] == "$MODEL"
    assert (check["benchmark"], promote["benchmark"]) == ("$BENCHMARK", "$BENCHMARK")
    assert (check["dry_run"], check["against_champion"]) == ("true", "not-worse")
    assert (promote["dry_run"], promote["against_champion"]) == (None, None)


@pytest.mark.parametrize(
    ("name", "inference", "training_core"),
    [
        # Dense of 64 x 32 and 32 x 10: forward, gradients of weights, of the second's inputs.
        ("arrays", 2 * 2368 + 32 + 10 + 5 * 10, 2 * 2 * 2368 + 2 * 320),
        ("own_loop", 2 * 2368 + 32 + 10, 2 * 2 * 2368 + 2 * 320),
        # A mean of 16 words in 8 dimensions, one unit and its sigmoid.
        ("text", 15 * 8 + 8 + 2 * 8 + 1 + 1, 3 * 2 * 8),
    ],
)
def test_an_example_logs_figures_that_a_hand_can_check(
    name: str,
    inference: int,
    training_core: int,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(name, monkeypatch)

    logged = store.only_run()
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics["flops/inference"] == inference
    assert logged.data.metrics["flops/training_core"] == training_core
    assert logged.data.metrics["latency/p50_ms"] > 0


def test_the_regression_is_compared_over_its_seeds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("regression", monkeypatch, "2", "1")

    runs = store.client.search_runs(["0"])
    assert {each.info.status for each in runs} == {"FINISHED"}
    assert [each.data.tags["fm_mlflow.model"] for each in runs] == 2 * ["width-64"] + 2 * [
        "width-8"
    ]
    assert len({each.data.tags["fm_mlflow.dataset_digest"] for each in runs}) == 1
    core = {each.data.metrics["flops/training_core"] for each in runs}
    assert core == {2 * 2 * 10 * width + 3 * 2 * width for width in (8, 64)}


@pytest.mark.usefixtures("copied_processes")
def test_the_notebook_runs_from_top_to_bottom(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    notebook = json.loads((PROJECT / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATASET", "digits")
    monkeypatch.setenv("EPOCHS", "1")
    monkeypatch.setattr(matplotlib.pyplot, "show", lambda: None)
    shared: dict[str, Any] = {}
    for cell in code:  # in this process: a kernel would import TensorFlow again
        exec(compile(cell, "notebook", "exec"), shared)
    assert sorted(shared["runs"].index) == ["cnn", "mlp"]
    assert shared["runs"].loc["cnn", "flops/inference"] == 1_442_332
    assert shared["registered"].outcome == "registered"
    assert (tmp_path / "notebook-comparison" / "report.html").is_file()
    assert len(store.client.search_registered_models()) == 1


def test_the_notebook_is_small_and_shows_its_results() -> None:
    text = (PROJECT / "examples" / "notebook.ipynb").read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert len(text) < 200_000
    silent = [cell["source"][0].split()[0] for cell in cells if not cell["outputs"]]
    assert silent == ["import", "#"]  # the imports, and what is left to the reader
    assert "/home" not in text
