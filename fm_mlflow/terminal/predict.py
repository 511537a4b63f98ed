"""What a person sees of `predict`."""

from __future__ import annotations

from rich.table import Column

from fm_mlflow.results.predict import PredictResult
from fm_mlflow.terminal.lines import SafeConsole, grid, print_line


def print_predictions(console: SafeConsole, result: PredictResult) -> None:
    """Show how many images went to which class, and where the predictions are."""
    console.print()
    what = "images classified" if result.counts else "examples predicted"
    print_line(console, f"{result.images:,} {what}", "bold")
    counts = ((name, f"{count:,}") for name, count in result.counts.items())
    console.print(grid((Column(style="dim"), Column(justify="right")), counts))
    rate = f"{result.images_per_second:,.0f} images/s"
    place = f"  {result.output}  ({result.seconds:.1f} s, {rate})"
    print_line(console, place, wrapped=False)
