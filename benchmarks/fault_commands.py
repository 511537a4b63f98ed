"""The commands whose fault points are tried: what is there before, what runs, how one recovers.

All run in forks of a process that has TensorFlow and MLflow imported. `recover` does what the
documentation says for what a fault leaves behind, and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fault_oracle import DATABASE
from benchmarks.fault_points import Points, install
from fm_mlflow import keys

SETTINGS: dict[str, Any] = {"dataset": "digits", "measure": "none", "epochs": 2}
REPORTS = frozenset(
    {
        *("report.html", "report.md", "comparison.csv", "comparison.json"),
        *("sweep.html", "sweep.json", "trials.csv", "recommendation.json"),
    }
)
_OUTPUT = "output"
_OUTPUT_VARIABLE = "FM_MLFLOW_FAULTS_OUTPUT"
POINTS_VARIABLE = "FM_MLFLOW_FAULTS_POINTS"
"""For jobs: the folder, the log, the point, the fault, and the file of a fault that has struck."""


def enter(folder: Path, uri: str = "") -> None:
    """Make a folder all that this process knows: its store, journals, home and temporary files.

    Args:
        folder: The folder.
        uri: Of its store; by default its database.
    """
    import mlflow

    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            del os.environ[name]
    os.environ |= {
        "MLFLOW_TRACKING_URI": uri or f"sqlite:///{folder / DATABASE}",
        "MLFLOW_EXPERIMENT_ID": "0",  # which `_runs` searches
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "FM_MLFLOW_JOURNAL_DIR": str(folder / "journals"),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
    }
    tempfile.tempdir = None
    for name in ("home", "tmp", "work"):
        (folder / name).mkdir(exist_ok=True)
    tempfile.gettempdir()  # which tries it with a file of a random name
    os.chdir(folder / "work")
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])


@dataclass(frozen=True)
class Command:
    """A command, what has to be there before, and how one recovers from a fault in it.

    Attributes:
        run: What is done, in the folder that was entered.
        recover: What a person does where it failed or was killed.
        prepare: Fills the folder.
        once: A person repeats it, which leaves the runs of the first time: they have to have ended,
            and only the newest ones are compared.
        timed: Files whose contents depend on time.
        setup: Called in the process of the command before its points are numbered.
        is_light: It needs no TensorFlow.
        strikes_jobs: The points are those of the processes that it starts for trainings.
    """

    run: Callable[[], object]
    recover: Callable[[], object]
    prepare: Callable[[], object] | None = None
    once: bool = False
    timed: frozenset[str] = frozenset()
    setup: Callable[[], object] | None = None
    is_light: bool = False
    strikes_jobs: bool = False


def _train(seed: int = 0, **more: Any) -> None:
    import fm_mlflow

    fm_mlflow.train("mlp", seed=seed, **{**SETTINGS, **more})


def _log() -> None:
    """Log a run without a training: all that an outbox does, in tenths of a second."""
    import numpy as np

    from fm_mlflow.data.dataset import Subset
    from fm_mlflow.tracking.run import TrackedRun

    with TrackedRun(keys.KIND_TRAINING, "a run", flush_timeout=5) as run:
        run.log_params({"epochs": 3, "long": "x" * 7000})
        run.log_dataset("digits", Subset(np.zeros((9, 2)), np.arange(9)), "training", "here")
        for epoch in (1, 2, 3):
            run.log_metrics({"loss": 1 / epoch, "accuracy": float("nan")}, step=epoch)
            run.set_tags({"epoch": str(epoch)})
        with run.artifacts() as folder:
            (folder / "deeper").mkdir()
            for name in ("notes.txt", "deeper/table.csv"):
                (folder / name).write_text("of nothing\n" * 1000)
        run.describe("# A run")


def _recover_log() -> None:
    """Deliver what there is; begin anew where the run had not said all, or none was begun."""
    had_said_all = any(map(_says_all, _journals()))
    _sync()
    states = [run.info.status for run in _runs(keys.KIND_TRAINING)]
    # The oracle leaves out what is repeated, so a run that is lost or twice has to be seen here.
    if keys.RUNNING in states or states.count(keys.FINISHED) > 1:
        raise RuntimeError(f"`sync` leaves runs {states}")
    if keys.FINISHED not in states:
        if had_said_all:
            raise RuntimeError(f"the journal said all, and `sync` leaves runs {states}")
        _log()
    _reconcile()


def _journals() -> list[Path]:
    folders = sorted(Path(os.environ["FM_MLFLOW_JOURNAL_DIR"]).glob("j-*"))
    return [folder for folder in folders if (folder / "journal.jsonl").exists()]


def _says_all(folder: Path) -> bool:
    from fm_mlflow.tracking.outbox.journal_file import read_records
    from fm_mlflow.tracking.outbox.records import End

    with (folder / "journal.jsonl").open("rb", buffering=0) as file:
        records = read_records(file).records
    return any(isinstance(each, End) and each.status == keys.FINISHED for each in records)


def _runs(kind: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    runs = MlflowClient().search_runs(["0"], order_by=["attributes.start_time ASC"])
    return [run for run in runs if run.data.tags.get(keys.KIND) == kind]


def _recover_training(*, by: str) -> None:
    """Resume what has not finished; train where nothing was begun.

    Args:
        by: `resume`: at once, by the journal's name. `sync`: when that has closed the run.
    """
    import fm_mlflow

    if by == "resume":
        for folder in _journals():
            try:
                fm_mlflow.resume(folder.name)
            except fm_mlflow.InputError:  # it has finished
                fm_mlflow.sync()
    fm_mlflow.sync()
    runs = _runs(keys.KIND_TRAINING)
    for run in runs:
        if run.info.status != keys.FINISHED:
            fm_mlflow.resume(run.info.run_id)
    if not runs:
        _train()
    fm_mlflow.reconcile()


def _interrupted_training() -> None:
    """Leave a training as SIGKILL leaves it after its first epoch."""
    from fm_mlflow.listeners import ProgressListener

    class Killer(ProgressListener):
        def epoch(self, *_: Any) -> None:
            time.sleep(0.5)  # its checkpoint is written
            os.kill(os.getpid(), signal.SIGKILL)

    _in_a_child(lambda: _train(progress=Killer()))


def _interrupted_elsewhere() -> None:
    """The same, and nothing of it is left on this machine but what the store has."""
    import fm_mlflow

    _interrupted_training()
    fm_mlflow.sync()


def _undelivered_training() -> None:
    """Leave the whole journal of a finished training whose store never answered."""
    from fm_mlflow.tracking import run
    from fm_mlflow.tracking.outbox import remote_run
    from fm_mlflow.tracking.store import StoreUnavailableError

    def refuse(*_: object) -> None:
        raise StoreUnavailableError("the store is away")

    def train() -> None:
        for module in (run, remote_run):
            vars(module)["check_reachable"] = refuse
        _train(flush_timeout=0)

    _in_a_child(train)


def _in_a_child(work: Callable[[], None]) -> None:
    sys.stdout.flush()
    if not (pid := os.fork()):
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _trainings() -> None:
    for seed in (0, 1):
        _in_a_child(partial(_train, seed))


def _resume() -> None:
    import fm_mlflow

    for run in _runs(keys.KIND_TRAINING):
        fm_mlflow.resume(run.info.run_id)


def _sync() -> None:
    import fm_mlflow

    if any(each.pending for each in fm_mlflow.sync().journals):
        raise RuntimeError("something is pending")


def _reconcile() -> None:
    import fm_mlflow

    fm_mlflow.reconcile()


def _compare() -> None:
    import fm_mlflow

    fm_mlflow.compare(output=_OUTPUT)


def _register() -> None:
    import fm_mlflow

    fm_mlflow.register(min_accuracy=0.1)


def _predict() -> None:
    import fm_mlflow

    (run,) = _runs(keys.KIND_TRAINING)
    fm_mlflow.predict(model=run.info.run_id, input="images.npy", output="predictions.csv")


def _train_for_predictions() -> None:
    import numpy as np

    from fm_mlflow.data.dataset import load_dataset

    _train()
    np.save("images.npy", load_dataset("digits").test.inputs)


def _track() -> None:
    import keras

    import fm_mlflow
    from fm_mlflow.data.dataset import load_dataset

    digits = load_dataset("digits")
    x, y = digits.train.scaled, digits.train.targets
    with fm_mlflow.track("net", seed=1, dataset="digits", measure="none", quiet=True) as run:
        model = keras.Sequential(
            [keras.Input(x.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(10)]
        )
        model.compile(
            "sgd",
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        model.fit(x, y, epochs=2, batch_size=256, verbose=0, callbacks=[run.costs])
        run.evaluate(model, x[:200], y[:200])
        run.log_model(model, x[:8])


def _benchmark(resume: str = "") -> None:
    import fm_mlflow

    fm_mlflow.benchmark(models="mlp", seeds="2", jobs=1, output=_OUTPUT, resume=resume, **SETTINGS)


def _sweep(resume: str = "", finalists: int = 0) -> None:
    """Search in two rounds: three trials of one epoch, the default first, then what goes on."""
    import fm_mlflow

    fm_mlflow.sweep(
        "mlp?hidden=16,8",
        space="learning_rate=3e-4:3e-2:log",
        trials=3,
        finalists=finalists,
        seeds=2,
        output=_OUTPUT,
        resume=resume,
        **SETTINGS,
    )


def _prove() -> None:
    """Resume a sweep whose search is over: what is left is the proof and the report."""
    (sweep,) = _runs(keys.KIND_SWEEP)
    _sweep(sweep.info.run_id, finalists=1)


def _searched() -> None:
    _jobs_in_copies(4)
    _sweep()


def _again(run: Callable[[], object]) -> None:
    """Close what the fault left open, and repeat the command."""
    _reconcile()
    run()
    _reconcile()


def _resume_parent(kind: str, run: Callable[[str], object]) -> None:
    """Close what the fault left open, and have the command take itself up."""
    _reconcile()
    parents = _runs(kind)
    if not parents or parents[-1].info.status != keys.FINISHED:
        has_settings = parents and "dataset" in parents[-1].data.params  # which is logged last
        run(parents[-1].info.run_id if has_settings else "")
    _reconcile()


def _confined_in(copy: Any, *given: Any) -> bytes:
    from fm_mlflow.process.confined import run_confined

    run: Callable[..., bytes] = run_confined
    *rest, _ready = given
    return run(*rest, copy)


def _verify_in_a_copy() -> None:
    """Have `register` verify in a copy of this process, which has the libraries already."""
    from fm_mlflow.process import supervisor
    from fm_mlflow.process.forked import Forked
    from fm_mlflow.registration import checks

    copy = Forked(supervisor.main)
    vars(checks)["run_confined"] = partial(_confined_in, copy)


class Copies:
    """Stands in for `subprocess` in the local executor: its jobs are copies of this process.

    Args:
        count: How many jobs there may be.
    """

    DEVNULL = -3

    def __init__(self, count: int) -> None:
        from fm_mlflow.process.forked import Forked

        self._copies = [Forked(_command_line) for _ in range(count)]

    def Popen(self, args: list[str], *, env: dict[str, str], stdout: Any, **_: Any) -> Any:  # noqa: N802
        """Start a job."""
        copy = self._copies.pop()
        return copy(
            args, cwd=os.getcwd(), env={**env, _OUTPUT_VARIABLE: os.path.abspath(stdout.name)}
        )


def _command_line() -> None:
    from fm_mlflow.cli import main

    output = os.open(os.environ.pop(_OUTPUT_VARIABLE), os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if points := os.environ.pop(POINTS_VARIABLE, ""):
        root, log, at, fault, once = json.loads(points)
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
        install(Points(Path(root), descriptor, at, fault, Path(once)))
    main(sys.argv[3:])


def _jobs_in_copies(count: int) -> None:
    from fm_mlflow.jobs import executors

    vars(executors)["subprocess"] = Copies(count)


def restore(saved: Path, folder: Path) -> None:
    """Make a folder what it was when it was saved; a server may have its database open."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.startswith(DATABASE):
            path.unlink()
    left_out = shutil.ignore_patterns(f"{DATABASE}*")
    shutil.copytree(saved, folder, ignore=left_out, dirs_exist_ok=True)
    with (
        closing(sqlite3.connect(saved / DATABASE)) as before,
        closing(sqlite3.connect(folder / DATABASE, timeout=60)) as database,
    ):
        before.backup(database)


def _of_many(
    kind: str,
    run: Callable[..., object],
    jobs: int,
    *,
    strikes_jobs: bool = False,
) -> Command:
    """Return a command that has so many trainings at most, and takes itself up."""
    return Command(
        run,
        partial(_resume_parent, kind, run),
        once=True,
        timed=REPORTS,
        setup=partial(_jobs_in_copies, jobs),
        strikes_jobs=strikes_jobs,
    )


COMMANDS = {
    "log": Command(_log, _recover_log, once=True, is_light=True),
    "train": Command(_train, partial(_recover_training, by="resume")),
    "train+sync": Command(_train, partial(_recover_training, by="sync")),
    "resume": Command(_resume, partial(_recover_training, by="resume"), _interrupted_training),
    "resume+elsewhere": Command(
        _resume, partial(_recover_training, by="sync"), _interrupted_elsewhere
    ),
    "sync": Command(_sync, _sync, _undelivered_training),
    "reconcile": Command(_reconcile, _reconcile, _interrupted_training),
    "compare": Command(_compare, partial(_again, _compare), _trainings, once=True),
    "register": Command(_register, partial(_again, _register), _train, setup=_verify_in_a_copy),
    "predict": Command(_predict, partial(_again, _predict), _train_for_predictions),
    "track": Command(_track, partial(_again, _track), once=True),
    "benchmark": _of_many(keys.KIND_BENCHMARK, _benchmark, 3),
    "sweep": _of_many(keys.KIND_SWEEP, _sweep, 8),
    "sweep+jobs": _of_many(keys.KIND_SWEEP, _sweep, 8, strikes_jobs=True),
    "sweep+proof": Command(
        _prove,
        partial(_again, _prove),
        _searched,
        once=True,
        timed=REPORTS,
        setup=partial(_jobs_in_copies, 8),
    ),
}
