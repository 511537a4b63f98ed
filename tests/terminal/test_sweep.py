"""What a person sees of a sweep: a line a trial in a pipe, a board on a terminal, the result."""

from __future__ import annotations

import io

import pytest

from fm_mlflow.listeners import Progress, SweepListener
from fm_mlflow.terminal.lines import SafeConsole
from fm_mlflow.terminal.sweep import print_sweep
from fm_mlflow.terminal.sweep_progress import LiveSweep, PlainSweep, console_sweep
from tests.hostile import HOSTILE, check_terminal
from tests.report.sweeps import hostile_result, sweep_result


def play(listener: SweepListener, name: str) -> None:
    listener.round(0, [name, "trial 1"], 2)
    listener.trial_told(name, Progress(event="phase", text=name, epochs=2))
    metrics = {"val_loss": 0.5, "val_accuracy": 0.8}
    listener.trial_told(
        name, Progress(event="epoch", text=name, epoch=1, epochs=2, metrics=metrics)
    )
    listener.trial_told("", Progress(event="notice", text=f"notice of {name}"))


def test_a_pipe_gets_a_line_a_round_and_a_line_a_trial() -> None:
    stream = io.StringIO()
    with console_sweep(SafeConsole(file=stream)) as listener:
        assert isinstance(listener, PlainSweep)
        play(listener, "trial 0")
        listener.trial_ended("trial 0", "val_accuracy 0.8 after 2 epochs")
    assert stream.getvalue().splitlines() == [
        "round 1: 2 trials, 2 processes",
        "notice of trial 0",
        "trial 0: val_accuracy 0.8 after 2 epochs",
    ]


def test_a_terminal_gets_a_board_of_the_trials_under_way() -> None:
    stream = io.StringIO()
    console = SafeConsole(file=stream, force_terminal=True, width=80, color_system=None)
    with console_sweep(console) as live:
        assert isinstance(live, LiveSweep)
        play(live, "trial 0")
        live.display.refresh()
        assert "epoch 1/2" in stream.getvalue()
        assert "acc 0.8000" in stream.getvalue()
        live.trial_ended("trial 0", "done")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_names_stay_text(is_terminal: bool) -> None:
    stream = io.StringIO()
    console = SafeConsole(file=stream, width=4000, force_terminal=is_terminal)
    with console_sweep(console) as listener:
        play(listener, HOSTILE)
        if isinstance(listener, LiveSweep):
            listener.display.refresh()
        listener.trial_ended(HOSTILE, HOSTILE)
    print_sweep(console, hostile_result(HOSTILE))
    check_terminal(stream.getvalue())


def test_the_result_names_the_recommendation_and_the_report() -> None:
    stream = io.StringIO()
    print_sweep(SafeConsole(file=stream, width=80), sweep_result())
    text = stream.getvalue()
    assert "recommended: nets.py:build?width=32#batch_size=32" in text
    assert "search 0.8600, proof 0.8500" in text
    assert "sweep/sweep.html" in text
