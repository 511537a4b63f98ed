"""What a person sees of `predict`."""

from __future__ import annotations

from rich.table import Column

from fm_mlflow.analysis.prose.words import counted
from fm_mlflow.results.predict import PredictResult
from fm_mlflow.terminal.lines import SafeConsole, grid, print_line


def print_predictions(console: SafeConsole, result: PredictResult) -> None:
    """Show how many images went to which class, and where the predictions are."""
    console.print()
    what, done = ("image", "classified") if result.counts else ("example", "predicted")
    print_line(console, f"{counted(result.images, what)} {done}", "bold")
    name, figure = Column(style="dim"), Column(justify="right")
    if len(result.first_files) == result.images:
        shown = result.first_files
        files = ((each.file, each.class_name, f"{each.probability:.2f}") for each in shown)
        console.print(grid((name, Column(), figure), files))
    else:
        counts = ((name, f"{count:,}") for name, count in result.counts.items())
        console.print(grid((name, figure), counts))
    rate = f"{result.images_per_second:,.0f} images/s"
    print_line(console, f"  by {result.model_uri}", wrapped=False)
    place = f"  {result.output}  ({result.seconds:.1f} s, {rate})"
    print_line(console, place, wrapped=False)
