"""Cut the power at every moment of real commands, and recover what the disk may hold then.

    python -m benchmarks.power_cuts --scenes train,offline,resume,sync,compare,predict

Records what a command does to journals, store and outputs (`disk_history`, by `strace`), makes
every disk that a cut could leave, and lets `sync` and `reconcile` recover each, `resume` a sample
of them. What had been promised must be in the store, nothing else, and no run may stay RUNNING. The
store is a SQLite file, whose own transactions survive, and a folder of artifacts, which are cut off
like everything else. Prints a table and one JSON object; exit code 1 if anything was wrong.
`--seed` and `--most` choose among the states of moments with many.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.disk_history import (
    Disk,
    History,
    Names,
    Operation,
    Sync,
    digest,
    record,
    restore,
)

_NOWHERE = "http://127.0.0.1:9"
_STORE = "store"
_EPOCHS = 3

Picture = dict[str, Any]


@dataclass
class Row:
    """What became of the cuts of one command.

    Attributes:
        scene: The command.
        operations: What it did on the disk: writes, renames and the like, fsyncs left out.
        cuts: Moments at which the power failed.
        complete: Those of which all states were made; of the others a sample.
        choices: What may be left of the pending operations, of all cuts together.
        states: Disks that differ among those that were tried, each of which was recovered.
        resumed: Of them, those that `resume` recovered too.
        seconds: Of the slowest recovery.
        told: How many were left with a line that says what cannot be read or delivered; nothing
            of that had been promised.
        wrong: What must not be.
    """

    scene: str
    operations: int = 0
    cuts: int = 0
    complete: int = 0
    choices: int = 0
    states: int = 0
    resumed: int = 0
    seconds: float = 0.0
    told: int = 0
    wrong: list[str] = field(default_factory=list)


# What is recorded, each in a process of its own that `strace` watches.


def _train(root: Path) -> None:
    import fm_mlflow

    fm_mlflow.train("mlp", epochs=_EPOCHS, dataset="digits", measure="none", flush_timeout=20)


def _offline(root: Path) -> None:
    import fm_mlflow

    fm_mlflow.train("mlp", epochs=_EPOCHS, dataset="digits", measure="none", flush_timeout=0)


def _interrupted(root: Path) -> None:
    import fm_mlflow
    from fm_mlflow.listeners import ProgressListener

    class Killed(ProgressListener):
        def epoch(self, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
            if epoch == 2:
                time.sleep(0.5)  # the checkpoint before is written
                os.kill(os.getpid(), signal.SIGKILL)

    settings: dict[str, Any] = {"dataset": "digits", "measure": "none"}
    fm_mlflow.train("mlp", epochs=_EPOCHS, progress=Killed(), **settings)


def _resume(root: Path) -> None:
    import fm_mlflow

    (journal,) = (root / "journals").glob("j-*")
    fm_mlflow.resume(journal.name, flush_timeout=20)


def _sync(root: Path) -> None:
    import fm_mlflow

    (journal,) = (root / "journals").glob("j-*")
    fm_mlflow.sync([journal.name], store=store_uri(root))


def _compare(root: Path) -> None:
    import fm_mlflow

    fm_mlflow.compare(output=str(root / "out"))


def _predict(root: Path) -> None:
    import fm_mlflow

    fm_mlflow.predict(
        model=run_ids(root)[0], input=str(root / "images.npy"), output=str(root / "out" / "p.csv")
    )


def _logged(root: Path) -> None:
    """A run without a training, and so without TensorFlow: what a test records."""
    import numpy as np

    from fm_mlflow.tracking.run import TrackedRun
    from fm_mlflow.training.checkpoint import Checkpoint, CheckpointWriter, Progress

    name, keys, *rest = np.random.get_state(legacy=True)
    state = {"python": random.getstate(), "numpy": [name, np.asarray(keys).tolist(), *rest]}
    with TrackedRun("training", "a run", settings={"epochs": 2}) as run:
        run.log_params({"epochs": 2})
        writer = CheckpointWriter(run.checkpoint_folder, run.log_checkpoint)
        for epoch in (1, 2):
            run.log_metrics({"loss": 1 / epoch}, epoch)
            progress = Progress(epoch, {"loss": [0.5] * epoch})
            writer.write(Checkpoint({"epochs": 2}, "", progress, [np.ones(3)], [], state))
            time.sleep(0.1)
        writer.close()
        with run.artifacts() as folder:
            (folder / "flops").mkdir()
            (folder / "flops" / "layers.csv").write_text("layer,flops\n")
            (folder / "measurements.json").write_text("{}")
        run.log_metrics({"test_loss": 0.5})


@dataclass(frozen=True)
class Scene:
    """A command that is cut off.

    Attributes:
        command: What is recorded.
        before: What leads to it, each in a process of its own.
        is_offline: Whether the store does not answer meanwhile.
        writes: The name of the folder that the command writes; else it is a run's journal.
        can_resume: Whether `resume` can recover it.
    """

    command: Callable[[Path], None]
    before: tuple[Callable[[Path], None], ...] = ()
    is_offline: bool = False
    writes: str = ""
    can_resume: bool = False


SCENES = {
    "train": Scene(_train, can_resume=True),
    "offline": Scene(_offline, is_offline=True, can_resume=True),
    "resume": Scene(_resume, (_interrupted,), can_resume=True),
    "sync": Scene(_sync, (_offline,), is_offline=True),
    "compare": Scene(_compare, (_train, _compare, _train), writes="out"),
    "predict": Scene(_predict, (_train, _predict), writes="out"),
    "logged": Scene(_logged),
}


def store_uri(root: Path) -> str:
    """Return the store's address."""
    return f"sqlite:///{root / _STORE / 'mlflow.db'}"


def run_ids(root: Path) -> list[str]:
    """Return the training runs of the store, newest first."""
    from mlflow.tracking import MlflowClient

    text = "tags.`fm_mlflow.kind` = 'training'"
    found = MlflowClient(store_uri(root)).search_runs(["0"], text)
    return [run.info.run_id for run in found]


def perform(scene: str, command: str, root: Path) -> None:
    """Run one command of a scene in this process."""
    import mlflow

    found = SCENES[scene]
    is_offline = found.is_offline and command != "_sync"
    mlflow.set_tracking_uri(_NOWHERE if is_offline else store_uri(root))
    os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(root / "journals")
    {each.__name__: each for each in (found.command, *found.before)}[command](root)


def recorded(scene: str, root: Path, template: Path) -> History:
    """Prepare a scene in an empty folder, and record its command."""
    shutil.rmtree(root, ignore_errors=True)
    (root / _STORE).mkdir(parents=True, mode=0o700)
    _make_store(root, template)
    log = root.with_name(f"{scene}.log")
    found = SCENES[scene]
    base = [sys.executable, "-m", "benchmarks.power_cuts", "--root", str(root), "--perform"]
    for each in found.before:
        if each is _predict:
            _images(root)
        code = os.waitstatus_to_exitcode(
            os.system(" ".join([*base, f"{scene}:{each.__name__}", f">>{log}", "2>&1"]))
        )
        if code not in (0, 137, -9):
            raise RuntimeError(f"{each.__name__} ended with {code}: {log.read_text()[-4000:]}")
    command = [*base, f"{scene}:{found.command.__name__}"]
    return record(command, root, (f"{_STORE}/mlflow.db",), log)


def _images(root: Path) -> None:
    import numpy as np

    np.save(root / "images.npy", np.zeros((20, 28, 28), np.uint8))
    (root / "out").mkdir(exist_ok=True)


def _make_store(root: Path, template: Path) -> None:
    import sqlite3

    database = root / _STORE / "mlflow.db"
    shutil.copy(template, database)
    with sqlite3.connect(database) as connection:
        artifacts = str(root / _STORE / "artifacts")
        connection.execute("UPDATE experiments SET artifact_location = ?", [artifacts])


def picture(root: Path) -> list[Picture]:
    """What the store holds: of each training run all but what a recovery may change."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store_uri(root))
    found = []
    for run_id in run_ids(root):
        run = client.get_run(run_id)
        points = [
            (key, each.step, each.timestamp, each.value.hex())
            for key in sorted(run.data.metrics)
            for each in client.get_metric_history(run_id, key)
        ]
        models = {}
        text = f"source_run_id = '{run_id}'"
        for model in client.search_logged_models(["0"], text):
            models[f"{model.model_id} {model.status}"] = _sums(Path(model.artifact_location))
        inputs = [each.dataset.digest for each in run.inputs.dataset_inputs] if run.inputs else []
        found.append(
            {
                "run_id": run_id,
                "status": run.info.status,
                "params": dict(run.data.params),
                "tags": dict(run.data.tags),
                "points": points,
                "artifacts": _sums(Path(run.info.artifact_uri.removeprefix("file://"))),
                "models": models,
                "inputs": sorted(inputs),
            }
        )
    return found


def _sums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "MLmodel" and path.parent.name != "checkpoint"
    }


@dataclass
class Promise:
    """What a run's journal had promised when the power failed.

    Attributes:
        journal: Its records, as lines that an fsync had covered.
        epoch: Of the newest checkpoint that was on the disk.
        journal_id: The journal's name.
    """

    journal: bytes = b""
    epoch: int = 0
    journal_id: str = ""


def promises(history: History) -> Callable[[int], Promise]:
    """Return what had been promised before each cut."""
    lines: dict[int, int] = {}
    checkpoints: dict[int, int] = {}
    names: dict[int, str] = {}
    for number, operation in enumerate(history.operations):
        path = history.paths[number]
        if not isinstance(operation, Names):
            continue
        for _, name, inode in operation.changes:
            if inode is None:
                continue
            if name == "journal.jsonl":
                lines[inode] = number
                names[inode] = Path(path).parent.name
            elif name in ("even.npz", "odd.npz") and path.startswith("journals/"):
                checkpoints[number] = _epoch(history.contents[inode])
    for path, inode in history.files_at_start("journal.jsonl"):
        lines[inode] = -1
        names[inode] = Path(path).parent.name

    def of(cut: int) -> Promise:
        found = Promise()
        for inode, named in lines.items():
            data = history.synced(inode, cut)
            # Whoever makes a journal promises its first record with its name. Of one that has had
            # more since, whether the name is on the disk is what is tested.
            is_made = named < 0 or history.survives(named, cut)
            if data and (is_made or data != history.synced(inode, named)):
                found.journal, found.journal_id = data, names[inode]
        folders = [n for n in checkpoints if history.survives(n, cut)]
        found.epoch = max((checkpoints[number] for number in folders), default=0)
        return found

    return of


def _epoch(data: bytes | bytearray) -> int:
    import numpy as np

    with np.load(io.BytesIO(bytes(data))) as file:
        epoch = json.loads(file["meta"].tobytes())["progress"]["epoch"]
    return int(epoch)


def wrong_in(
    found: list[Picture], expected: Picture, promise: Promise, promised: list[Any]
) -> Iterator[str]:
    """Say what is missing or false in a store after a recovery.

    Args:
        found: What the store holds.
        expected: What it holds after the undisturbed run.
        promise: What the journal had promised.
        promised: Its records.
    """
    from fm_mlflow.tracking.outbox import records

    if len(found) != 1:
        if promised or len(found) > 1:
            yield f"{len(found)} runs"
        return
    (run,) = found
    if run["status"] == "RUNNING":
        yield "the run is RUNNING"
    for name in ("params", "artifacts"):
        false = run[name].items() - expected[name].items()
        if false:
            yield f"false {name}: {sorted(false)[:2]}"
    points = [*map(tuple, run["points"])]
    if len(set(points)) != len(points):
        yield "a point is there twice"
    if false := set(points) - {*map(tuple, expected["points"])}:
        yield f"false points: {sorted(false)[:2]}"
    whole = [sums for key, sums in run["models"].items() if key.endswith("READY")]
    if any(sums not in expected["models"].values() for sums in whole) or len(whole) > 1:
        yield "a false model"
    for each in promised:
        if isinstance(each, records.Batch):
            for point in each.metrics:
                if (point.key, point.step, point.timestamp, point.value.hex()) not in points:
                    yield f"{point.key} of step {point.step} is lost"
            if missing := each.params.keys() - run["params"].keys():
                yield f"parameters are lost: {sorted(missing)[:3]}"
            if missing := each.tags.keys() - run["tags"].keys() - {"fm_mlflow.error"}:
                yield f"tags are lost: {sorted(missing)[:3]}"
        elif isinstance(each, records.Artifacts):
            if missing := {*each.files} - {*run["artifacts"]}:
                yield f"artifacts are lost: {sorted(missing)[:3]}"
        elif isinstance(each, records.Model) and not whole:
            yield "the model is lost"
        elif isinstance(each, records.Dataset) and each.dataset["digest"] not in run["inputs"]:
            yield "a data set is lost"
    last = promised[-1] if promised else None
    if isinstance(last, records.End) and run["status"] != last.status:
        yield f"it ended as {last.status} and is {run['status']}"


def recover(
    scene: str, root: Path, expected: Picture, promise: Promise, how: str
) -> dict[str, Any]:
    """Recover what a cut left in a folder, and say what is wrong then."""
    import mlflow

    import fm_mlflow
    from fm_mlflow.tracking.outbox.journal_file import read_records
    from fm_mlflow.training.checkpoint import newest

    mlflow.set_tracking_uri(store_uri(root))
    os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(root / "journals")
    lines = root / "promised"
    lines.write_bytes(promise.journal)
    with lines.open("rb", buffering=0) as file:
        promised = read_records(file).records
    lines.unlink()
    wrong: list[str] = []
    is_over = bool(promised) and type(promised[-1]).__name__ == "End"
    journal = root / "journals" / promise.journal_id
    if promise.epoch and not is_over:
        checkpoint = newest([journal / "checkpoint"])
        if checkpoint is None or checkpoint.progress.epoch < promise.epoch:
            wrong.append(f"the checkpoint of epoch {promise.epoch} is lost")
    here = [path.parent.name for path in (root / "journals").glob("j-*/journal.jsonl")]
    told: list[str] = []
    if how == "resume":
        known = run_ids(root)
        run_id = promise.journal_id if promise.journal_id in here else (known or here or [""])[0]
        store: dict[str, Any] = {"store": store_uri(root)}
        try:
            if run_id:
                fm_mlflow.resume(run_id, **store)
        except fm_mlflow.InputError as error:
            if "finished" not in str(error):
                wrong.append(f"resume: {error}")
    if SCENES[scene].is_offline and here:
        try:
            told += [each.pending for each in fm_mlflow.sync(here, store=store_uri(root)).journals]
        except fm_mlflow.InputError as error:
            if "there is none" not in str(error):
                raise
    result = fm_mlflow.reconcile()
    told += [each.pending for each in result.delivered]
    told = [each for each in told if each]
    found = picture(root)
    if how == "resume" and promised:
        for run in found:
            run["points"] = _timeless(run["points"])
        expected = {**expected, "points": _timeless(expected["points"])}
        (run,) = found
        for name in ("params", "inputs"):
            if run[name] != expected[name]:
                wrong.append(f"after resume, {name} differ")
        mine, theirs = (sorted(map(tuple, each["points"])) for each in (run, expected))
        if mine != theirs:
            wrong.append(f"after resume, points differ: {sorted({*mine} ^ {*theirs})[:3]}")
        if run["artifacts"].get("predictions/test.npz") != expected["artifacts"].get(
            "predictions/test.npz"
        ):
            wrong.append("after resume, predictions differ")
        if run["status"] != "FINISHED":
            wrong.append(f"after resume, the run is {run['status']}")
    else:
        wrong += wrong_in(found, expected, promise, promised)
    left = sorted(
        str(path.relative_to(root / "journals"))
        for path in (root / "journals").rglob("*")
        if path.is_file()
    )
    if left and not told:
        wrong.append(f"left: {left[:4]}")
    return {"wrong": wrong, "told": told}


def _timeless(points: list[Any]) -> list[Any]:
    timed = ("epoch_seconds", "memory/", "time/", "throughput/", "utilization/")
    return [
        (key, step, 0, "" if key.startswith(timed) else value) for key, step, _, value in points
    ]


def outputs(root: Path, old: Disk, new: Disk, writes: str) -> dict[str, Any]:
    """Say which outputs are neither what was there before nor what the command wrote."""
    wrong = []
    for path in (root / writes).iterdir() if (root / writes).is_dir() else ():
        name = str(path.relative_to(root))
        if name not in old and name not in new:
            continue  # a temporary file: nobody takes it for an output
        if path.read_bytes() not in (old.get(name), new.get(name)):
            wrong.append(f"{name} is neither the old nor the new one")
    for name, data in old.items():
        if data is not None and name.startswith(f"{writes}/") and not (root / name).exists():
            wrong.append(f"{name} is lost")
    return {"wrong": wrong, "told": []}


def campaign(
    scene: str,
    folder: Path,
    template: Path,
    seed: int = 0,
    most: int = 24,
    limit: int = 10**9,
    resume_every: int = 0,
    seconds: float = float("inf"),
) -> Row:
    """Cut one command off at every moment, and recover.

    Args:
        scene: Its name in `SCENES`.
        folder: An empty one.
        template: An empty, migrated store.
        seed: Of what is drawn where a cut has too many states.
        most: States of one cut.
        limit: States in all; a sample of them where there are more.
        resume_every: `resume` recovers one in so many states too; 0 for none.
        seconds: After which to recover no more.
    """
    draw = random.Random(f"{seed} {scene}")
    root = folder / "disk"
    history = recorded(scene, root, template)
    found = SCENES[scene]
    expected: Picture = {}
    if not found.writes:
        expected = in_fork(lambda: _expected(scene, root))
    new = history.disk(len(history.operations), dict(enumerate(history.operations)))
    promised = promises(history)
    row = Row(scene, sum(not isinstance(each, Sync) for each in history.operations))
    chosen: list[tuple[int, dict[int, Operation]]] = []
    for cut in history.cuts():
        choices, is_all = history.states(cut, draw, most)
        row.cuts += 1
        row.complete += is_all
        chosen += [(cut, choice) for choice in choices]
    row.choices = len(chosen)
    if len(chosen) > limit:
        chosen = draw.sample(chosen, limit)
    seen: set[str] = set()
    until = time.monotonic() + seconds
    for number, (cut, choice) in enumerate(chosen):
        disk, promise = history.disk(cut, choice), promised(cut)
        key = f"{digest(disk)} {len(promise.journal)} {promise.epoch}"
        if key in seen:
            continue
        seen.add(key)
        ways = ["sync"]
        if found.can_resume and resume_every and number % resume_every == 0:
            ways.append("resume")
        for how in ways:
            if time.monotonic() > until:
                return row
            restore(disk, root)
            began = time.monotonic()
            if found.writes:
                result = outputs(root, history.initial, new, found.writes)
            else:
                result = in_fork(
                    lambda how=how, promise=promise: recover(  # type: ignore[misc]
                        scene, root, expected, promise, how
                    )
                )
            row.seconds = max(row.seconds, round(time.monotonic() - began, 2))
            row.states += how == "sync"
            row.resumed += how == "resume"
            row.told += bool(result["told"])
            row.wrong += [f"state {number}, {how}: {each}"[:400] for each in result["wrong"]]
    return row


def _expected(scene: str, root: Path) -> Picture:
    import mlflow

    import fm_mlflow

    mlflow.set_tracking_uri(store_uri(root))
    os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(root / "journals")
    if SCENES[scene].is_offline and any((root / "journals").glob("j-*")):
        here = [path.name for path in (root / "journals").glob("j-*")]
        fm_mlflow.sync(here, store=store_uri(root))
    (run,) = picture(root)
    return run


def in_fork(work: Callable[[], Any]) -> Any:
    """Return what a function returns in a child process, as JSON; an exception is wrong too."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            try:
                result = work()
            except BaseException:
                result = {"wrong": [traceback.format_exc()[-1500:]], "told": []}
            with open(writer, "w") as output:
                json.dump(result, output)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as lines:
        text = lines.read()
    os.waitpid(pid, 0)
    return json.loads(text) if text else {"wrong": ["the process died"], "told": []}


def show(rows: list[Row]) -> None:
    """Print the table, what was wrong, and the JSON object."""
    names = ["operations", "cuts", "complete", "choices", "states", "resumed", "told", "seconds"]
    print(f"{'scene':<10}" + "".join(f"{name:>12}" for name in [*names, "wrong"]))
    for row in rows:
        numbers = [*(getattr(row, name) for name in names), len(row.wrong)]
        print(f"{row.scene:<10}" + "".join(f"{each:>12}" for each in numbers))
    for row in rows:
        for each in row.wrong[:20]:
            print(f"{row.scene}: {each}")
    print(json.dumps({"rows": [asdict(row) for row in rows]}))


def main() -> int:
    """Run the campaign, or one command of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    scenes = [name for name in SCENES if name != "logged"]
    parser.add_argument("--scenes", default=",".join(scenes))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=24, help="states of one moment")
    parser.add_argument("--limit", type=int, default=10**9, help="states of one command")
    parser.add_argument("--resume-every", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=600, help="of recovering, a command")
    parser.add_argument("--perform", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ["MLFLOW_EXPERIMENT_ID"] = "0"  # which `run_ids` searches
    if given.perform:
        scene, _, command = given.perform.partition(":")
        perform(scene, command, given.root)
        return 0
    import logging

    from mlflow.tracking import MlflowClient

    logging.disable(logging.CRITICAL)
    if given.resume_every:
        import fm_mlflow.training
        from fm_mlflow.process.quiet import import_tensorflow

        import_tensorflow()  # before the forks, each of which has a runtime of its own
    rows = []
    with tempfile.TemporaryDirectory(prefix="power-cuts-") as name:
        folder = Path(name).resolve()
        template = folder / "template.db"
        # Here, so that the forks have what MLflow imports and sets up for a store.
        MlflowClient(f"sqlite:///{template}").search_experiments()
        import fm_mlflow.commands.reconcile
        import fm_mlflow.tracking.running  # noqa: F401

        for scene in given.scenes.split(","):
            place = folder / scene
            place.mkdir()
            rows.append(
                campaign(
                    *(scene, place, template, given.seed, given.most, given.limit),
                    resume_every=given.resume_every,
                    seconds=given.minutes * 60,
                )
            )
            print(f"{scene}: {rows[-1].states} states", file=sys.stderr, flush=True)
    show(rows)
    return int(any(row.wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main())
