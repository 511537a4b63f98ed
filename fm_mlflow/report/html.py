"""A comparison as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from fm_mlflow.analysis.comparison import ByClass, Comparison
from fm_mlflow.report import contents, vector_plots
from fm_mlflow.report.templating import environment
from fm_mlflow.report.text import printable

_MOST_VERDICTS_OPEN = 40


@dataclass(frozen=True)
class HeatCell:
    """One cell of a confusion matrix.

    Attributes:
        text: Percent of the true class; empty for none.
        heat: 0 … 100, how strongly it is coloured.
        right: Whether it counts correct answers.
    """

    text: str
    heat: int
    right: bool


def to_html(comparison: Comparison) -> str:
    """Return the report as a page: the same bytes for the same comparison."""
    template = environment(printable, escaped=False).get_template("report.html")
    detailed = contents.detailed_groups(comparison)
    return template.render(
        comparison=comparison,
        contents=contents,
        subtitle=contents.subtitle(comparison),
        legend=list(zip(vector_plots.labels(comparison), detailed, strict=True)),
        swatch=_Swatches(),
        curves=vector_plots.learning_curves(comparison),
        trade_offs=vector_plots.trade_offs(comparison),
        markup=Markup,
        heat_maps=[(group, _heat_map(group)) for group in comparison.by_class]
        if len(comparison.class_names) <= contents.MOST_CLASSES
        else [],
        evidence=contents.evidence(comparison),
        evidence_open=len(comparison.verdicts) <= _MOST_VERDICTS_OPEN,
        skipped=contents.skipped(comparison),
    )


class _Swatches:
    """Gives each swatch an id of its own."""

    def __init__(self) -> None:
        self._drawn = 0
        self._by_position: dict[int, str] = {}

    def __call__(self, position: int) -> Markup:
        """Return the swatch of the group at this position."""
        if position not in self._by_position:
            self._by_position[position] = vector_plots.swatch(position, "SWATCH")
        self._drawn += 1
        return Markup(self._by_position[position].replace("SWATCH", f"swatch-{self._drawn}"))


def _heat_map(group: ByClass) -> list[list[HeatCell]]:
    rows = []
    for true, counts in enumerate(group.confusion):
        shares = [count / max(sum(counts), 1) for count in counts]
        rows.append(
            [
                HeatCell(
                    contents.percent(share).removesuffix("%") if share else "",
                    # By the square root: mistakes of 1% show beside those of 20%.
                    round(100 * (share if true == predicted else min(2 * share**0.5, 1))),
                    true == predicted,
                )
                for predicted, share in enumerate(shares)
            ]
        )
    return rows
