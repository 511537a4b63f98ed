"""A comparison as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections import Counter

from markupsafe import Markup

from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.prose.words import counted
from fm_mlflow.report import vector_plots
from fm_mlflow.report.class_tables import MOST_CLASSES, heat_map
from fm_mlflow.report.contents import contents
from fm_mlflow.report.layout import Groups
from fm_mlflow.report.templating import environment
from fm_mlflow.report.text import printable
from fm_mlflow.report.trade_off_plots import trade_offs

_MOST_VERDICTS_OPEN = 40
_MOST_METRICS_OPEN = 4


def to_html(comparison: Comparison) -> str:
    """Return the report as a page: the same bytes for the same comparison."""
    groups = Groups(comparison)
    has_heat_maps = len(comparison.class_names) <= MOST_CLASSES
    return (
        environment(printable, escaped=False)
        .get_template("report.html")
        .render(
            comparison=comparison,
            report=contents(comparison),
            counted=counted,
            legend=[groups.cell(group.name) for group in groups.detailed],
            swatch=_Swatches(),
            svg=Markup,
            curves=vector_plots.learning_curves(comparison),
            curves_apart=len(groups.detailed) > vector_plots.MOST_OVERLAID,
            trade_offs=trade_offs(comparison),
            heat_maps=[(g, heat_map(g)) for g in comparison.by_class if has_heat_maps],
            verdicts_open=len(comparison.verdicts) <= _MOST_VERDICTS_OPEN,
            metrics_open=len(groups.detailed) <= _MOST_METRICS_OPEN,
        )
    )


class _Swatches:
    """Draws each swatch once, and gives each copy of it an id of its own."""

    def __init__(self) -> None:
        self._drawn: dict[int, str] = {}
        self._copies: Counter[int] = Counter()

    def __call__(self, position: int) -> Markup:
        """Return the line and marker of the group at this position."""
        name = f"swatch-{position}-of"
        if position not in self._drawn:
            self._drawn[position] = vector_plots.swatch(position, name)
        self._copies[position] += 1
        return Markup(self._drawn[position].replace(name, f"{name}-{self._copies[position]}"))
