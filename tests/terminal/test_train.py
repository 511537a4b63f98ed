"""What a person reads at the end of a training."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from fm_mlflow.data.dataset import Dataset, Subset
from fm_mlflow.listeners import Progress
from fm_mlflow.process.parent import LineReader, Parent
from fm_mlflow.report.describe import describe_training
from fm_mlflow.results.train import TrainResult
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.terminal.lines import SafeConsole
from fm_mlflow.terminal.progress import (
    LiveProgress,
    PlainProgress,
    ReportingProgress,
    console_progress,
    epoch_line,
)
from fm_mlflow.terminal.train import next_commands, print_training_result

METRICS = {
    "loss": 0.5,
    "accuracy": 0.8,
    "val_loss": 0.4,
    "val_accuracy": 0.9,
    "epoch_seconds": 12.3,
}


def result(tracking_uri: str = "sqlite:////home/ann/mlflow.db") -> TrainResult:
    return TrainResult(
        run_id="r1",
        run_name="[red]mlp[/red], 5 epochs, seed 0",
        experiment_id="7",
        tracking_uri=tracking_uri,
        artifact_uri="/home/ann/mlruns/7/r1/artifacts",
        model_uri="models:/m-1",
        config=TrainConfig(),
        dataset_digest="d",
        test_loss=0.3547,
        test_accuracy=0.8705,
        metrics={"test_loss": 0.3547, "test_accuracy": 0.8705, "parameters/trainable": 235146},
        history={},
    )


def test_the_summary_names_figures_and_place() -> None:
    stream = io.StringIO()
    print_training_result(SafeConsole(file=stream, width=80), result())
    text = stream.getvalue()
    assert "[red]mlp[/red], 5 epochs, seed 0 on Fashion-MNIST" in text  # shown, not styled
    for part in ("0.8705", "0.3547", "235,146 trainable", "r1", "models:/m-1"):
        assert part in text
    assert "size as HDF5     not measured" in text
    assert "  mlflow ui --backend-store-uri sqlite:////home/ann/mlflow.db\n" in text


def test_what_was_not_measured_says_so_once() -> None:
    stream = io.StringIO()
    metrics = {"test_accuracy": 0.8705, "throughput/training_per_second": 12345.0}
    print_training_result(SafeConsole(file=stream, width=80), replace(result(), metrics=metrics))
    lines = [line.strip() for line in stream.getvalue().splitlines()]
    for label in ("parameters", "latency", "time"):
        assert f"{label:15}  not measured" in lines
    assert "speed            12,345 images/s in training" in lines
    images = Subset(np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.uint8))
    dataset = Dataset("fashion_mnist", images, None, images, ("a", "b"), "here")
    text = describe_training(TrainConfig(), dataset, metrics)
    assert "| latency | not measured |" in text
    assert "| speed | 12,345 images/s in training |" in text


@pytest.mark.parametrize(
    ("uri", "browse", "store"),
    [
        (
            "sqlite:////a b/mlflow.db",
            "mlflow ui --backend-store-uri 'sqlite:////a b/mlflow.db'",
            "'sqlite:////a b/mlflow.db'",
        ),
        (
            "postgresql://ann:***@db/x",
            'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"',
            '"$MLFLOW_TRACKING_URI"',
        ),
        (
            "http://ann:***@h:5000/",
            "http://h:5000/#/experiments/7/runs/r1?workflowType=machine_learning",
            '"$MLFLOW_TRACKING_URI"',
        ),
    ],
)
def test_commands_name_the_store_but_no_secret(uri: str, browse: str, store: str) -> None:
    commands = dict(next_commands(result(uri)))
    assert commands["Browse it"] == browse
    assert commands["Compare it with the other runs"] == (
        f"MLFLOW_TRACKING_URI={store} fm-mlflow compare --experiment 7"
    )
    assert commands["Predict a picture, or a folder of them"] == (
        f"MLFLOW_TRACKING_URI={store} fm-mlflow predict --model r1 --input PICTURE.png"
    )


@pytest.mark.parametrize(
    ("logged", "asked_for"),
    [
        (("test_loss", "test_mae", "mae", "val_mae"), " --metric test_mae"),
        (("loss", "val_loss", "val_mae", "mae"), " --metric val_mae"),
        (("test_loss", "test_accuracy", "test_mae"), ""),
        (("user/test_f 1", "test_loss"), " --metric 'user/test_f 1'"),
    ],
)
def test_what_comes_next_fits_what_was_logged(logged: tuple[str, ...], asked_for: str) -> None:
    config = TrainConfig(dataset="prices.npz", data_dir="x")
    commands = dict(
        next_commands(replace(result(), config=config, metrics=dict.fromkeys(logged, 0.5)))
    )
    compare = commands["Compare it with the other runs"]
    assert compare.endswith(f"fm-mlflow compare --experiment 7{asked_for}")
    assert not any("predict" in command for command in commands.values())


def test_an_epoch_fits_a_line() -> None:
    line = epoch_line(3, 100, METRICS)
    assert line == (
        "epoch   3/100  loss 0.5000  acc 0.8000  val loss 0.4000  val acc 0.9000  12.3 s"
    )
    assert len(line) <= 80


def test_a_pipe_gets_lines_and_a_terminal_a_bar() -> None:
    pipe = io.StringIO()
    with console_progress(SafeConsole(file=pipe)) as listener:
        assert isinstance(listener, PlainProgress)
        listener.stage("loading the data")
        listener.batch(1, 5, 10, 100)
        listener.download("a.gz", 1, 2 << 20)
        listener.download("a.gz", 2, 2 << 20)
        listener.epoch(1, 5, METRICS)
    assert pipe.getvalue().splitlines() == [
        "loading the data",
        "downloading a.gz (2.0 MiB)",
        epoch_line(1, 5, METRICS),
    ]

    terminal = io.StringIO()
    with console_progress(SafeConsole(file=terminal, force_terminal=True, width=80)) as live:
        assert isinstance(live, LiveProgress)
        live.batch(2, 5, 30, 100)
        live._progress.refresh()
        live.epoch(2, 5, METRICS)
    assert "epoch 2/5" in terminal.getvalue()
    assert "30%" in terminal.getvalue()
    assert epoch_line(2, 5, METRICS) in terminal.getvalue()


def test_a_parent_process_gets_events_beside_the_lines() -> None:
    reader, stream = LineReader(), io.StringIO()
    with reader.writer() as (writer,):
        listener = ReportingProgress(stream, Parent(writer))
        listener.stage("building the model")
        listener.batch(1, 5, 1, 100)
        listener.batch(1, 5, 2, 100)
        listener.epoch(1, 5, {**METRICS, "loss": math.nan})
        listener.notice("no file \udcff")  # as Python has a name that is not UTF-8
    lines = reader.lines()
    reader.close()
    assert json.loads(lines[0]) == {"event": "phase", "text": "building the model"}
    assert [Progress.model_validate_json(line) for line in lines] == [
        Progress(event="phase", text="building the model"),
        Progress(event="phase", text="training", epoch=1, epochs=5),
        Progress(event="epoch", epoch=1, epochs=5, metrics={**METRICS, "loss": None}),
        Progress(event="notice", text=r"no file \udcff"),
    ]
    assert stream.getvalue().splitlines()[0] == "building the model"
    assert len(stream.getvalue().splitlines()) == 3
