"""Where the time of a command goes: its phases on a time line, as a table and as a figure.

    python -m benchmarks.phases --rounds 5 --output phases -- train --model mlp
    python -m benchmarks.phases --rounds 5 --store sqlite:///mlflow.db --output phases -- compare

Each round is a process of its own, in an empty folder, on a tracking store that exists. Written are
every reading (.json), the medians (.md) and a drawing of the round with the median time (.svg).
What happens in a copy of the process, or in another process, is not in it, but for the waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from benchmarks.training import new_store
from fm_mlflow.data import fashion_mnist

_PROJECT = Path(__file__).parents[1]
_SHORTEST = 0.02
"""Seconds: shorter phases are part of what they are in."""
_CHUNK = "chunk"


class Span(NamedTuple):
    """A phase: seconds since the start of the process, of its end and of processor time."""

    name: str
    begin: float
    end: float
    cpu: float
    thread: str
    depth: int = 0

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.begin


def measure(command: list[str], store: str) -> list[Span]:
    """Run a command; return its phases in order, the whole process first."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        uri = store or f"sqlite:///{new_store(folder)}"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(_PROJECT), os.environ.get("PYTHONPATH", "")]),
            "MLFLOW_TRACKING_URI": uri,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        # As an installed package is compiled: once, not by each process.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        timed = [sys.executable, "-m", "benchmarks.scripts.timed", str(folder / "spans.json")]
        began = time.perf_counter()
        done = subprocess.run(
            [*timed, *command], cwd=folder, env=environment, capture_output=True, text=True
        )
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        readings = json.loads((folder / "spans.json").read_text())
    spans = [
        Span(name, begin - began, end - began, cpu, thread)
        for name, begin, end, cpu, thread, _ in readings
        if end - begin >= _SHORTEST and name != _CHUNK
    ]
    whole = next(span for span in spans if span.name == "command")
    ends = [
        Span("Python starts", 0, whole.begin, 0, whole.thread),
        Span("Python ends", whole.end, seconds, 0, whole.thread),
    ]
    spans = [span for span in spans if span is not whole]
    process = Span("process", 0, seconds, whole.cpu, whole.thread)
    return [process, *_nested([*ends, *spans])]


def _nested(spans: list[Span]) -> list[Span]:
    """Return the phases in order of their begin, each with how deep within others it is."""
    ordered: list[Span] = []
    within: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda each: (each.begin, -each.end)):
        outer = within[span.thread]
        while outer and outer[-1].end <= span.begin:
            outer.pop()
        ordered.append(span._replace(depth=len(outer)))
        outer.append(span)
    return ordered


def table(rounds: list[list[Span]]) -> str:
    """Return the medians over the rounds as Markdown, in the order of the first round."""
    lines = ["| phase | begins, s | takes, s | processor, s |", "|---|---|---|---|"]
    occurrences = [_numbered(each) for each in rounds]
    for key, span in occurrences[0].items():
        same = [each[key] for each in occurrences if key in each]
        beside = "" if span.thread == rounds[0][0].thread else " (beside)"
        figures = [
            statistics.median(values)
            for values in zip(*((s.begin, s.seconds, s.cpu) for s in same), strict=True)
        ]
        cells = " | ".join(f"{value:.2f}" for value in figures)
        lines.append(f"| {'&ensp;' * 2 * span.depth}{span.name}{beside} | {cells} |")
    return "\n".join(lines) + "\n"


def _numbered(spans: list[Span]) -> dict[tuple[str, int], Span]:
    seen: dict[str, int] = defaultdict(int)
    found = {}
    for span in spans:
        seen[span.name] += 1
        found[span.name, seen[span.name]] = span
    return found


def draw(spans: list[Span], path: Path) -> None:
    """Draw the phases as bars over time, a row a name; what is beside the command in orange."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    process, *phases = spans
    rows: dict[tuple[str, int, bool], list[Span]] = defaultdict(list)
    for span in phases:
        rows[span.name, span.depth, span.thread != process.thread].append(span)
    figure = Figure(figsize=(9, 0.6 + 0.19 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for row, ((_, _, is_beside), each) in enumerate(rows.items()):
        bars = [(span.begin, span.seconds) for span in each]
        axes.broken_barh(bars, (row - 0.4, 0.8), color="#D55E00" if is_beside else "#0072B2")
        total, end = sum(span.seconds for span in each), max(span.end for span in each)
        axes.text(end + process.seconds / 150, row, f"{total:.2f}", va="center", fontsize=7)
    names = [f"{name}{', beside' * is_beside}" for name, _, is_beside in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    for label, (_, depth, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(str(min(depth, 2) * 0.25))  # grey: a part of what is above it
    axes.set_ylim(len(rows) - 0.3, -0.7)
    axes.set_xlim(0, process.seconds * 1.04)
    axes.set_xlabel("seconds since the start of the process", fontsize=7)
    axes.tick_params(axis="both", length=0, labelsize=7)
    axes.grid(axis="x", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "phases"}):
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", default="", help="tracking URI; by default a new store a round")
    parser.add_argument("--output", type=Path, default=Path("phases"))
    parser.add_argument("command", nargs="+", help="what follows `fm-mlflow`, after --")
    options = parser.parse_args()
    places = fashion_mnist.search_path()
    place = next(each for each in places if not fashion_mnist.missing(each))
    os.environ["FM_MLFLOW_DATA_DIR"] = str(Path(place).resolve())
    rounds = [measure(options.command, options.store) for _ in range(options.rounds)]
    middle = sorted(rounds, key=lambda spans: spans[0].seconds)[len(rounds) // 2]
    readings = [[span._asdict() for span in spans] for spans in rounds]
    options.output.with_suffix(".json").write_text(json.dumps(readings) + "\n")
    text = table([middle, *(each for each in rounds if each is not middle)])
    options.output.with_suffix(".md").write_text(text)
    draw(middle, options.output.with_suffix(".svg"))
    print(text)


if __name__ == "__main__":
    main()
