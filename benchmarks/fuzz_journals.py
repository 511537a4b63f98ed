"""Damage journals, their states and checkpoints, and see what becomes of them and of the others.

    python -m benchmarks.fuzz_journals --count 1500 --seed 0

Two thirds of the inputs are journals: each lies beside a whole one, and `sync` delivers both into a
SQLite store. What arrives is compared with the lines that are as they were. One third are
checkpoints, beside the one before. Prints a JSON object for each kind of damage.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import damaged_checkpoints, damaged_journals
from fm_mlflow.measure.memory_system import LinuxHighWater
from fm_mlflow.training.checkpoint import Checkpoint, Progress, newest

HANG_SECONDS = 60
MOST_MIB = 1024
EPOCHS = 6
_ARTIFACTS = EPOCHS + 2
_FILES = ("missing_files", "other_files")


@dataclass
class Row:
    """What became of the inputs of one kind.

    Attributes:
        kind: Of damage.
        inputs: How many there were.
        seconds: Of the slowest, the delivery of the whole journal beside it included.
        mib: The largest resident memory that one of them added to the process.
        refused: How many were kept, or left out, with a line that says why.
        escaped: What must not be: an exception, a hang, too much memory; a whole journal or
            checkpoint that was not used, a line that was lost, anything twice in the store.
        complete: How many arrived in full, or are as they were.
        delivered_lines: Lines that were as they were and arrived.
        kept_lines: Those that did not, because nobody knows whose they are.
    """

    kind: str
    inputs: int = 0
    seconds: float = 0.0
    mib: int = 0
    refused: int = 0
    escaped: list[str] = field(default_factory=list)
    complete: int = 0
    delivered_lines: int = 0
    kept_lines: int = 0

    def note(self, what: str, is_so: bool) -> None:
        """Note something that must not be."""
        if is_so:
            self.escaped.append(f"input {self.inputs}: {what}"[:300])

    @contextmanager
    def input(self, memory: LinuxHighWater) -> Iterator[None]:
        """Measure one input, and note what escapes."""
        memory.reset()
        before = memory.read() or 0  # everything that the process has loaded
        started = time.monotonic()
        signal.alarm(HANG_SECONDS)
        try:
            yield
        except Exception as error:
            self.note(f"{type(error).__name__}: {error}", True)
        finally:
            signal.alarm(0)
            mib = max(0, (memory.read() or 0) - before) >> 20
            self.note(f"{mib} MiB", mib > MOST_MIB)
            self.inputs += 1
            self.seconds = max(self.seconds, round(time.monotonic() - started, 2))
            self.mib = max(self.mib, mib)


def campaign(count: int, seed: int, parts: str = "journals,checkpoints") -> list[dict[str, Any]]:
    """Damage as many inputs, two thirds of them journals; return a row for each kind (`Row`)."""
    signal.signal(signal.SIGALRM, _hang)
    logging.disable(logging.CRITICAL)
    rows: list[Row] = []
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name).resolve()
        os.chdir(folder)
        try:
            if "journals" in parts:
                rows += _journals(count * 2 // 3, random.Random(seed), folder)
            if "checkpoints" in parts:
                rows += _checkpoints(count - count * 2 // 3, random.Random(seed), folder)
        finally:
            os.chdir(before)
            logging.disable(logging.NOTSET)
    return [asdict(row) for row in rows]


def _hang(_number: int, _frame: object) -> None:
    raise TimeoutError(f"nothing after {HANG_SECONDS} s")


def _journals(count: int, chance: random.Random, folder: Path) -> list[Row]:
    import mlflow

    store = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(store)
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("fuzz", str(folder / "mlruns"))
    os.environ["MLFLOW_EXPERIMENT_ID"] = experiment
    memory = LinuxHighWater()
    rows = {kind: Row(f"journal: {kind}") for kind in damaged_journals.KINDS}
    for number in range(count):
        kind = list(rows)[number % len(rows)]
        root = folder / f"root-{number}"
        root.mkdir(mode=0o700)
        os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(root)
        bad, good = root / f"j-bad-{number}", root / f"j-good-{number}"
        run_id = client.create_run(experiment).info.run_id if chance.random() < 0.5 else None
        _write_journal(bad, store, experiment, run_id, has_model=chance.random() < 0.3)
        _write_journal(good, store, experiment, None, has_model=False)
        whole = damaged_journals.lines(bad)
        os.chdir(root)  # sockets have short paths
        damaged_journals.KINDS[kind](chance, bad)
        left = _lines_left(bad)
        with rows[kind].input(memory):
            _deliver(rows[kind], client, experiment, bad, good, [each in left for each in whole])
        os.chdir(folder)
        shutil.rmtree(root)
    return list(rows.values())


def _lines_left(folder: Path) -> set[bytes]:
    path = folder / "journal.jsonl"
    if not path.is_file() or path.is_symlink() or path.stat().st_size > 2 * 10**8:
        return set()
    return set(path.read_bytes().splitlines(keepends=True))


def _deliver(
    row: Row, client: Any, experiment: str, bad: Path, good: Path, intact: list[bool]
) -> None:
    from fm_mlflow import sync

    told = {each.journal_id: each for each in sync().journals}
    row.note("the whole journal did not arrive", good.exists() or told[good.name].pending != "")
    result = told.get(bad.name)
    kept = os.path.lexists(bad / "journal.jsonl")
    row.complete += not kept
    is_told = bool(result and result.pending and "\n" not in result.pending)
    row.refused += kept and is_told
    row.note("kept, and not told in one line", kept and not is_told)
    run_id = result.run_id if result else ""
    arrived: dict[str, float] = {}
    if run_id and kept | (result is not None):
        try:
            run = client.get_run(run_id)
        except Exception:  # a state of another run, which does not exist
            run = None
        arrived = run.data.metrics if run else {}
        names = [name for name in arrived if name.startswith("line")]
        points = [len(client.get_metric_history(run_id, each)) for each in names]
        row.note("a point is there twice", any(number > 1 for number in points))
    found = client.search_runs([experiment], f"tags.`fm_mlflow.journal` = '{bad.name}'")
    row.note("the run is there twice", len(found) > 1)
    if arrived and intact[_ARTIFACTS] and row.kind.removeprefix("journal: ") not in _FILES:
        files = [each.path for each in client.list_artifacts(run_id)]
        row.note("the artifacts did not arrive", "measurements.json" not in files)
    for number, is_intact in enumerate(intact):
        if is_intact and number in _batches():
            if f"line{number}" in arrived:
                row.delivered_lines += 1
            elif kept:
                row.kept_lines += 1
            else:
                row.note(f"line {number} is lost", True)


def _batches() -> range:
    return range(1, 1 + EPOCHS)


def _write_journal(
    folder: Path, store: str, experiment: str, run_id: str | None, *, has_model: bool
) -> None:
    """Write a journal that ended; with a run, three of its records have arrived."""
    from mlflow.models import Model

    from fm_mlflow.tracking.outbox import records
    from fm_mlflow.tracking.outbox.journal_file import encoded
    from fm_mlflow.tracking.outbox.state import State

    tags = {"fm_mlflow.kind": "training", "fm_mlflow.journal": folder.name}
    written: list[records.Record] = [
        records.RunStart(store, None, True, "a run", 1, experiment, None, tags)
    ]
    for epoch in _batches():
        points = tuple(records.Point(key, 0.5, 1, epoch) for key in ("loss", f"line{epoch}"))
        written.append(records.Batch(points, {f"p{epoch}": "1"}, {f"t{epoch}": "text"}))
    for name in ("artifacts/1", "models/2", "checkpoint"):
        (folder / name).mkdir(parents=True)
    (folder / "artifacts" / "1" / "measurements.json").write_text("{}")
    (folder / "models" / "2" / "model.keras").write_bytes(b"keras")
    (folder / "checkpoint" / "odd.npz").write_bytes(b"odd")
    Model().save(str(folder / "models" / "2" / "MLmodel"))
    dataset = {"name": "d", "digest": "1", "source_type": "local", "source": "here"}
    written.append(records.Dataset(dataset, "training"))
    written.append(records.Artifacts("artifacts/1", {"measurements.json": 2}))
    if has_model:
        written.append(records.Model(1, "models/2", 10, 0, {}, {}, {"model.keras": 5}))
    points = (records.Point("test_loss", 0.5, 1, 0, of_model=has_model),)
    written += [records.Checkpoint("checkpoint/odd.npz"), records.Batch(points)]
    written += [records.Reopen(2, {}, (("loss", 1),)), records.End("FINISHED", 3)]
    lines = [encoded(record, number) for number, record in enumerate(written)]
    (folder / "journal.jsonl").write_bytes(b"".join(lines))
    state = State(experiment_id=experiment)
    if run_id:
        state = State(run_id, experiment, str(folder), position=0)
    state.write(folder)


def _checkpoints(count: int, chance: random.Random, folder: Path) -> list[Row]:
    memory = LinuxHighWater()
    before, last = _checkpoint(3), _checkpoint(4)
    before.write(folder / "odd.npz")
    last.write(folder / "even.npz")
    rows = {kind: Row(f"checkpoint: {kind}") for kind in damaged_checkpoints.KINDS}
    for number in range(count):
        kind = list(rows)[number % len(rows)]
        row = rows[kind]
        place = folder / f"checkpoint-{number}"
        place.mkdir()
        os.chdir(place)
        for name in ("odd.npz", "even.npz"):
            shutil.copy(folder / name, place)
        damaged_checkpoints.KINDS[kind](chance, place / "even.npz")
        with row.input(memory):
            found = newest([place])
            is_last = found is not None and found.progress.epoch == 4
            expected = last if is_last else before
            row.complete += is_last
            row.refused += not is_last
            row.note("the one before was not used", found is None or not _same(found, expected))
        os.chdir(folder)
        shutil.rmtree(place)
    return list(rows.values())


def _checkpoint(epoch: int) -> Checkpoint:
    generator = np.random.default_rng(epoch)
    name, keys, *rest = np.random.get_state(legacy=True)
    state = {"python": random.getstate(), "numpy": [name, np.asarray(keys).tolist(), *rest]}
    values: list[Any] = [generator.random((28, 10), np.float32), np.array(epoch, np.int64)]
    progress = Progress(epoch, {"loss": [0.5] * epoch}, 1.0, 1.0)
    return Checkpoint({"epochs": 9}, "digest", progress, values, values, state)


def _same(one: Checkpoint, other: Checkpoint) -> bool:
    pairs = zip(one.variables + one.optimizer, other.variables + other.optimizer, strict=True)
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)


def main() -> None:
    """Run a campaign and show the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", default="journals,checkpoints")
    given = parser.parse_args()
    for row in campaign(given.count, given.seed, given.parts):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
