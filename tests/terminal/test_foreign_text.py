"""Every place where a command prints a name: no text of a store moves a terminal's cursor."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from fm_mlflow.cli import cli, main
from fm_mlflow.errors import DataError, FmMlflowError, InputError, TrackingError
from fm_mlflow.listeners import Progress
from fm_mlflow.results.benchmark import BenchmarkResult, BenchmarkTraining
from fm_mlflow.results.compare import CompareResult
from fm_mlflow.results.predict import PredictResult
from fm_mlflow.results.recovery import ReconcileResult, SyncResult
from fm_mlflow.results.register import Registration, Rollback, VersionList
from fm_mlflow.results.train import TrainResult
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.terminal.benchmark import print_benchmark
from fm_mlflow.terminal.benchmark_progress import LiveBenchmark, console_benchmark
from fm_mlflow.terminal.compare import print_compare_result
from fm_mlflow.terminal.lines import SafeConsole
from fm_mlflow.terminal.predict import print_predictions
from fm_mlflow.terminal.progress import console_progress
from fm_mlflow.terminal.recovery import print_reconcile_result, print_sync_result
from fm_mlflow.terminal.register import print_registration, print_rollback, print_versions
from fm_mlflow.terminal.sweep import print_sweep
from fm_mlflow.terminal.train import print_training_result
from tests.hostile import HOSTILE, check_terminal, filled, spoilt
from tests.report import comparisons
from tests.report.sweeps import hostile_result

WIDE = 4000  # so that no line is wrapped, and a line that begins anew is forged


def compared() -> CompareResult:
    made = comparisons.comparison(comparisons.group("a" * 20), comparisons.group("b", "mlp"))
    best = replace(made.best, excluded={"c": "why"})
    files = {"report.html": HOSTILE}
    texts: Any = [HOSTILE] * 4
    return CompareResult(*texts, *[files, spoilt(replace(made, best=best))])


def benchmarked(comparison: CompareResult | None) -> BenchmarkResult:
    texts: Any = [HOSTILE] * 4
    rest: Any = (filled(TrainConfig), (filled(BenchmarkTraining),), comparison)
    return BenchmarkResult(*texts, *rest)


RESULTS: list[tuple[Callable[[SafeConsole, Any], None], Callable[[], Any]]] = [
    (print_training_result, lambda: filled(TrainResult)),
    (print_training_result, lambda: replace(filled(TrainResult), pending="")),
    (print_predictions, lambda: filled(PredictResult)),
    (print_compare_result, compared),
    (print_benchmark, lambda: benchmarked(None)),
    (print_benchmark, lambda: benchmarked(compared())),
    (print_sync_result, lambda: filled(SyncResult)),
    (print_reconcile_result, lambda: filled(ReconcileResult)),
    (print_registration, lambda: filled(Registration)),
    (print_registration, lambda: replace(filled(Registration), outcome="refused")),
    (print_versions, lambda: filled(VersionList)),
    (print_versions, lambda: replace(filled(VersionList), versions=())),
    (print_rollback, lambda: filled(Rollback)),
    (print_sweep, lambda: hostile_result(HOSTILE)),
]


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize(("show", "make"), RESULTS)
def test_results(
    show: Callable[[SafeConsole, Any], None], make: Callable[[], Any], is_terminal: bool
) -> None:
    stream = io.StringIO()
    show(SafeConsole(file=stream, width=WIDE, force_terminal=is_terminal), make())
    assert "FORGED" in stream.getvalue()
    check_terminal(stream.getvalue())


@pytest.mark.parametrize(("show", "make"), RESULTS)
def test_results_keep_to_80_columns_but_for_what_is_copied(
    show: Callable[[SafeConsole, Any], None], make: Callable[[], Any]
) -> None:
    stream = io.StringIO()
    show(SafeConsole(file=stream, width=80), make())
    wide = [line for line in stream.getvalue().splitlines() if cell_len(line) > 80]
    assert all("MLFLOW_TRACKING_URI" in line or "FORGED" in line for line in wide)


def test_every_command_has_a_result_here() -> None:
    shown = {show.__name__ for show, _ in RESULTS}
    assert len(shown) >= len(cli.commands) - 1  # `train` and `resume` print alike


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress(is_terminal: bool) -> None:
    stream = io.StringIO()
    console = SafeConsole(file=stream, width=WIDE, force_terminal=is_terminal)
    with console_progress(console) as shown:
        shown.stage(HOSTILE)
        shown.download(HOSTILE, 1, 2)
        shown.notice(HOSTILE)
    training = filled(TrainConfig)
    with console_benchmark(console) as board:
        board.planned([training], [filled(BenchmarkTraining)], 1)
        board.started(training)
        for event in ("phase", "notice", "error"):
            board.told(training, Progress(event=event, text=HOSTILE))
        if is_terminal:
            assert isinstance(board, LiveBenchmark)
            board.display.refresh()
        board.ended(replace(filled(BenchmarkTraining), seed=training.seed))
    assert "FORGED" in stream.getvalue()
    check_terminal(stream.getvalue())


@pytest.mark.parametrize(
    "error",
    [
        InputError("run", HOSTILE, HOSTILE),
        TrackingError(HOSTILE),
        DataError(HOSTILE),
        FmMlflowError(HOSTILE),
        RuntimeError(HOSTILE),
        KeyboardInterrupt(HOSTILE),
    ],
)
@pytest.mark.parametrize("options", [(), ("--debug",)])
def test_errors(
    error: BaseException,
    options: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("fm_mlflow.commands.sync.sync", fail)
    with pytest.raises(SystemExit):
        main(["sync", *options])
    *trace, line = filter(None, capsys.readouterr().err.split("\n"))
    assert bool(trace) == bool(options)
    assert line.startswith("fm-mlflow: ")
    assert line.isprintable()
    assert all(each.isprintable() and not each.startswith("FORGED") for each in trace)


@pytest.fixture(autouse=True)
def _record_factory() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


def test_a_stream_that_lacks_the_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("fm_mlflow.cli.parent", lambda: None)
    monkeypatch.setattr("fm_mlflow.commands.sync.sync", lambda *_, **__: filled(SyncResult))
    monkeypatch.setattr(SyncResult, "complete", True)
    monkeypatch.setattr("tests.hostile.HOSTILE", "模型")
    with pytest.raises(SystemExit) as ended:
        main(["sync"])
    stream.flush()
    assert ended.value.code == 0
    assert b"\\u6a21\\u578b" in written.getvalue()
