"""What a script that is tracked says at its end."""

from __future__ import annotations

import pytest

from fm_mlflow.terminal.script import print_script_run

COMPARE = "fm_mlflow: compare it: MLFLOW_TRACKING_URI=sqlite:///a.db fm-mlflow compare"


@pytest.mark.parametrize(
    ("metrics", "experiment_id", "says"),
    [
        (["test_loss", "test_accuracy", "loss"], "7", f"{COMPARE} --experiment 7"),
        (["test_loss", "test_mae", "mae"], "7", f"{COMPARE} --experiment 7 --metric test_mae"),
        (["loss", "val_loss", "val_a b"], "7", f"{COMPARE} --experiment 7 --metric 'val_a b'"),
        (["test_accuracy"], "", None),  # its store has not answered
        (["flops/training"], "7", None),  # a loop of its own, say
    ],
)
def test_the_command_fits_what_was_logged(
    capsys: pytest.CaptureFixture[str], metrics: list[str], experiment_id: str, says: str | None
) -> None:
    print_script_run("r1", "mine", "sqlite:///a.db", experiment_id, metrics)
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == "fm_mlflow: run r1 (mine) is in sqlite:///a.db"
    assert rest == ([says] if says else [])


def test_figures_of_the_training_alone_compare_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_script_run("r1", "mine", "sqlite:///a.db", "7", ["loss", "mae"])
    _, said = capsys.readouterr().err.splitlines()
    assert said.startswith("fm_mlflow: nothing to compare it by: all its metrics are of the")
