"""Run commands beside one another on one store, and see what is left.

    python -m benchmarks.concurrency named
    python -m benchmarks.concurrency pairs --rounds 200
    python -m benchmarks.concurrency crowd --store postgresql --trainings 64 --at-once 8

`named` runs what must not disturb each other: two `sync`, two `resume`, four `register`, a
benchmark with a sweep and a comparison, and each command while its run is deleted. `pairs` draws
two commands and a moment. Each round begins with the same store: two finished runs, two that were
interrupted. Every command must do its work or refuse in one line; afterwards nothing is RUNNING,
no point is there twice, no journal and no lock is left but those of deleted runs. Commands run in
forks of a process that has its libraries. Prints one JSON object; exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults import SETTINGS, fork, stores, wait

_EPOCHS = 3
_SECONDS = 300

Command = Callable[["Place"], object]


class Place:
    """The folder of a round: store, journals and outputs, always at the same path.

    Args:
        folder: An empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self._kept = folder / "round", folder / "kept"
        self.log = folder / "log"
        self.uri = f"sqlite:///{self.root / 'mlflow.db'}"
        self.root.mkdir()
        os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(self.root / "journals")
        self.finished: list[str] = []
        self.interrupted: list[str] = []

    def prepare(self) -> None:
        """Make what each round begins with."""
        for seed in (0, 1):
            _done(self, lambda seed=seed: _train(seed, 2))  # type: ignore[misc]
        self.finished = self._run_ids()
        for seed in (2, 3):
            _done(self, lambda seed=seed: _killed(seed), -signal.SIGKILL)  # type: ignore[misc]
        self.interrupted = [each for each in self._run_ids() if each not in self.finished]
        shutil.copytree(self.root, self._kept)

    def _run_ids(self) -> list[str]:
        # Not by MLflow, whose connections the forks would inherit.
        with sqlite3.connect(self.root / "mlflow.db") as connection:
            return [row[0] for row in connection.execute("SELECT run_uuid FROM runs")]

    def restore(self) -> None:
        """Bring the folder back to that."""
        shutil.rmtree(self.root)
        shutil.copytree(self._kept, self.root)

    def client(self) -> Any:
        """Return a client of the store."""
        from mlflow.tracking import MlflowClient

        return MlflowClient(self.uri)

    def runs(self) -> list[Any]:
        """Return all runs that are not deleted."""
        return list(self.client().search_runs(["0"], max_results=1000))

    def use(self) -> None:
        """Make the store the active one."""
        import mlflow

        mlflow.set_tracking_uri(self.uri)


def _train(seed: int, epochs: int = _EPOCHS) -> None:
    import fm_mlflow

    fm_mlflow.train("mlp", epochs=epochs, seed=seed, **SETTINGS)


def _killed(seed: int) -> None:
    import fm_mlflow
    from fm_mlflow.listeners import ProgressListener

    class Killed(ProgressListener):
        def epoch(self, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    fm_mlflow.train("mlp", epochs=_EPOCHS, seed=seed, progress=Killed(), **SETTINGS)


def train(place: Place) -> object:
    """Train one model more."""
    import fm_mlflow

    return fm_mlflow.train("mlp", epochs=2, seed=7, **SETTINGS)


def resume(place: Place) -> object:
    """Resume the first run that was interrupted."""
    import fm_mlflow

    return fm_mlflow.resume(place.interrupted[0])


def extend(place: Place) -> object:
    """Give a finished run more epochs."""
    import fm_mlflow

    return fm_mlflow.resume(place.finished[0], epochs=3)


def sync(place: Place) -> object:
    """Deliver all journals."""
    import fm_mlflow

    return fm_mlflow.sync()


def sync_one(place: Place) -> object:
    """Deliver the journal of the first run that was interrupted."""
    import fm_mlflow

    return fm_mlflow.sync([place.interrupted[0]])


def reconcile(place: Place) -> object:
    """Close what is dead."""
    import fm_mlflow

    return fm_mlflow.reconcile()


def compare(place: Place) -> object:
    """Write a report."""
    import fm_mlflow

    return fm_mlflow.compare(output=str(place.root / "report"))


def register(place: Place) -> object:
    """Promote the best model."""
    import fm_mlflow

    return fm_mlflow.register(name="m", min_accuracy=0.1)


def predict(place: Place) -> object:
    """Predict with a finished run's model."""
    import numpy as np

    import fm_mlflow

    images = place.root / f"images-{os.getpid()}.npy"
    np.save(images, np.zeros((20, 28, 28), np.uint8))
    return fm_mlflow.predict(
        model=place.finished[0], input=str(images), output=str(place.root / "p.csv")
    )


def track(place: Place) -> object:
    """Log from a script."""
    import fm_mlflow

    with fm_mlflow.track("mlp", seed=5) as run:
        run.log_metrics({"loss": 0.5}, 1)
    return run


def runs(place: Place) -> object:
    """Read the runs as a data frame."""
    import fm_mlflow

    return fm_mlflow.runs()


def benchmark(place: Place) -> object:
    """Train two models, each in a process of its own."""
    import fm_mlflow

    return fm_mlflow.benchmark(
        models="mlp", seeds="11,12", epochs=1, output=str(place.root / "b"), **SETTINGS
    )


def sweep(place: Place) -> object:
    """Search over one setting."""
    import fm_mlflow

    return fm_mlflow.sweep(
        "mlp",
        search={"learning_rate": "0.001..0.01"},
        trials=2,
        epochs=1,
        finalists=1,
        seeds=1,
        output=str(place.root / "s"),
        dataset="digits",
    )


def delete(place: Place) -> object:
    """Delete the run that is newest, or that others work on."""
    client = place.client()
    draw = random.Random(os.getpid())
    candidates = [run.info.run_id for run in place.runs()]
    for run_id in {candidates[0], place.interrupted[0], draw.choice(candidates)}:
        client.delete_run(run_id)
    return ""


PAIRED: dict[str, Command] = {
    each.__name__: each
    for each in (
        *(train, resume, extend, sync, sync_one, reconcile, compare, predict, runs, delete),
    )
}

NAMED: dict[str, list[tuple[Command, float]]] = {
    "two sync": [(sync, 0), (sync, 0)],
    "two sync of one": [(sync_one, 0), (sync_one, 0)],
    "two resume": [(resume, 0), (resume, 0)],
    "two extend": [(extend, 0), (extend, 0)],
    "sync during train": [(train, 0), (sync, 0.3), (sync, 1), (sync, 2)],
    "sync during resume": [(resume, 0), (sync, 0.2), (reconcile, 0.8)],
    "four register": [(register, 0)] * 4,
    "benchmark, sweep and compare": [(benchmark, 0), (sweep, 0), (compare, 0), (compare, 10)],
    "a run deleted under train": [(train, 0), (delete, 1.5)],
    "a run deleted under resume": [(resume, 0), (delete, 1.0)],
    "a run deleted under sync": [(sync, 0), (delete, 0.15)],
    "a run deleted under compare": [(compare, 0), (delete, 0.5)],
    "a run deleted under predict": [(predict, 0), (delete, 0.5)],
    "a run deleted under register": [(register, 0), (delete, 2)],
    "a run deleted under benchmark": [(benchmark, 0), (delete, 8)],
}


def _done(place: Place, work: Callable[[], object], code: int = 0) -> None:
    def call() -> None:
        place.use()
        os.chdir(place.root)  # where the artifacts of a new store go
        work()

    if (ended := wait(fork(call, place.log))) != code:
        raise RuntimeError(f"{ended}: {place.log.read_text()[-4000:]}")


def together(
    place: Place, commands: Sequence[tuple[Command, float]]
) -> tuple[list[str], list[str]]:
    """Run commands beside one another, each after its seconds.

    Returns:
        How each ended, in a word, and what must not be.
    """
    pids = []
    for number, (command, seconds) in enumerate(commands):
        result = place.root / f"result-{number}"
        pids.append(fork(lambda c=command, s=seconds, r=result: _call(place, c, s, r), place.log))  # type: ignore[misc]
    deadline = time.monotonic() + _SECONDS
    words, wrong = [], []
    for number, (command, _) in enumerate(commands):
        while os.waitid(os.P_PID, pids[number], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > deadline:
                os.kill(pids[number], signal.SIGKILL)
                wrong.append(f"{command.__name__} hung")
            time.sleep(0.02)
        wait(pids[number])
        result = place.root / f"result-{number}"
        found = json.loads(result.read_text()) if result.exists() else {"escaped": "it died"}
        words.append(found.get("ended", "escaped"))
        if found.get("escaped"):
            wrong.append(f"{command.__name__}: {found['escaped']}")
        result.unlink(missing_ok=True)
    return words, wrong


def _call(place: Place, command: Command, seconds: float, result: Path) -> None:
    import fm_mlflow

    place.use()
    os.chdir(place.root)
    time.sleep(seconds)
    found: dict[str, str] = {}
    try:
        command(place)
        found["ended"] = "done"
    except fm_mlflow.FmMlflowError as error:
        found["ended"] = type(error).__name__
        if "\n" in str(error) or not str(error):
            found["escaped"] = f"not in one line: {error!r}"
    except BaseException:
        found["escaped"] = traceback.format_exc()[-2500:]
    result.write_text(json.dumps(found))


def _wrong_after(place: Place) -> list[str]:
    """Recover in a process of its own, and say what is wrong in the store then."""
    result = place.root / "after"

    def look() -> None:
        import fm_mlflow

        place.use()
        found = fm_mlflow.reconcile()
        told = [each for each in found.delivered if each.pending]
        result.write_text(json.dumps(_look(place, {each.run_id for each in told})))

    _done(place, look)
    wrong: list[str] = json.loads(result.read_text())
    return wrong


def _look(place: Place, told: set[str]) -> list[str]:
    from mlflow.entities import ViewType

    client, wrong = place.client(), []
    deleted = {run.info.run_id for run in client.search_runs(["0"], "", ViewType.DELETED_ONLY)}
    for run in place.runs():
        name = f"run {run.info.run_name} {run.info.run_id}"
        if run.info.status == "RUNNING":
            wrong.append(f"{name} is RUNNING")
        history = client.get_metric_history(run.info.run_id, "loss")
        steps = sorted(point.step for point in history)
        if len(set(steps)) != len(steps):
            wrong.append(f"{name} has steps twice: {steps}")
        is_training = run.data.tags.get("fm_mlflow.kind") == "training"
        if is_training and run.info.status == "FINISHED":
            if steps != [*range(1, len(steps) + 1)] or "test_accuracy" not in run.data.metrics:
                wrong.append(f"{name} is FINISHED with {steps}, {sorted(run.data.metrics)}")
            text = f"source_run_id = '{run.info.run_id}'"
            models = [str(each.status) for each in client.search_logged_models(["0"], text)]
            if "READY" not in models or (len(models) > 1 and steps != [1, 2, 3]):
                wrong.append(f"{name} has the models {models}")
    left = {path.name for path in (place.root / "journals").iterdir()}
    if left and not told <= deleted:
        wrong.append(f"told of runs that are not deleted: {told - deleted}")
    if left and not told:
        wrong.append(f"left: {sorted(left)}")
    versions = client.search_model_versions("name = 'm'")
    if versions and "champion" not in client.get_registered_model("m").aliases:
        wrong.append(f"{len(versions)} versions and no champion")
    with sqlite3.connect(place.root / "mlflow.db") as connection:
        (state,) = connection.execute("PRAGMA integrity_check").fetchone()
    if state != "ok":
        wrong.append(f"the database: {state}")
    return wrong


def named(place: Place, only: str) -> dict[str, Any]:
    """Run the scenes that have names."""
    rows, wrong = {}, []
    for name, commands in NAMED.items():
        if only not in name:
            continue
        place.restore()
        began = time.monotonic()
        words, escaped = together(place, commands)
        escaped += _wrong_after(place)
        rows[name] = f"{', '.join(words)}; {time.monotonic() - began:.0f} s"
        wrong += [f"{name}: {each}" for each in escaped]
        print(f"{name}: {rows[name]}", *escaped, sep="\n  ", file=sys.stderr, flush=True)
    return {"scenes": rows, "wrong": wrong}


def pairs(place: Place, rounds: int, seed: int, minutes: float) -> dict[str, Any]:
    """Run random pairs of commands, the second one after up to 2 s."""
    until = time.monotonic() + minutes * 60
    tried: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    wrong = []
    for number in range(rounds):
        if time.monotonic() > until:
            break
        draw = random.Random(f"{seed} {number}")
        first, second = draw.choice([*PAIRED]), draw.choice([*PAIRED])
        moment = draw.choice([0.0, draw.uniform(0, 0.3), draw.uniform(0, 2)])
        place.restore()
        words, escaped = together(place, [(PAIRED[first], 0.0), (PAIRED[second], moment)])
        escaped += _wrong_after(place)
        tried[" + ".join(sorted((first, second)))] += 1
        ended.update(words)
        if escaped:
            where = f"round {number}, {first} and {second} after {moment:.2f} s ({words})"
            wrong.append(f"{where}: {'; '.join(escaped)}")
            print(wrong[-1], file=sys.stderr, flush=True)
    return {
        "rounds": tried.total(),
        "different pairs": len(tried),
        "ended": dict(ended),
        "wrong": wrong,
    }


def crowd(kind: str, count: int, at_once: int, folder: Path) -> dict[str, Any]:
    """Train as often, some at once, on one new database."""
    import mlflow
    from mlflow.tracking import MlflowClient

    import fm_mlflow

    os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(folder / "journals")
    with stores(kind, folder) as store_of:
        uri = store_of(0)
        os.environ["MLFLOW_EXPERIMENT_NAME"] = "crowd"

        def start(seed: int) -> None:
            mlflow.set_tracking_uri(uri)
            _train(seed, 2)

        began = time.monotonic()
        waiting, going, failed = [*range(count)], set(), 0
        while waiting or going:
            while waiting and len(going) < at_once:
                seed = waiting.pop()
                going.add(fork(lambda seed=seed: start(seed), folder / "log"))  # type: ignore[misc]
            pid, status = os.wait()
            if pid in going:
                going.remove(pid)
                failed += os.waitstatus_to_exitcode(status) != 0
        seconds = time.monotonic() - began
        mlflow.set_tracking_uri(uri)
        left_to_sync = fm_mlflow.sync().journals  # their time for it was over
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("crowd")
        found = client.search_runs([experiment.experiment_id], max_results=1000)
        whole = [
            [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]
            and run.info.status == "FINISHED"
            for run in found
        ]
    left = [path.name for path in (folder / "journals").iterdir()]
    wrong = [f"{failed} failed"] * bool(failed) + [f"left: {left}"] * bool(left)
    if whole.count(True) != count or len(whole) != count:
        wrong.append(f"{whole.count(True)} whole runs of {len(whole)}")
    return {
        "store": kind,
        "trainings": count,
        "at once": at_once,
        "seconds": round(seconds, 1),
        "delivered by sync": sum(not each.pending for each in left_to_sync),
        "wrong": wrong,
    }


def main() -> int:
    """Run one campaign."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("campaign", choices=["named", "pairs", "crowd"])
    parser.add_argument("--only", default="", help="scenes whose name holds this")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=600, help="begin no round after that")
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--trainings", type=int, default=16)
    parser.add_argument("--at-once", type=int, default=16)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import fm_mlflow.training  # noqa: F401
    from fm_mlflow.process.quiet import import_tensorflow

    import_tensorflow()  # before the forks, each of which has a runtime of its own
    with tempfile.TemporaryDirectory(prefix="concurrency-") as name:
        folder = Path(name).resolve()
        os.chdir(folder)
        if given.campaign == "crowd":
            result = crowd(given.store, given.trainings, given.at_once, folder)
        else:
            os.environ["MLFLOW_EXPERIMENT_ID"] = "0"  # which `Place.runs` searches
            place = Place(folder)
            place.prepare()
            if given.campaign == "named":
                result = named(place, given.only)
            else:
                result = pairs(place, given.rounds, given.seed, given.minutes)
    print(json.dumps(result, indent=2))
    return int(bool(result["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
