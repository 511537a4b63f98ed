"""Learning curves of a comparison as SVG, and how its plots distinguish groups.

Groups differ in colour, marker and line style, so that no reader depends on colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison, Group
from fm_mlflow.analysis.prose.words import capitalised, counted, number
from fm_mlflow.escaping import printable, shortened
from fm_mlflow.report.contents import curve_titles
from fm_mlflow.report.layout import Groups
from fm_mlflow.report.svg import FAINT, Dot, series_colour, style, to_svg

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))

MOST_OVERLAID = 4
"""Groups whose curves are drawn over one another; those of more, apart."""

_SIZE = (4.1, 2.9)
_MOST_MARKED_EPOCHS = 20

LONGEST_AXIS = 40
"""Characters of an axis' label: of a metric's name, which may be longer, both ends."""

Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class _Curves:
    """A metric whose learning curves are plotted.

    Attributes:
        metric: Its logged name: foreign text.
        what: What a reader calls it.
        number: Position among those that are plotted.
    """

    metric: str
    what: str
    number: int

    @property
    def svg_name(self) -> str:
        """A name for the SVG, of letters, digits and dashes."""
        known = self.metric in keys.all_keys()
        return f"curve-{self.metric}" if known else f"curve-of-{self.number}"


@dataclass(frozen=True)
class Plot:
    """A picture and what is written below it."""

    caption: str
    svg: str


def swatch(position: int, name: str) -> str:
    """Return the line and marker of the group at this position, for a legend.

    Args:
        position: Among the detailed groups.
        name: Id of the SVG element, unique in the page.
    """
    with style():
        figure = Figure(figsize=(0.4, 0.16))
        figure.add_artist(Line2D([0.02, 0.98], [0.5, 0.5], linewidth=1.5, **_look(position)))
        figure.add_artist(
            Line2D([0.5], [0.5], marker=marker(position), markersize=6.5, **_look(position))
        )
        return to_svg(figure, name)


def marker(position: int) -> str:
    """Return the marker of the group at this position."""
    return _MARKERS[position % len(_MARKERS)]


def _look(position: int) -> dict[str, Any]:
    return {"color": series_colour(position), "linestyle": _LINES[position % len(_LINES)]}


def new_axes(x: str, y: str) -> tuple[Figure, Axes]:
    """Return an empty plot of the size that all have, one pixel a point, with labelled axes."""
    figure = Figure(figsize=_SIZE, dpi=72, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(printable(x), parse_math=False)
    axes.set_ylabel(printable(y), parse_math=False)
    return figure, axes


def learning_curves(comparison: Comparison) -> list[Plot]:
    """Plot the learning curves of every seed; without any, nothing.

    Few groups lie over one another, one plot a metric; of many, each has a plot of its first
    metric with the others faintly behind it.
    """
    groups = Groups(comparison).detailed
    curves = [
        _Curves(metric, what, number)
        for number, (what, metric) in enumerate(curve_titles(comparison.objective).items())
        if any(_curves(group, metric) for group in groups)
    ]
    if len(groups) <= MOST_OVERLAID:
        return [_overlaid(groups, each) for each in curves]
    return [
        _highlighted(groups, position, label, each)
        for each in curves[:1]
        for position, label in enumerate(Groups(comparison).labels)
        if _curves(groups[position], each.metric)
    ]


def _curves(group: Group, metric: str) -> list[Curve]:
    return [curves[metric] for curves in group.curves if curves.get(metric)]


def _overlaid(groups: Sequence[Group], curves: _Curves) -> Plot:
    metric, what = curves.metric, capitalised(curves.what)
    with style():
        figure, axes = new_axes("epoch", shortened(curves.what, LONGEST_AXIS))
        dots: list[Dot] = []
        for position, group in enumerate(groups):
            _draw_curves(axes, _curves(group, metric), position)
            dots += _dots(group, metric)
        _count_epochs(axes)
        ends = " ".join(_last_epochs(group, metric) for group in groups)
        return Plot(what, to_svg(figure, curves.svg_name, f"{what} by epoch", ends, dots))


def _highlighted(groups: Sequence[Group], position: int, label: str, curves: _Curves) -> Plot:
    metric, what = curves.metric, curves.what
    with style():
        figure, axes = new_axes("epoch", shortened(what, LONGEST_AXIS))
        for other, group in enumerate(groups):
            for curve in _curves(group, metric) if other != position else ():
                axes.plot(*_steps_and_values(curve), color=FAINT, linewidth=0.6)
        _draw_curves(axes, _curves(groups[position], metric), position, alpha=0.9)
        _count_epochs(axes)
        group = groups[position]
        heading = f"{capitalised(what)} of {group.name} by epoch, the others faintly behind it"
        ends, dots = _last_epochs(group, metric), _dots(group, metric)
        svg = to_svg(figure, f"curve-{position}", heading, ends, dots)
        return Plot(f"{label}: {what}", svg)


def _draw_curves(axes: Axes, curves: Sequence[Curve], position: int, alpha: float = 0.45) -> None:
    """Draw each seed thinly, their mean with the series' marker and line style."""
    for curve in curves:
        axes.plot(
            *_steps_and_values(curve), color=series_colour(position), linewidth=0.8, alpha=alpha
        )
    means = _means(curves)
    axes.plot(
        list(means),
        list(means.values()),
        marker=marker(position),
        markersize=4.5,
        markevery=_every(means),
        linewidth=1.6,
        **_look(position),
    )


def _count_epochs(axes: Axes) -> None:
    """Have whole numbers on the axis, of a single epoch too."""
    first, last = axes.dataLim.intervalx
    if first == last:
        axes.set_xlim(first - 1, last + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _means(curves: Sequence[Curve]) -> dict[int, float]:
    """Return the mean over the seeds by epoch, as far as all of them go.

    Where some were stopped early, the rest are no sample.
    """
    by_step: dict[int, list[float]] = {}
    for curve in curves:
        for step, value in curve:
            by_step.setdefault(step, []).append(value)
    shared = [step for step in sorted(by_step) if len(by_step[step]) == len(curves)]
    return {step: float(np.mean(by_step[step])) for step in shared}


def _every(means: Mapping[int, float]) -> int:
    """Return that every how manyth epoch has a marker."""
    return 1 + len(means) // _MOST_MARKED_EPOCHS


def _dots(group: Group, metric: str) -> list[Dot]:
    """Return what the marked epochs of a group tell."""
    curves = _curves(group, metric)
    means = _means(curves)
    over = f", mean of {len(curves)} runs" if len(curves) > 1 else ""
    return [
        Dot(step, value, f"{group.name}, epoch {step}: {number(metric, value)}{over}")
        for step, value in list(means.items())[:: _every(means)]
    ]


def _steps_and_values(curve: Curve) -> tuple[list[int], list[float]]:
    return [step for step, _ in curve], [value for _, value in curve]


def _last_epochs(group: Group, metric: str) -> str:
    curves = _curves(group, metric)
    last = [curve[-1][1] for curve in curves]
    if not last:
        return f"{group.name}: not logged."
    shortest, longest = (of(curve[-1][0] for curve in curves) for of in (min, max))
    ragged = f", after {shortest} to {longest} epochs" if shortest < longest else ""
    low, high = (number(metric, value) for value in (min(last), max(last)))
    ends = f"at {low}" if low == high else f"between {low} and {high}"
    return f"{group.name}: {counted(len(last), 'run')}, ending {ends}{ragged}."
