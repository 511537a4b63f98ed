"""Kill, cut off and crowd real trainings, and compare what is left with undisturbed ones.

    python -m benchmarks.faults kills --command train --rounds 100
    python -m benchmarks.faults outages --rounds 30 --longest 120
    python -m benchmarks.faults parallel --rounds 5 --store sqlite
    python -m benchmarks.faults points --command train,sync --fault kill,memory --sample 20 --seed 0

`kills` ends commands, and what recovers them, at random moments; `points` has a fault strike at
each point at which a command touches disk, store or other processes (`fault_points.py`).

Each prints one JSON object. Trainings are small (`digits`) and run in forks of a process that has
TensorFlow imported, so that a round takes seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = {"dataset": "digits", "measure": "none"}
TIMED = {"epoch_seconds", "memory/rss_mib"}
OF_A_RUN = {"time/fit_seconds", "time/total_seconds", "throughput/training_per_second"}

Contents = dict[str, Any]


def fork(work: Callable[[], object], log: Path) -> int:
    """Run something in a child process; return its pid."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int) -> int:
    """Wait for a child; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def contents(uri: str, run_id: str) -> Contents:
    """What a store holds of a run that does not depend on time: exact values, every point."""
    import mlflow
    import numpy as np
    from mlflow.entities import LoggedModelStatus
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    run = client.get_run(run_id)
    points = {}
    for key in run.data.metrics:
        history = client.get_metric_history(run_id, key)
        timed = key in TIMED or key in OF_A_RUN
        points[key] = sorted((each.step, "" if timed else each.value.hex()) for each in history)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(client.download_artifacts(run_id, "", folder))
        names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        with np.load(root / "predictions" / "test.npz") as file:
            predictions = file["probability"].tobytes().hex()[:4096]
    # Not by a filter for the status, which MLflow 3.17 gets wrong on PostgreSQL.
    models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    mlflow.set_tracking_uri(uri)
    weights = []
    for model in (each for each in models if each.status == LoggedModelStatus.READY):
        path = mlflow.artifacts.download_artifacts(f"models:/{model.model_id}")
        weights.append(_weights(Path(path)))
        if str(path).startswith(tempfile.gettempdir() + "/tmp"):
            shutil.rmtree(path, ignore_errors=True)
    return {
        "status": run.info.status,
        "params": run.data.params,
        "points": points,
        "artifacts": [name for name in names if not name.startswith("checkpoint/")],
        "predictions": predictions,
        "weights": weights,
    }


def _weights(folder: Path) -> list[str]:
    """Checksums of all weights in a saved Keras model, the optimizer's included."""
    import hashlib
    import io
    import zipfile

    import h5py

    sums: list[str] = []
    for path in sorted(folder.rglob("*.keras")):
        with zipfile.ZipFile(path) as archive:
            data = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(data) as file:

            def add(name: str, each: Any) -> None:
                if isinstance(each, h5py.Dataset):
                    sums.append(f"{name} {hashlib.sha256(each[()].tobytes()).hexdigest()}")

            file.visititems(add)
    return sums


def differences(expected: Contents, found: Contents) -> list[str]:
    """Name what differs."""
    return [name for name in expected if expected[name] != found[name]]


@contextmanager
def server(folder: Path, port: int = 0) -> Iterator[str]:
    """A tracking server in a process group of its own."""
    with socket.create_server(("127.0.0.1", port)) as probe:
        port = probe.getsockname()[1]
    process = start_server(folder, port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop_server(process)


def start_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a server and wait until it answers."""
    from tests.processes import wait_until_it_answers

    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--workers", "1"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    wait_until_it_answers(f"http://127.0.0.1:{port}/health", process, folder / "server.log")
    return process


def stop_server(process: subprocess.Popen[bytes]) -> None:
    """Kill a server and its workers."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def outages(
    rounds: int, until: float, seed: int, longest: float, epochs: int, folder: Path
) -> dict[str, Any]:
    """Stop the server for 0.5 s to `longest` at a random moment of each of `rounds` trainings.

    The server is stopped by SIGSTOP to its process group (it takes connections and never answers)
    or, every other time, cut off (connections are refused), as when its process is gone.
    """
    import mlflow
    from mlflow.tracking import MlflowClient

    from tests.outages import Line, Way
    from tests.stores import Store

    os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(folder / "journals")
    os.environ["MLFLOW_EXPERIMENT_ID"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    log, draw = folder / "log", random.Random(seed)
    with server(folder) as direct:
        line = Line(Store(direct, folder))
        client = MlflowClient(tracking_uri=direct)

        def start() -> None:
            import fm_mlflow

            mlflow.set_tracking_uri(line.uri)
            began = time.perf_counter()
            result = fm_mlflow.train(
                "cnn", epochs=epochs, callbacks=[], flush_timeout=5, **SETTINGS
            )
            seconds = {
                "fit": result.metrics["time/fit_seconds"],
                "total": result.metrics["time/total_seconds"],
                "exit": time.perf_counter() - began,
                "pending": bool(result.pending),
            }
            (folder / "seconds.json").write_text(json.dumps(seconds))

        def one() -> tuple[str, dict[str, float]]:
            known = {run.info.run_id for run in client.search_runs(["0"], max_results=5000)}
            if wait(fork(start, log)):
                raise RuntimeError(log.read_text()[-5000:])
            line.set(Way.OPEN)
            subprocess.run(
                [sys.executable, "-m", "fm_mlflow", "sync", "--store", line.uri],
                check=True,
                capture_output=True,
            )
            (run_id,) = {
                run.info.run_id for run in client.search_runs(["0"], max_results=5000)
            } - known
            return run_id, json.loads((folder / "seconds.json").read_text())

        undisturbed, disturbed, wrong, pending = [], [], [], 0
        expected: Contents | None = None
        for number in range(rounds):
            if time.monotonic() > until:
                rounds = number
                break
            run_id, seconds = one()
            undisturbed.append(seconds)
            expected = expected or contents(direct, run_id)
            lasts = draw.choice([0.5, 2, 10, 30, longest])
            moment = draw.uniform(0, seconds["exit"])
            way = Way.SILENT if number % 2 else Way.CUT
            timers = [
                threading.Timer(moment, line.set, [way]),
                threading.Timer(moment + lasts, line.set, [Way.OPEN]),
            ]
            for timer in timers:
                timer.start()
            run_id, seconds = one()
            for timer in timers:
                timer.cancel()
            line.set(Way.OPEN)
            disturbed.append(seconds)
            pending += bool(seconds["pending"])
            different = differences(expected, contents(direct, run_id))
            if different:
                wrong.append({"run_id": run_id, "differs": different})
        line.close()

    def median(of: list[dict[str, float]], what: str) -> float:
        return statistics.median(each[what] for each in of)

    return {
        "rounds": rounds,
        "identical": rounds - len(wrong),
        "wrong": wrong,
        "pending at the end, delivered by sync": pending,
        "median seconds": {
            what: {"undisturbed": median(undisturbed, what), "disturbed": median(disturbed, what)}
            for what in ("fit", "total")
        },
        "fit, disturbed / undisturbed": median(disturbed, "fit") / median(undisturbed, "fit"),
    }


@contextmanager
def stores(kind: str, folder: Path) -> Iterator[Callable[[int], str]]:
    """Give the tracking URI of each round: a new database, or one server."""
    from tests.team_server import DATABASE_PASSWORD, postgres, team_server

    if kind == "postgresql":
        with postgres() as database:
            os.environ["PGPASSWORD"] = DATABASE_PASSWORD
            yield lambda number: new_database(database, f"round_{number}")
    elif kind == "team":
        with team_server(folder) as team:
            os.environ |= team.credentials()
            yield lambda _number: team.uri
    else:
        yield lambda number: f"sqlite:///{folder / f'{number}.db'}"


def new_database(uri: str, name: str) -> str:
    """Make an empty database beside the one that the URI names; return its URI."""
    from sqlalchemy import create_engine, text

    with create_engine(uri, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return f"{uri.rpartition('/')[0]}/{name}"


def parallel(
    rounds: int, jobs: int, epochs: int, store_of: Callable[[int], str], folder: Path
) -> dict[str, Any]:
    """Start trainings at once on a store that does not exist yet, `rounds` times."""
    import mlflow
    from mlflow.tracking import MlflowClient

    wrong, seconds = [], []
    os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(folder / "journals")
    log = folder / "log"
    for number in range(rounds):
        store = store_of(number)
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
        os.environ["MLFLOW_EXPERIMENT_NAME"] = f"round {number} {os.getpid()}"

        def start(seed: int, store: str = store) -> None:
            import fm_mlflow

            mlflow.set_tracking_uri(store)
            result = fm_mlflow.train("mlp", epochs=epochs, seed=seed, **SETTINGS)
            if result.pending:
                raise RuntimeError(result.pending)

        began = time.monotonic()
        pids = [fork(lambda seed=seed: start(seed), log) for seed in range(jobs)]  # type: ignore[misc]
        codes = [wait(pid) for pid in pids]
        seconds.append(time.monotonic() - began)
        if any(codes):
            raise RuntimeError(log.read_text()[-5000:])
        client = MlflowClient(tracking_uri=store)
        experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], max_results=1000)
        for run in runs:
            points = contents(store, run.info.run_id)["points"]
            steps = [step for step, _ in points["loss"]]
            if run.info.status != "FINISHED" or steps != list(range(1, epochs + 1)):
                wrong.append(run.info.run_id)
        if len(runs) != jobs:
            wrong.append(f"round {number}: {len(runs)} runs")
    left = [path.name for path in (folder / "journals").glob("j-*")]
    return {
        "rounds": rounds,
        "jobs": jobs,
        "wrong": wrong,
        "journals left": left,
        "seconds a round": [round(each, 1) for each in seconds],
    }


def _of_commands(given: argparse.Namespace, folder: Path, until: float) -> dict[str, Any]:
    from benchmarks import fault_campaign
    from benchmarks.fault_commands import COMMANDS
    from benchmarks.fault_points import FAULTS

    commands = list(COMMANDS) if given.command == "all" else given.command.split(",")
    if unknown := set(commands) - set(COMMANDS):
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(COMMANDS)}")
    fault_campaign.get_ready(commands)
    if given.campaign == "kills":
        found = fault_campaign.kills(
            commands, given.rounds, folder=folder, until=until, seed=given.seed
        )
    else:
        found = fault_campaign.points(
            commands,
            list(FAULTS) if given.fault == "all" else given.fault.split(","),
            folder=folder,
            until=until,
            each=given.each,
            sample=given.sample,
            seed=given.seed,
            at=given.at,
            http=given.store == "http",
        )
    print(fault_campaign.table(found), file=sys.stderr)
    return found


def main() -> None:
    """Run one campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", choices=["kills", "outages", "parallel", "points"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--longest", type=float, default=120)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument(
        "--store",
        choices=["sqlite", "postgresql", "team", "http"],
        default="sqlite",
        help="for `parallel`: a new database each round, or the server of deploy/; for `points`: "
        "sqlite, or a server of its own (http)",
    )
    parser.add_argument(
        "--command", default="all", help="for `points` and `kills`: with commas; or all"
    )
    parser.add_argument("--fault", default="kill,memory", help="for `points`: with commas; or all")
    parser.add_argument("--each", type=int, default=2, help="for `points`: of one place; 0: all")
    parser.add_argument("--sample", type=int, default=0, help="for `points`: of a command; 0: all")
    parser.add_argument("--at", default="", help="for `points`: only this one")
    parser.add_argument("--minutes", type=float, default=60, help="begin no round after that")
    given = parser.parse_args()
    until = time.monotonic() + given.minutes * 60
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    is_of_commands = given.campaign in ("kills", "points")
    if not is_of_commands:
        # Imported, but no operation is run before the forks: each has a runtime of its own.
        import fm_mlflow.training  # noqa: F401
        from fm_mlflow.process.quiet import import_tensorflow

        import_tensorflow()

    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        os.chdir(folder)
        if is_of_commands:
            result = _of_commands(given, folder, until)
        elif given.campaign == "outages":
            result = outages(given.rounds, until, given.seed, given.longest, given.epochs, folder)
        else:
            with stores(given.store, folder) as store_of:
                result = parallel(given.rounds, given.jobs, given.epochs, store_of, folder)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
