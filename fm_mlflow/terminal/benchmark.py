"""What a person sees at the end of a benchmark."""

from __future__ import annotations

from rich.console import Console

from fm_mlflow.report.text import printable
from fm_mlflow.results.benchmark import BenchmarkResult
from fm_mlflow.terminal.compare import print_compare_result
from fm_mlflow.terminal.next_commands import browse_commands, pairs, print_commands


def print_benchmark(console: Console, result: BenchmarkResult) -> None:
    """Show which trainings there are and where, then what they say together."""
    failed = len(result.failed)
    counts = f"{len(result.trainings) - failed} finished" + (f", {failed} failed" if failed else "")
    rows = [("trainings", counts)]
    rows += [("failed", printable(f"{each.name}: {each.error}")) for each in result.failed]
    rows += [("run", result.run_id), ("store", result.tracking_uri)]
    console.print()
    console.print(printable(result.run_name), style="bold", markup=False, highlight=False)
    console.print(pairs(rows), highlight=False)
    if result.comparison is not None:
        print_compare_result(console, result.comparison)
    else:
        commands = browse_commands(result.tracking_uri, result.experiment_id, result.run_id)
        print_commands(console, commands)
