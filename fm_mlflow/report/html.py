"""A comparison as one HTML page that needs nothing else: no file, no font, no network.

It is whole without scripts. One of its own sorts and filters tables and shows the values of plots;
the page's Content-Security-Policy lets no other run.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

from markupsafe import Markup

from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.prose.words import counted
from fm_mlflow.escaping import html
from fm_mlflow.process.beside import branch
from fm_mlflow.report import vector_plots
from fm_mlflow.report.class_tables import MOST_CLASSES, heat_map
from fm_mlflow.report.contents import contents
from fm_mlflow.report.layout import Groups
from fm_mlflow.report.markdown import environment
from fm_mlflow.report.pictures import Pictures
from fm_mlflow.report.trade_off_plots import trade_offs

_MOST_METRICS_OPEN = 4


def to_html(comparison: Comparison, pictures: Pictures | None = None) -> str:
    """Return the report as a page: the same bytes for the same comparison and pictures.

    Args:
        comparison: What it says.
        pictures: Of the test examples that models got wrong.
    """
    fronts = branch(trade_offs, comparison)  # about half of the work
    groups = Groups(comparison)
    has_heat_maps = len(comparison.class_names) <= MOST_CLASSES
    report = contents(comparison)
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        environment(html)
        .get_template("report.html")
        .render(
            comparison=comparison,
            report=report,
            counted=counted,
            legend=[groups.cell(group.name) for group in groups.detailed],
            swatch=_swatches(len(groups.detailed)),
            svg=Markup,
            curves=vector_plots.learning_curves(comparison),
            curves_apart=len(groups.detailed) > vector_plots.MOST_OVERLAID,
            trade_offs=fronts(),
            heat_maps=[(g, heat_map(g)) for g in comparison.by_class if has_heat_maps],
            metrics_open=len(groups.detailed) <= _MOST_METRICS_OPEN,
            wrong=list(zip(comparison.wrong.kinds, report.wrong, strict=True)),
            pictures=pictures or Pictures({}, ""),
            labels=groups.label,
            script=Markup(script),
            policy="; ".join(
                (
                    "default-src 'none'",
                    "style-src 'unsafe-inline'",
                    "img-src data:",
                    f"script-src 'sha256-{digest}'",
                    "base-uri 'none'",
                    "form-action 'none'",
                )
            ),
        )
    )


@cache
def _script() -> str:
    return (Path(__file__).with_name("templates") / "report.js").read_text(encoding="utf-8")


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
