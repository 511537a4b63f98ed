"""What a person sees of `predict`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fm_mlflow.results.predict import PredictResult
from fm_mlflow.terminal.next_commands import indented


def print_predictions(console: Console, result: PredictResult) -> None:
    """Show how many images went to which class, and where the predictions are."""
    console.print()
    console.print(f"{result.images:,} images classified", style="bold", highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, count in result.counts.items():
        table.add_row(Text(name), f"{count:,}")
    console.print(indented(table), highlight=False)
    rate = f"{result.images_per_second:,.0f} images/s"
    console.print(
        f"  {result.output}  ({result.seconds:.1f} s, {rate})",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
