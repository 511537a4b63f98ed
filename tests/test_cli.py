"""The command line without TensorFlow: help, and bad input that starts nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fm_mlflow import __version__
from fm_mlflow.cli import cli, main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--epochs", "0"], "epochs: received '0', accepted: a whole number from 1"),
        (["train", "--learning_rate", "x"], "learning_rate: received 'x', accepted: a number"),
        (["train", "--model", "vgg"], "model: received 'vgg', accepted: mlp, cnn, package.module"),
        (["train", "--dataset", "cifar"], "dataset: received 'cifar', accepted: fashion_mnist, "),
        (["train", "--batchsize", "3"], "--batchsize: received '--batchsize', accepted: one of"),
        (["train", "--epochs"], "command line: received \"Option '--epochs' requires"),
        (["train", "extra"], "command line: received 'Got unexpected extra argument (extra)'"),
        (["trian"], "command: received 'trian', accepted: one of train"),
        (["train", "--data-dir", "nowhere"], "data_dir: received 'nowhere', accepted: a folder"),
        (["train", "--dataset", "idx", "--data-dir", "x" * 5000], "data_dir: received 'xxx"),
        (["train", "--seed", "9" * 4400], "seed: received '999"),
        (["benchmark", "--seeds", "1000000000"], "seeds: received '1000000000', accepted: a whole"),
        (["register", "--run-id", " "], "run_id: received ' ', accepted: text: not blank"),
        (["resume", " "], "run: received ' ', accepted: the id of a run or a journal"),
        (["resume", "../../run"], "run: received '../../run', accepted: the id of a run"),
        (["compare", "--output", "x" * 5000], "output: received 'xxx"),
        (["compare", "--output", "nul\0"], "output: received 'nul\\x00', accepted: text: not"),
        (["predict", "--input", "x" * 5000], "input: received 'xxx"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    (line,) = [line for line in err.splitlines() if not line.startswith(("import", "load"))]
    assert line.startswith(f"fm-mlflow: {says}")
    assert list(tmp_path.iterdir()) == []


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--version")
    assert (code, out) == (0, f"fm_mlflow {__version__}\n")
    for command in cli.commands:
        code, out, _ = run(capsys, command, "--help")
        assert code == 0
        assert all(len(line) <= 80 for line in out.splitlines())


def test_no_command_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys)
    assert code == 2
    assert err.startswith("fm-mlflow: command: received '', accepted: one of train")


def test_a_reader_who_has_gone_changes_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "FM_MLFLOW_JOURNAL_DIR": str(tmp_path), "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-m", "fm_mlflow", "sync"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_the_installed_script_is_the_module() -> None:
    script = Path(sys.executable).with_name("fm-mlflow")
    texts = {
        subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
        for command in ([str(script)], [sys.executable, "-m", "fm_mlflow"])
    }
    assert len(texts) == 1
