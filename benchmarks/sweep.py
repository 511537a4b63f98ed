"""What sweeps find: beside random search, where there is nothing to find, and after kills.

    python -m benchmarks.sweep random [--repetitions N] [--trials N]
    python -m benchmarks.sweep nothing [--repetitions N]
    python -m benchmarks.sweep kills [--repetitions N] [--simulated]
    python -m benchmarks.sweep overhead [--trials N]

All on scikit-learn's digits. `random` compares the hypervolume of the front, metric against the
logarithm of the inference FLOPs, that TPE and random search reach with the same FLOPs of training;
both halve alike. `nothing` searches an argument that does not matter and counts recommended
changes. `kills` ends sweeps by SIGKILL at random moments and resumes them until they are done:
proposals and learning curves must be those of an undisturbed sweep; `--simulated` trains nothing,
so that the moments are those between two requests to the store. `overhead` says what a trial
takes beyond its fit. Each repetition is printed as it is done, so that part of them is a result.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fm_mlflow import SweepResult, keys, sweep
from fm_mlflow.search.fronts import hypervolume
from tests.inline import InlineExecutor
from tests.simulated_trials import SimulatedTrials
from tests.stores import Store, active_store, make_store, make_template

_SPACE = "learning_rate=1e-4:3e-2:log; batch_size=16:256:log"
_WORST = (0.5, 1e6)
"""A validation accuracy and FLOPs that a front must beat to count."""

_DUMMY = """
from typing import Annotated
import keras
from fm_mlflow import Int

def build(dummy: Annotated[int, Int(1, 1000)] = 500) -> keras.Model:
    return keras.Sequential([
        keras.Input((28, 28)), keras.layers.Flatten(),
        keras.layers.Dense(24, "relu"), keras.layers.Dense(10, "softmax")])
"""


def main() -> int:
    """Run one part; the exit code says whether it shows what it should."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", choices=("random", "nothing", "kills", "overhead"))
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="seed of the first repetition")
    parser.add_argument("--trials", type=int, default=18)
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--resume", default="", help=argparse.SUPPRESS)
    parser.add_argument("--as-killed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_killed:
        return _to_be_killed(options.resume)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    seeds = range(options.first, options.first + options.repetitions)
    with tempfile.TemporaryDirectory(prefix="fm_mlflow-sweeps-") as name:
        folder = Path(name)
        os.chdir(folder)
        os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(folder / "journals")
        os.environ["MLFLOW_EXPERIMENT_ID"] = "0"
        template = make_template(folder)
        match options.part:
            case "random":
                return _against_random(folder, template, seeds, options.trials)
            case "nothing":
                return _nothing(folder, template, seeds)
            case "kills":
                return _kills(folder, template, seeds, options.simulated)
            case _:
                return _overhead(folder, template, options.trials)


def _store(folder: Path, template: Path, name: str) -> Store:
    (folder / name).mkdir()
    return make_store(template, folder / name)


def _sweep(store: Store, **settings: Any) -> SweepResult:
    with active_store(store):
        fixed: dict[str, Any] = {"dataset": "digits", "measure": "none", "output": "out"}
        return sweep(executor=InlineExecutor(), **{**fixed, **settings})


def _against_random(folder: Path, template: Path, seeds: range, trials: int) -> int:
    gains = []
    for seed in seeds:
        results = {
            sampler: _sweep(
                _store(folder, template, f"{sampler}-{seed}"),
                **{"model": "mlp", "space": _SPACE, "epochs": 4, "trials": trials},
                **{"sampler": sampler, "seed": seed, "finalists": 0},
            )
            for sampler in ("tpe", "random")
        }
        budget = min(result.spent.flops for result in results.values())
        covered = {name: _covered(result, budget) for name, result in results.items()}
        gains.append(covered["tpe"] - covered["random"])
        print(f"seed {seed}: {covered} with {budget:.3g} FLOPs", flush=True)
    mean = statistics.fmean(gains)
    spread = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
    print(f"tpe - random: {mean:.4f}, standard error {spread:.4f}, n = {len(gains)}")
    return 0


def _covered(result: SweepResult, budget: float) -> float:
    """Return the hypervolume of what was trained to the end within so many FLOPs."""
    spent, points = 0.0, []
    for trial in result.trials:
        spent += trial.training_flops or 0.0
        if spent > budget * (1 + 1e-9):
            break
        if trial.status == "trained" and trial.value is not None:
            points.append((trial.value, trial.costs[keys.FLOPS_INFERENCE]))
    return hypervolume(points, _WORST)


def _nothing(folder: Path, template: Path, seeds: range) -> int:
    model = folder / "dummies.py"
    model.write_text(_DUMMY)
    changes = 0
    for seed in seeds:
        result = _sweep(
            _store(folder, template, f"nothing-{seed}"),
            **{"model": f"{model}:build", "epochs": 2, "trials": 6, "seed": seed},
        )
        changes += bool(result.recommended)
        print(f"seed {seed}: {result.recommended or 'no change'}", flush=True)
    print(f"{changes} changes recommended in {len(seeds)} sweeps over nothing")
    return int(changes > max(1, len(seeds) // 20))


_KILLED: dict[str, Any] = {
    **{"model": "mlp?hidden=16,8", "space": _SPACE, "dataset": "digits", "epochs": 2, "trials": 8},
    **{"measure": "none", "finalists": 0, "output": "out"},
}
_SIMULATED: dict[str, Any] = {**_KILLED, "model": "mlp", "epochs": 4, "trials": 18}
_OF_A_CALL = ("measure", "finalists", "output")


def _kills(folder: Path, template: Path, seeds: range, simulated: bool) -> int:
    quiet = _store(folder, template, "quiet")
    settings = _SIMULATED if simulated else _KILLED
    started = time.monotonic()
    with active_store(quiet):
        place = SimulatedTrials(0.02) if simulated else InlineExecutor()
        expected = _found(quiet, sweep(executor=place, **settings).run_id)
    longest = 2 * (time.monotonic() - started)
    wrong = 0
    for seed in seeds:
        store = _store(folder, template, f"kills-{seed}")
        kills, run_id, code = 0, "", None
        draw = random.Random(seed)
        while code is None:
            process = subprocess.Popen(
                _command(run_id, simulated),
                cwd=store.folder,
                env=store.environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            try:
                _, said = process.communicate(timeout=draw.uniform(2, longest))
                code = process.returncode
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
                kills += 1
            run_id = run_id or _sweep_id(store)
        same = code == 0 and _found(store, run_id) == expected
        wrong += not same
        found = "the same trials" if same else f"OTHERS (exit code {code}): {said.decode()[-500:]}"
        print(f"seed {seed}: {kills} kills, then {found}", flush=True)
    return int(wrong > 0)


def _command(run_id: str, simulated: bool) -> list[str]:
    if simulated:
        return [
            sys.executable,
            "-m",
            "benchmarks.sweep",
            "kills",
            "--as-killed",
            "--resume",
            run_id,
        ]
    given = {name: _KILLED[name] for name in _OF_A_CALL} if run_id else _KILLED
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "fm_mlflow", "sweep", *words, "--resume", run_id]


def _to_be_killed(run_id: str) -> int:
    given = {name: _SIMULATED[name] for name in _OF_A_CALL} if run_id else _SIMULATED
    sweep(executor=SimulatedTrials(0.02), resume=run_id, **given)
    return 0


def _sweep_id(store: Store) -> str:
    runs = store.client.search_runs(["0"], f"tags.`{keys.KIND}` = '{keys.KIND_SWEEP}'")
    return str(runs[0].info.run_id) if runs else ""


def _found(store: Store, run_id: str) -> list[tuple[Any, ...]]:
    """Return each trial's settings and its learning curve, point by point."""
    runs = store.client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{run_id}'")
    trials = sorted(runs, key=lambda run: int(run.data.tags[keys.TRIAL]))
    return [
        (
            *(run.data.params[name] for name in ("model", "learning_rate", "batch_size", "seed")),
            *(
                (point.step, point.value)
                for point in store.client.get_metric_history(run.info.run_id, keys.VAL_ACCURACY)
            ),
        )
        for run in trials
    ]


def _overhead(folder: Path, template: Path, trials: int) -> int:
    """Say what a round takes beyond fits, in CPU time: all rounds in one process."""
    settings: dict[str, Any] = {
        **{"model": "mlp", "space": _SPACE, "epochs": 1, "finalists": 0, "seed": 1},
    }
    _sweep(_store(folder, template, "warm-up"), **settings, trials=1)
    before = time.process_time()
    store = _store(folder, template, "overhead")
    result = _sweep(store, **settings, trials=trials)
    took = time.process_time() - before
    fits = sum(
        store.client.get_run(trial.run_id).data.metrics.get(keys.EPOCH_SECONDS, 0.0)
        for trial in result.trials
    )
    print(f"{took / trials:.2f} s of CPU time a trial, of which {fits / trials:.2f} s (wall) fit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
