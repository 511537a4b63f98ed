"""Training speed: a plain Keras script, the same under autologging, and `fm-mlflow train`.

    python -m benchmarks.training --rounds 5 --output benchmark.json

Each variant is a process of its own, on the real data; a round runs each once, in turn, so that a
machine that slows down slows all. `--append` goes on with the rounds of an earlier call. Written
are the JSON with every reading, and beside it a Markdown table of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fm_mlflow.data import fashion_mnist
from fm_mlflow.measure.machine import describe_machine

_SCRIPTS = "benchmarks.scripts"
_PROJECT = Path(__file__).parents[1]
_STORE = "mlflow.db"
VARIANTS = ("plain", "autolog", "fm_mlflow")
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


def run(command: Sequence[str], folder: Path) -> tuple[str, float, float]:
    """Run a process to its end: its stdout, its seconds, its peak RSS in MiB."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_PROJECT), os.environ.get("PYTHONPATH", "")]),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / _STORE}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    began = time.perf_counter()
    with (folder / "stdout").open("w+") as output, (folder / "stderr").open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment, stdout=output, stderr=errors
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{errors.read()[-2000:]}")
        return output.read(), seconds, usage.ru_maxrss / 1024


def script(module: str) -> Callable[[str, Path, int, Path], Reading]:
    """Return what runs one of the scripts."""

    def once(model: str, data: Path, seed: int, folder: Path) -> Reading:
        command = ["-m", f"{_SCRIPTS}.{module}", model, str(data), str(seed)]
        text, seconds, peak = run(command, folder)
        line = next(line for line in text.splitlines() if line.startswith("RESULT "))
        result: Reading = json.loads(line.removeprefix("RESULT "))
        return {**result, "process_seconds": seconds, "peak_rss_mib": peak}

    return once


def tracked(model: str, data: Path, seed: int, folder: Path) -> Reading:
    """Run `fm-mlflow train` with all its measurements."""
    command = ["-m", "fm_mlflow", "train", "--model", model, "--data-dir", str(data)]
    text, seconds, peak = run([*command, "--seed", str(seed), "--json"], folder)
    result = json.loads(text)
    metrics = result["metrics"]
    return {
        "epoch_seconds": result["history"]["epoch_seconds"],
        "fit_seconds": metrics["time/fit_seconds"],
        "process_seconds": seconds,
        "peak_rss_mib": peak,
        "mfu_percent": metrics["utilization/mfu_percent"],
        "test_accuracy": metrics["test_accuracy"],
        "test_loss": metrics["test_loss"],
    }


RUNNERS = {"plain": script("plain_keras"), "autolog": script("autolog"), "fm_mlflow": tracked}


def measure(
    models: Sequence[str], variants: Sequence[str], data: Path, number: int, store: Path
) -> list[Reading]:
    """Run a round; its number is the seed, and says which variant begins."""
    readings = []
    for model in models:
        first = number % len(variants)
        for variant in (*variants[first:], *variants[:first]):
            with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
                # A store that exists: making one takes MLflow seconds, once in its life.
                shutil.copy(store, folder)
                reading = RUNNERS[variant](model, data, number, Path(folder))
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
        lines += [
            f"### {model}, {rounds} rounds",
            "",
            "| | (a) plain Keras | (b) autolog | (c) fm_mlflow | a / c | b / c |",
            "|---|---|---|---|---|---|",
        ]
        for figure, title in FIGURES.items():
            values = {
                variant: [
                    each[figure]
                    for each in of_model
                    if each["variant"] == variant and figure in each
                ]
                for variant in VARIANTS
            }
            cells = [_cell(values[variant]) for variant in VARIANTS]
            ratios = [_ratio(of_model, figure, variant) for variant in ("plain", "autolog")]
            if figure == "test_accuracy":
                ratios = ["", ""]
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
        if {variant, "fm_mlflow"} <= set(of_round) and figure in of_round[variant]:
            ratios.append(of_round[variant][figure] / of_round["fm_mlflow"][figure])
    return f"{statistics.median(ratios):.2f}" if ratios else ""


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--variants", default=",".join(VARIANTS))
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
    models, variants = options.models.split(","), options.variants.split(",")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
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
