"""The command line without TensorFlow: help, and bad input that starts nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fm_mlflow import __version__
from fm_mlflow.cli import cli
from tests.processes import command_in_this_process


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--epochs", "0"], "epochs: received '0', accepted: a whole number from 1"),
        (["train", "--learning_rate", "x"], "learning_rate: received 'x', accepted: a number"),
        (["train", "--model", "vgg"], "model: received 'vgg', accepted: mlp, cnn, package.module"),
        (["train", "--dataset", "cifar"], "dataset: received 'cifar', accepted: fashion_mnist, "),
        (["train", "--batchsize", "3"], "--batchsize: received '--batchsize', accepted: what fm-"),
        (["train", "--xyzzy", "3"], "--xyzzy: received '--xyzzy', accepted: one of the options"),
        (["train", "--epochs"], "command line: received \"Option '--epochs' requires"),
        (["train", "extra"], "command line: received 'Got unexpected extra argument (extra)'"),
        (
            ["trian"],
            "command: received 'trian', accepted: one of train, compare, benchmark, sweep, reg",
        ),
        (["resume"], "RUN_ID: received '', accepted: an id, as in fm-mlflow resume RUN_ID"),
        (["train", "--data-dir", "nowhere"], "data_dir: received 'nowhere', accepted: a folder"),
        (["train", "--dataset", "idx", "--data-dir", "x" * 5000], "data_dir: received 'xxx"),
        (["train", "--seed", "9" * 4400], "seed: received '999"),
        (
            ["benchmark", "--seeds", "1000000000"],
            "seeds: received '1000000000', accepted: auto,",
        ),
        (["register", "--run-id", " "], "run_id: received ' ', accepted: text: not blank"),
        (["resume", " "], "run: received ' ', accepted: the id of a run or a journal"),
        (["resume", "../../run"], "run: received '../../run', accepted: the id of a run"),
        (["compare", "--output", "x" * 5000], "output: received 'xxx"),
        (["compare", "--output", "nul\0"], "output: received 'nul\\x00', accepted: text: not"),
        (["predict", "--input", "x" * 5000], "input: received 'xxx"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command_in_this_process(*arguments)
    assert code == 2
    assert out == ""
    (line,) = [line for line in err.splitlines() if not line.startswith(("import", "load"))]
    assert line.startswith(f"fm-mlflow: {says}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--max-flop", "3", "--junit", "gates.xml", "--summary=gates.md"], "--max-flop: received"),
        (["--junit", "gates.xml", "--summary", "gates.md", "--max-flops", "x"], "max_flops: rec"),
        (["--summary", "gates.md", "--junit=gates.xml", "--tolerance"], "command line: received"),
        (["--against-champion=best", "--junit=gates.xml", "--summary=gates.md"], "against_champ"),
    ],
)
def test_a_refused_registration_leaves_the_files_that_a_pipeline_publishes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command_in_this_process("register", *arguments)[0] == 2
    (error,) = ElementTree.parse("gates.xml").getroot().iter("error")
    assert str(error.get("message")).startswith(says)
    assert Path("gates.md").read_text().startswith("## Not decided\n")


@pytest.mark.parametrize("file", [" ", "no/folder.xml", "nul\0", "x" * 300, "."])
def test_files_that_cannot_be_written_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command_in_this_process("register", "--junit", file, "--max-flops", "x")
    assert code == 2
    assert err.startswith("fm-mlflow: max_flops: received 'x', accepted: a number")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["trian"], "train"),
        (["train", "--epoch", "3"], "--epochs"),
        (["train", "--model", "cnnn"], "cnn"),
        (["train", "--optimizer", "adamm"], "adam"),
        (["train", "--dataset", "digit"], "digits"),
        (["train", "--model", "tiny.py:bild"], "tiny.py:build"),
        (["benchmark", "--models", "mlp,tiny.py:biuld"], "tiny.py:build"),
        (["compare", "--cost", "flop/inference"], "flops/inference"),
    ],
)
def test_a_misspelt_name_is_told_its_nearest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.py").write_text("import keras\n\n\ndef build(): ...\n")
    code, _, err = command_in_this_process(*arguments)
    assert code == 2
    assert err.endswith(f"; did you mean {meant!r}?\n")


def test_what_click_refuses_is_told_in_a_line_that_a_terminal_shows_whole() -> None:
    _, _, err = command_in_this_process("benchmark", "--model", "mlp")
    assert err == (
        "fm-mlflow: --model: received '--model', accepted: what fm-mlflow benchmark --help lists; "
        "did you mean '--models'?\n"
    )
    code, _, err = command_in_this_process("benchmark", "--models", "mlp", "cnn")
    assert code == 2
    assert "unexpected extra argument (cnn)" in err
    assert err.endswith("a list has commas, as in --models mlp,cnn\n")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def (", "accepted: a file of Python (SyntaxError"),
        ("a = 1", "accepted: a function that own.py has; it has no 'build'"),
        ("from os import *", "loading the data"),  # it may have any name
        ("for build in [print]: ...", "loading the data"),
        ("def __getattr__(name): return print", "loading the data"),
    ],
)
def test_a_function_is_looked_for_before_its_file_is_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(f"{source}\n")
    code, _, err = command_in_this_process(
        *("train", "--model", "own.py:build", "--data-dir", "nowhere")
    )
    assert code == 2
    assert says in err
    assert ("no such folder" in err) == (says == "loading the data")


def test_help_and_version() -> None:
    code, out, _ = command_in_this_process("--version")
    assert (code, out) == (0, f"fm_mlflow {__version__}\n")
    for command in cli.commands:
        code, out, _ = command_in_this_process(command, "--help")
        assert code == 0
        assert all(len(line) <= 80 for line in out.splitlines())
        assert "VALUE" not in out
    code, out, _ = command_in_this_process("--help")
    assert "...\n" not in out.partition("Commands:")[2]


def test_no_command_names_the_commands() -> None:
    code, _, err = command_in_this_process()
    assert code == 2
    assert err.startswith("fm-mlflow: command: received '', accepted: one of train")


@pytest.mark.thorough
def test_the_installed_script_is_the_module() -> None:
    script = Path(sys.executable).with_name("fm-mlflow")
    texts = {
        subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
        for command in ([str(script)], [sys.executable, "-m", "fm_mlflow"])
    }
    assert len(texts) == 1
