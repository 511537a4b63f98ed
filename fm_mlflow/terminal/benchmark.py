"""What a person sees at the end of a benchmark."""

from __future__ import annotations

from fm_mlflow.results.benchmark import BenchmarkResult
from fm_mlflow.terminal.compare import print_compare_result
from fm_mlflow.terminal.lines import SafeConsole, browse_commands, pairs, print_commands, print_line


def print_benchmark(console: SafeConsole, result: BenchmarkResult) -> None:
    """Show which trainings there are and where, then what they say together."""
    finished = len(result.trainings) - len(result.failed)
    title = f"{result.run_name}: {finished} of {len(result.trainings)} trainings finished"
    rows = [("failed", f"{names}: {cause}") for cause, names in result.causes]
    console.print()
    print_line(console, title, "bold")
    console.print(pairs([*rows, ("run", result.run_id)]))
    if result.comparison is not None:
        print_compare_result(console, result.comparison, "" if result.failed else result.run_id)
    else:
        commands = browse_commands(result.tracking_uri, result.experiment_id, result.run_id)
        print_commands(console, commands)
