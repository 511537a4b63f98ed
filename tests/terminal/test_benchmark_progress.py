"""What a person sees while a benchmark is on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fm_mlflow import BenchmarkConfig, BenchmarkTraining, TrainConfig
from fm_mlflow.listeners import BenchmarkListener, Progress
from fm_mlflow.report.describe import describe_benchmark
from fm_mlflow.results.benchmark import BenchmarkResult
from fm_mlflow.settings.base import parse
from fm_mlflow.terminal.benchmark import print_benchmark
from fm_mlflow.terminal.benchmark_progress import (
    Board,
    LiveBenchmark,
    PlainBenchmark,
    console_benchmark,
    duration,
)
from fm_mlflow.terminal.lines import SafeConsole

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
    listener.told(CNN, Progress(event="phase", text="loading the data"))
    listener.told(MLP, Progress(event="notice", text="the store does not answer"))
    listener.told(CNN, Progress(event="epoch", epoch=2, epochs=5, metrics={"loss": 0.25}))
    listener.ended(outcome(CNN, 100.0))
    listener.ended(outcome(MLP, 3.0, "out of memory"))
    listener.started(CNN_1)


def test_a_pipe_gets_a_line_a_start_and_a_line_an_end() -> None:
    pipe = io.StringIO()
    with console_benchmark(SafeConsole(file=pipe)) as listener:
        assert isinstance(listener, PlainBenchmark)
        play(listener)
    assert pipe.getvalue().splitlines() == [
        "checking the data",
        "3 trainings in random order, 2 at a time; 1 done before",
        "1/3 cnn, seed 0: started",
        "2/3 mlp, seed 0: started",
        "2/3 mlp, seed 0: the store does not answer",
        # cnn, seed 1 is to come: 100 s; mlp, seed 0 has most of its 40 s before it.
        "1/3 cnn, seed 0: accuracy 0.8750 in 100 s; about 70 s left",
        "2/3 mlp, seed 0: FAILED: out of memory",
        "3/3 cnn, seed 1: started",
    ]


@contextmanager
def terminal() -> Iterator[tuple[LiveBenchmark, io.StringIO]]:
    stream = io.StringIO()
    console = SafeConsole(file=stream, force_terminal=True, width=80, height=25, color_system=None)
    with console_benchmark(console) as live:
        assert isinstance(live, LiveBenchmark)
        yield live, stream


def test_a_terminal_gets_a_board_of_what_runs_below_lines_of_what_is_over() -> None:
    with terminal() as (live, stream):
        play(live)
        metrics = {"loss": 0.5, "accuracy": 0.75, "val_loss": 0.4}
        live.told(CNN_1, Progress(event="epoch", epoch=3, epochs=5, metrics=metrics))
        live.display.refresh()
        drawn = stream.getvalue()
        for line in (
            "1/3 cnn, seed 0: accuracy 0.8750 in 100 s",
            "2/3 mlp, seed 0: FAILED: out of memory",
            "cnn, seed 1  training, epoch 3/5  loss 0.5000  acc 0.7500",
        ):
            assert line in drawn
        board = drawn.splitlines()[-2:]
        assert board[0].endswith("acc 0.7500")
        assert board[1].startswith("3 of 4 trainings are over, 1 failed ")
        assert board[1].rstrip().endswith("about 50 s left")
        live.told(CNN_1, Progress(event="phase", text="measuring what it costs"))
        live.display.refresh()
        assert "cnn, seed 1  measuring what it costs  loss" in stream.getvalue()
        live.ended(outcome(CNN_1))
        live.stage("comparing")
        live.display.refresh()
        assert "comparing" in stream.getvalue().splitlines()[-1]
    assert stream.getvalue().endswith("\x1b[2K")  # the board is gone


def test_where_nothing_is_left_to_train_the_board_is_drawn_too() -> None:
    with terminal() as (live, stream):
        live.planned([], [outcome(MLP, 40.0), outcome(CNN, 100.0)], 0)
        live.display.refresh()
        assert "nothing left to train; 2 done before" in stream.getvalue()
        assert "2 of 2 trainings are over" in stream.getvalue()


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


def test_the_board_fits_80_columns() -> None:
    long = parse(BenchmarkConfig, {"models": f"{'a' * 100}.py:{'b' * 100}", "seeds": 1000})
    trainings = long.trainings()
    with terminal() as (live, stream):
        live.planned(trainings, [], 2)
        for training in trainings[:30]:
            live.started(training)
            metrics = {"loss": 1234.5, "accuracy": 0.5}
            event = Progress(event="epoch", epoch=10**5, epochs=10**6, metrics=metrics)
            live.told(training, event)
        live.ended(outcome(trainings[0], 1e5))
        live.ended(outcome(trainings[1], 1e5, "why " * 5))
        live.display.refresh()
        board = [line for line in stream.getvalue().splitlines() if "acc 0.5" in line]
        assert len(board) > 20
        assert max(len(line.rpartition("\x1b[2K")[2]) for line in board) <= 80
        assert all("…" in line and "training, epoch 100000/1000000 " in line for line in board)


def test_what_could_not_be_started_ends_all_the_same() -> None:
    pipe = io.StringIO()
    listener = PlainBenchmark(pipe)
    listener.planned([MLP], [], 1)
    listener.ended(outcome(MLP, None, "no more processes"))
    assert pipe.getvalue().splitlines()[-1] == "1/1 mlp, seed 0: FAILED: no more processes"


def test_one_cause_is_told_once() -> None:
    pipe = io.StringIO()
    listener = PlainBenchmark(pipe)
    listener.planned([MLP, CNN, MLP_1], [], 1)
    for each, why in ((MLP, "no such file"), (CNN, "no such file"), (MLP_1, "out of memory")):
        listener.ended(outcome(each, None, why))
    assert [line.partition(" ")[2] for line in pipe.getvalue().splitlines()[1:]] == [
        "mlp, seed 0: FAILED: no such file",
        "cnn, seed 0: FAILED: as mlp, seed 0",
        "mlp, seed 1: FAILED: out of memory",
    ]


def test_causes_are_counted_at_the_end() -> None:
    failed = [outcome(each, None, "no such file") for each in (MLP, CNN, CNN_1)]
    result = BenchmarkResult("r", "b", "0", "", CONFIG, (*failed, outcome(MLP_1)), None)
    assert result.causes == [("no such file", "mlp, seed 0 and 2 more")]
    stream = io.StringIO()
    print_benchmark(SafeConsole(file=stream, width=80), result)
    assert stream.getvalue().count("no such file") == 1


def test_hostile_text_moves_no_cursor() -> None:
    pipe = io.StringIO()
    listener = PlainBenchmark(pipe)
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


def test_the_description_shows_each_training() -> None:
    text = describe_benchmark(CONFIG, [outcome(MLP), outcome(CNN, 1.0, "a | b")])
    assert "**mlp**, **cnn** with 2 seeds on Fashion-MNIST, 5 epochs" in text
    assert "| mlp, seed 0 | FINISHED | 0.8750 |  |" in text
    assert r"| cnn, seed 0 | FAILED |  | a \| b |" in text
