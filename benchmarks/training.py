"""Training speed: a plain Keras script, other ways to train the same, and `fm-mlflow train`.

    python -m benchmarks.training --rounds 5 --output benchmark.json
    python -m benchmarks.training --rounds 5 --peers

Each variant is a process of its own, on the real data; a round runs each once, in turn, so that a
machine that slows down slows all. `--peers` adds Keras on JAX and PyTorch; what this Python lacks
for a variant gets an environment of its own, made by pip (`--environments` keeps them), unless
`--python torch=PATH` names one that has it. `--append` goes on with the rounds of an earlier call.
Written are the JSON with every reading, and beside it a Markdown table of medians.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fm_mlflow.data import fashion_mnist
from fm_mlflow.measure.machine import describe_machine

_SCRIPTS = "benchmarks.scripts"
_PROJECT = Path(__file__).parents[1]
_STORE = "mlflow.db"
OURS = "fm_mlflow"
VARIANTS = {
    "plain": "(a) plain Keras",
    "autolog": "(b) autolog",
    "torch": "(t) PyTorch, eager",
    "jax": "(j) Keras on JAX",
    OURS: "(c) fm_mlflow",
}
USUAL = ("plain", "autolog", OURS)
NEEDED = {
    "autolog": {"tensorboard": ("mlflow", "tensorflow", "tensorboard")},
    "torch": {"torch": ("torch", "numpy")},
    "jax": {"jax": ("jax", "keras", "numpy")},
}
"""What a variant needs beside this project: the module to look for, and what pip installs."""
MODELS = ("mlp", "cnn")
FIGURES = {
    "epoch_seconds": "epoch, s",
    "fit_seconds": "fit, s",
    "process_seconds": "process, s",
    "peak_rss_mib": "peak RSS, MiB",
    "mfu_percent": "MFU, %",
    "test_accuracy": "test accuracy",
}

Reading = dict[str, Any]


def run(
    command: Sequence[str],
    folder: Path,
    python: str = sys.executable,
    variables: Mapping[str, str] | None = None,
) -> tuple[str, float, float]:
    """Run a process to its end: its stdout, its seconds, its peak RSS in MiB."""
    environment = {
        **os.environ,
        **(variables or {}),
        "PYTHONPATH": os.pathsep.join([str(_PROJECT), os.environ.get("PYTHONPATH", "")]),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / _STORE}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    # As an installed package is compiled: once, not by each process.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    with (folder / "stdout").open("w+") as output, (folder / "stderr").open("w+") as errors:
        process = subprocess.Popen(
            [python, *command], cwd=folder, env=environment, stdout=output, stderr=errors
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{errors.read()[-2000:]}")
        return output.read(), seconds, usage.ru_maxrss / 1024


def script(
    module: str, variables: Mapping[str, str] | None = None
) -> Callable[[str, Path, int, Path, str], Reading]:
    """Return what runs one of the scripts."""

    def once(model: str, data: Path, seed: int, folder: Path, python: str) -> Reading:
        command = ["-m", f"{_SCRIPTS}.{module}", model, str(data), str(seed)]
        text, seconds, peak = run(command, folder, python, variables)
        line = next(line for line in text.splitlines() if line.startswith("RESULT "))
        result: Reading = json.loads(line.removeprefix("RESULT "))
        return {**result, "process_seconds": seconds, "peak_rss_mib": peak}

    return once


def tracked(model: str, data: Path, seed: int, folder: Path, python: str) -> Reading:
    """Run `fm-mlflow train` with all its measurements."""
    command = ["-m", "fm_mlflow", "train", "--model", model, "--data-dir", str(data)]
    text, seconds, peak = run([*command, "--seed", str(seed), "--json"], folder, python)
    result = json.loads(text)
    metrics = result["metrics"]
    return {
        "epoch_seconds": result["history"]["epoch_seconds"],
        "fit_seconds": metrics["time/fit_seconds"],
        "process_seconds": seconds,
        "peak_rss_mib": peak,
        # Missing where something else used the machine.
        "mfu_percent": metrics.get("utilization/mfu_percent", math.nan),
        "test_accuracy": metrics["test_accuracy"],
        "test_loss": metrics["test_loss"],
    }


RUNNERS = {
    "plain": script("plain_keras"),
    "autolog": script("autolog"),
    "torch": script("pytorch_eager"),
    "jax": script("plain_keras", {"KERAS_BACKEND": "jax"}),
    OURS: tracked,
}


def pythons(variants: Sequence[str], given: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the Python of each variant; make an environment for what none has."""
    found = {}
    for variant in variants:
        needed = NEEDED.get(variant, {})
        python = given.get(variant, sys.executable)
        lacks = [name for name in needed if importlib.util.find_spec(name) is None]
        if variant not in given and lacks:
            place = folder / variant
            python = str(place / "bin" / "python")
            if not Path(python).exists():
                print(f"making an environment for {variant}", file=sys.stderr, flush=True)
                subprocess.run([sys.executable, "-m", "venv", place], check=True)
                packages = [each for name in lacks for each in needed[name]]
                subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        found[variant] = python
    return found


def measure(
    models: Sequence[str], variants: Mapping[str, str], data: Path, number: int, store: Path
) -> list[Reading]:
    """Run a round; its number is the seed, and says which variant begins."""
    readings = []
    names = list(variants)
    for model in models:
        first = number % len(variants)
        for variant in (*names[first:], *names[:first]):
            with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
                # A store that exists: making one takes MLflow seconds, once in its life.
                shutil.copy(store, folder)
                reading = RUNNERS[variant](model, data, number, Path(folder), variants[variant])
            reading = {"round": number, "model": model, "variant": variant, **reading}
            # The first epoch compiles: it is in the fit, but it is no typical epoch.
            reading["epochs"] = reading.pop("epoch_seconds")
            reading["epoch_seconds"] = statistics.median(reading["epochs"][1:])
            print(json.dumps(reading), file=sys.stderr, flush=True)
            readings.append(reading)
    return readings


def new_store(folder: Path) -> Path:
    """Make an empty tracking store; return its file."""
    migrate = "import mlflow; mlflow.search_experiments()"
    run(["-c", migrate], folder)
    return folder / _STORE


def start_up(rounds: int) -> dict[str, list[float]]:
    """Time what a user waits for before anything happens, in seconds."""
    commands = {
        "fm-mlflow --help": ["-m", "fm_mlflow", "--help"],
        "import fm_mlflow": ["-c", "import fm_mlflow"],
        "import mlflow": ["-c", "import mlflow"],
        "import tensorflow": ["-c", "import tensorflow"],
    }
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        return {
            name: [run(command, Path(folder))[1] for _ in range(rounds)]
            for name, command in commands.items()
        }


def table(document: dict[str, Any]) -> str:
    """Return the medians as Markdown; in parentheses, lowest and highest."""
    readings = document["readings"]
    machine = document["machine"]
    lines = [
        f"{machine['cpu']}, {machine['usable_cores']} cores, {machine['memory_gib']:.0f} GiB; "
        f"{machine['system']}; Python {machine['python']}, TensorFlow {machine['tensorflow']}, "
        f"Keras {machine['keras']}",
        "",
    ]
    for model in MODELS:
        of_model = [each for each in readings if each["model"] == model]
        if not of_model:
            continue
        rounds = len({each["round"] for each in of_model})
        there = {each["variant"] for each in of_model}
        variants = [name for name in VARIANTS if name in there]
        peers = [name for name in variants if name != OURS]
        heads = [*(VARIANTS[name] for name in variants), *(f"{VARIANTS[p][1]} / c" for p in peers)]
        lines += [
            f"### {model}, {rounds} rounds",
            "",
            f"| | {' | '.join(heads)} |",
            "|---" * (len(heads) + 1) + "|",
        ]
        for figure, title in FIGURES.items():
            values = {
                variant: [
                    each[figure]
                    for each in of_model
                    if each["variant"] == variant and not math.isnan(each.get(figure, math.nan))
                ]
                for variant in variants
            }
            cells = [_cell(values[variant]) for variant in variants]
            ratios = [_ratio(of_model, figure, variant) for variant in peers]
            if figure == "test_accuracy":
                ratios = [""] * len(peers)
            lines.append(f"| {title} | {' | '.join([*cells, *ratios])} |")
        lines.append("")
    lines += ["### Start", "", "| | seconds |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(values)} |" for name, values in document["start"].items()]
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    digits = 4 if max(values) < 1 else (2 if max(values) < 100 else 0)
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _ratio(readings: Sequence[Reading], figure: str, variant: str) -> str:
    """Median over the rounds of the ratio within a round, to ours."""
    ratios = []
    for number in {each["round"] for each in readings}:
        of_round = {each["variant"]: each for each in readings if each["round"] == number}
        if {variant, OURS} <= set(of_round) and figure in of_round[variant]:
            ratios.append(of_round[variant][figure] / of_round[OURS][figure])
    return f"{statistics.median(ratios):.2f}" if ratios else ""


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--variants", default="", help=f"any of {', '.join(VARIANTS)}")
    parser.add_argument("--peers", action="store_true", help="all variants")
    parser.add_argument("--python", action="append", default=[], help="VARIANT=PATH, repeatable")
    parser.add_argument("--environments", type=Path, help="folder for environments, which stay")
    parser.add_argument("--data-dir", type=Path, help="folder of the four files of Fashion-MNIST")
    parser.add_argument("--output", type=Path, default=Path("benchmark-training.json"))
    parser.add_argument("--append", action="store_true", help="go on with the rounds in --output")
    options = parser.parse_args()
    data = options.data_dir or next(
        place for place in fashion_mnist.search_path() if not fashion_mnist.missing(place)
    )
    document: dict[str, Any] = {"machine": asdict(describe_machine()), "readings": [], "start": {}}
    if options.append and options.output.is_file():
        document = json.loads(options.output.read_text())
    numbers = {each["round"] for each in document["readings"] if each["model"] in options.models}
    first = max(numbers, default=-1) + 1
    models = options.models.split(",")
    usual = ",".join(VARIANTS if options.peers else USUAL)
    given = dict(each.split("=", 1) for each in options.python)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        names = (options.variants or usual).split(",")
        places = (options.environments or Path(folder)).resolve()
        variants = pythons(names, given, places)
        store = new_store(Path(folder))
        for number in range(first, first + options.rounds):
            document["readings"] += measure(models, variants, data.resolve(), number, store)
            document["start"] = document["start"] or start_up(5)
            options.output.write_text(json.dumps(document, indent=1) + "\n")
    text = table(document)
    options.output.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
