"""What a person sees at the end of a benchmark."""

from __future__ import annotations

from rich.console import Console

from fm_mlflow.report.comparison_terminal import print_compare_result
from fm_mlflow.report.terminal import pairs
from fm_mlflow.results import BenchmarkResult


def print_benchmark(console: Console, result: BenchmarkResult) -> None:
    """Show the comparison, then which trainings it rests on and where they are."""
    if result.comparison is not None:
        print_compare_result(console, result.comparison)
    finished = len(result.trainings) - len(result.failed)
    figures = [("trainings", f"{finished} finished, {len(result.failed)} failed")]
    figures += [("failed", f"{each.name}: {each.error}") for each in result.failed]
    console.print()
    console.print(result.run_name, style="bold", markup=False)
    where = [("run", result.run_id), ("store", result.tracking_uri)]
    console.print(pairs([*figures, *where]), highlight=False)
