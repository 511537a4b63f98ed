"""A comparison as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from markupsafe import Markup

from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.prose.words import counted
from fm_mlflow.escaping import html
from fm_mlflow.report import vector_plots
from fm_mlflow.report.class_tables import MOST_CLASSES, heat_map
from fm_mlflow.report.contents import contents
from fm_mlflow.report.layout import Groups
from fm_mlflow.report.markdown import environment
from fm_mlflow.report.trade_off_plots import trade_offs

_MOST_VERDICTS_OPEN = 40
_MOST_METRICS_OPEN = 4


def to_html(comparison: Comparison) -> str:
    """Return the report as a page: the same bytes for the same comparison."""
    groups = Groups(comparison)
    has_heat_maps = len(comparison.class_names) <= MOST_CLASSES
    return (
        environment(html)
        .get_template("report.html")
        .render(
            comparison=comparison,
            report=contents(comparison),
            counted=counted,
            legend=[groups.cell(group.name) for group in groups.detailed],
            swatch=_swatches(len(groups.detailed)),
            svg=Markup,
            curves=vector_plots.learning_curves(comparison),
            curves_apart=len(groups.detailed) > vector_plots.MOST_OVERLAID,
            trade_offs=trade_offs(comparison),
            heat_maps=[(g, heat_map(g)) for g in comparison.by_class if has_heat_maps],
            verdicts_open=len(comparison.verdicts) <= _MOST_VERDICTS_OPEN,
            metrics_open=len(groups.detailed) <= _MOST_METRICS_OPEN,
        )
    )


def _swatches(models: int) -> Callable[[int], Markup]:
    """Draw each swatch once; what is returned gives each copy of it an id of its own."""
    names = [f"swatch-{position}-of" for position in range(models)]
    drawn = [vector_plots.swatch(position, name) for position, name in enumerate(names)]
    copies: Counter[int] = Counter()

    def swatch(position: int) -> Markup:
        copies[position] += 1
        name = names[position]
        return Markup(drawn[position].replace(name, f"{name}-{copies[position]}"))

    return swatch
