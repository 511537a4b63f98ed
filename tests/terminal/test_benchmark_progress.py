"""What a person sees while a benchmark is on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fm_mlflow import BenchmarkConfig, BenchmarkTraining, TrainConfig
from fm_mlflow.listeners import BenchmarkListener, epoch_line, read_epoch_line
from fm_mlflow.report.describe import describe_benchmark
from fm_mlflow.settings import parse
from fm_mlflow.terminal.benchmark_progress import (
    LiveBenchmark,
    PlainBenchmark,
    console_benchmark,
    models_table,
    trainings_table,
)
from fm_mlflow.terminal.board import Board, duration

CONFIG = parse(BenchmarkConfig, {"models": "mlp,cnn", "seeds": 2})
MLP, MLP_1, CNN, CNN_1 = CONFIG.trainings()


def outcome(
    training: TrainConfig, seconds: float | None = 60.0, error: str | None = None
) -> BenchmarkTraining:
    status, accuracy = ("FINISHED", 0.875) if error is None else ("FAILED", None)
    return BenchmarkTraining(training.model, training.seed, "r", status, accuracy, seconds, error)


def play(listener: BenchmarkListener) -> None:
    listener.stage("checking the data")
    listener.planned([CNN, MLP, CNN_1], [outcome(MLP_1, 40.0)], 2)
    listener.started(CNN)
    listener.started(MLP)
    listener.reached(CNN, 2, 5)
    listener.ended(outcome(CNN, 100.0))
    listener.ended(outcome(MLP, 3.0, "out of memory"))
    listener.started(CNN_1)


def test_a_pipe_gets_a_line_a_start_and_a_line_an_end() -> None:
    pipe = io.StringIO()
    listener = console_benchmark(Console(file=pipe))
    assert isinstance(listener, PlainBenchmark)
    with listener:
        play(listener)
    assert pipe.getvalue().splitlines() == [
        "checking the data",
        "3 trainings in random order, 2 at a time; 1 done before",
        "1/3 cnn, seed 0: started",
        "2/3 mlp, seed 0: started",
        # cnn, seed 1 is to come: 100 s; mlp, seed 0 has most of its 40 s before it.
        "1/3 cnn, seed 0: accuracy 0.8750 in 100 s; about 70 s left",
        "2/3 mlp, seed 0: FAILED: out of memory",
        "3/3 cnn, seed 1: started",
    ]


def test_a_terminal_gets_a_table_that_stays() -> None:
    terminal = io.StringIO()
    listener = console_benchmark(
        Console(file=terminal, force_terminal=True, width=80, height=25, color_system=None)
    )
    assert isinstance(listener, LiveBenchmark)
    with listener:
        play(listener)
        listener.stage("comparing")
    last = terminal.getvalue().rpartition("\x1b[2K")[0]
    for row in (
        "mlp, seed 1  accuracy 0.8750 in 40 s",
        "cnn, seed 0  accuracy 0.8750 in 100 s",
        "mlp, seed 0  failed: out of memory",
        "cnn, seed 1  0 of 5 epochs, 0 s",
        "3 of 4 trainings are over; about 50 s left",
    ):
        assert row in last


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_rest_is_estimated_by_the_pace_of_each_model() -> None:
    clock = Clock()
    board = Board(clock)
    board.plan([MLP, CNN, MLP_1, CNN_1], [], 1)
    assert board.remaining_seconds() is None
    board.start(MLP)
    board.end(outcome(MLP, 10.0))
    assert board.remaining_seconds() == 30.0  # of the CNN nothing is known yet
    board.start(CNN)
    board.end(outcome(CNN, 40.0))
    assert board.remaining_seconds() == 50.0
    board.start(CNN_1)
    clock.now += 25
    assert board.remaining_seconds() == 10.0 + 15.0
    clock.now += 25
    assert board.remaining_seconds() == 10.0
    board.end(outcome(CNN_1, 1.0, "it failed at once"))
    assert board.remaining_seconds() == 10.0


@pytest.mark.parametrize("count", [2, 500])
def test_tables_fit_80_columns(count: int) -> None:
    long = parse(
        BenchmarkConfig, {"models": f"mlp,{'a' * 100}.py:{'b' * 100}", "seeds": count}
    ).trainings()
    board = Board()
    board.plan(long, [], 1)
    for training in long[:3]:
        board.start(training)
    board.end(outcome(long[0]))
    board.end(outcome(long[1], 1.0, "why " * 100))
    for table in (trainings_table(board), models_table(board)):
        stream = io.StringIO()
        Console(file=stream, width=80).print(table)
        lines = stream.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        assert len(lines) in (len(long), 2)
        assert lines[0].startswith("mlp")
        assert f"{'a' * 31}…  " in lines[-1]
    assert f"1 done, 1 failed{', 1 running' if count > 2 else ''}" in lines[0]


def test_more_trainings_than_lines_are_shown_by_model() -> None:
    terminal = io.StringIO()
    with LiveBenchmark(Console(file=terminal, force_terminal=True, width=80, height=6)) as live:
        play(live)
    assert "1 failed" in terminal.getvalue()
    assert "mlp, seed 0" not in terminal.getvalue()


def test_hostile_text_moves_no_cursor() -> None:
    pipe = io.StringIO()
    with PlainBenchmark(pipe) as listener:
        listener.planned([MLP], [], 1)
        listener.started(MLP)
        listener.ended(outcome(MLP, None, "\x1b[2J[red]gone"))
    assert pipe.getvalue().splitlines()[-1] == r"1/1 mlp, seed 0: FAILED: \x1b[2J[red]gone"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119, "119 s"), (121, "2 min"), (7100, "118 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_epochs_are_read_from_the_lines_of_a_training() -> None:
    line = epoch_line(3, 100, {"loss": 0.5, "epoch_seconds": 1.0})
    assert read_epoch_line(line) == (3, 100)
    assert read_epoch_line("epoch of the dinosaurs") is None


def test_the_description_shows_each_training() -> None:
    text = describe_benchmark(CONFIG, [outcome(MLP), outcome(CNN, 1.0, "a | b")])
    assert "**mlp**, **cnn** with 2 seeds on Fashion-MNIST, 5 epochs" in text
    assert "| mlp, seed 0 | FINISHED | 0.8750 |  |" in text
    assert r"| cnn, seed 0 | FAILED |  | a \| b |" in text
