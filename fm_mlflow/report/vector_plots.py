"""Plots of a comparison as SVG. Series differ in colour, marker and line style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison, Front, Group, Statistic
from fm_mlflow.report import figures
from fm_mlflow.report.contents import counted, detailed_groups, shortened, title
from fm_mlflow.report.svg import FAINT, INK, PAGE, series_colour, style, to_svg

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))

_STEPS = (1, 2, 2.5, 5, 10)
_SIZE = (4.1, 2.9)
_LONGEST_LABEL = 14
_MOST_OVERLAID = 4
_MOST_MARKED_EPOCHS = 20

_CURVES = (
    (keys.VAL_ACCURACY, "Validation accuracy"),
    (keys.ACCURACY, "Training accuracy"),
    (keys.VAL_LOSS, "Validation loss"),
    (keys.LOSS, "Training loss"),
)

Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Plot:
    """A picture and what is written below it."""

    caption: str
    svg: str


def labels(comparison: Comparison) -> tuple[str, ...]:
    """Return what the plots call each detailed group: its name, or letters where one is long."""
    names = [group.name for group in detailed_groups(comparison)]
    if all(len(n) <= _LONGEST_LABEL and n.isascii() and n.isprintable() for n in names):
        return tuple(names)
    return tuple(_letter(position) for position in range(len(names)))


def _letter(position: int) -> str:
    more, last = divmod(position, 26)
    return (_letter(more - 1) if more else "") + chr(ord("A") + last)


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
            Line2D([0.5], [0.5], marker=_marker(position), markersize=6.5, **_look(position))
        )
        return to_svg(figure, name)


def _marker(position: int) -> str:
    return _MARKERS[position % len(_MARKERS)]


def _look(position: int) -> dict[str, Any]:
    return {"color": series_colour(position), "linestyle": _LINES[position % len(_LINES)]}


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def learning_curves(comparison: Comparison) -> list[Plot]:
    """Plot the learning curves of every seed; without any, nothing.

    Few groups lie over one another, one plot a metric; of many, each has a plot of its validation
    accuracy with the others faintly behind it.
    """
    groups = detailed_groups(comparison)
    metrics = [(m, what) for m, what in _CURVES if any(_curves(group, m) for group in groups)]
    if len(groups) <= _MOST_OVERLAID:
        return [_overlaid(groups, metric, what) for metric, what in metrics]
    return [
        _highlighted(groups, position, label, metric, what)
        for metric, what in metrics[:1]
        for position, label in enumerate(labels(comparison))
        if _curves(groups[position], metric)
    ]


def _curves(group: Group, metric: str) -> list[Curve]:
    return [curves[metric] for curves in group.curves if curves.get(metric)]


def _overlaid(groups: Sequence[Group], metric: str, what: str) -> Plot:
    with style():
        figure, axes = _axes("epoch", what.lower())
        for position, group in enumerate(groups):
            _draw_curves(axes, _curves(group, metric), position)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        ends = " ".join(_last_epochs(group, metric) for group in groups)
        return Plot(what, to_svg(figure, f"curve-{metric}", f"{what} by epoch", ends))


def _highlighted(
    groups: Sequence[Group], position: int, label: str, metric: str, what: str
) -> Plot:
    with style():
        figure, axes = _axes("epoch", what.lower())
        for other, group in enumerate(groups):
            for curve in _curves(group, metric) if other != position else ():
                axes.plot(*_steps_and_values(curve), color=FAINT, linewidth=0.6)
        _draw_curves(axes, _curves(groups[position], metric), position)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        group = groups[position]
        heading = f"{what} of {group.name} by epoch, the others faintly behind it"
        svg = to_svg(figure, f"curve-{position}", heading, _last_epochs(group, metric))
        return Plot(f"{label}: {what.lower()}", svg)


def _draw_curves(axes: Axes, curves: Sequence[Curve], position: int) -> None:
    """Draw each seed thinly, their mean with the series' marker and line style."""
    by_step: dict[int, list[float]] = {}
    for curve in curves:
        axes.plot(
            *_steps_and_values(curve), color=series_colour(position), linewidth=0.8, alpha=0.45
        )
        for step, value in curve:
            by_step.setdefault(step, []).append(value)
    steps = sorted(by_step)
    axes.plot(
        steps,
        [float(np.mean(by_step[step])) for step in steps],
        marker=_marker(position),
        markersize=4.5,
        markevery=1 + len(steps) // _MOST_MARKED_EPOCHS,
        linewidth=1.6,
        **_look(position),
    )


def _steps_and_values(curve: Curve) -> tuple[list[int], list[float]]:
    return [step for step, _ in curve], [value for _, value in curve]


def _last_epochs(group: Group, metric: str) -> str:
    last = [curve[-1][1] for curve in _curves(group, metric)]
    if not last:
        return f"{group.name}: not logged."
    low, high = (figures.figure(metric, value) for value in (min(last), max(last)))
    ends = f"at {low}" if low == high else f"between {low} and {high}"
    return f"{group.name}: {counted(len(last), 'run')}, ending {ends}."


def trade_offs(comparison: Comparison) -> list[Plot]:
    """Plot test accuracy against each cost; one that nobody has or is ranked by has no plot."""
    plots = []
    for front in comparison.fronts:
        points = {
            group.name: (group.metrics[front.metric], group.metrics[keys.TEST_ACCURACY])
            for group in comparison.groups
            if group.name not in front.left_out
            and front.metric in group.metrics
            and keys.TEST_ACCURACY in group.metrics
        }
        if points and not front.reason:
            plots.append(_trade_off(comparison, front, points))
    return plots


def _trade_off(
    comparison: Comparison, front: Front, points: Mapping[str, tuple[Statistic, Statistic]]
) -> Plot:
    detailed = detailed_groups(comparison)
    names = labels(comparison)
    heading = f"Test accuracy against {title(front.metric)}"
    unit = figures.unit(front.metric)
    with style():
        unit_shown = f", {unit}" if unit and not unit.startswith("FLOPs") else ""
        figure, axes = _axes(title(front.metric) + unit_shown, "test accuracy")
        _scale(axes, [cost.mean for cost, _ in points.values()])
        drawn = {group.name for group in detailed}
        _draw_cloud(
            axes, np.array([[c.mean, a.mean] for n, (c, a) in points.items() if n not in drawn])
        )
        _draw_front(axes, [points[name] for name in front.on_front if name in points])
        marked = [i for i, group in enumerate(detailed) if group.name in points]
        for i in marked:
            _draw_point(axes, points[detailed[i].name], i, detailed[i].name in front.on_front)
        axes.margins(0.14, 0.14)
        _label(
            axes,
            [(points[detailed[i].name], names[i]) for i in marked],
        )
        on_front = shortened([name for name in front.on_front if name in points]) or "nobody"
        svg = to_svg(
            figure,
            f"front-{front.metric.replace('/', '-')}",
            heading,
            f"{counted(len(points), 'model')}. On the Pareto front: {on_front}.",
        )
    return Plot(heading, svg)


def _scale(axes: Axes, costs: Sequence[float]) -> None:
    low, high = min(costs), max(costs)
    if low > 0 and high > 10 * low:
        axes.set_xscale("log")
        few = high < 300 * low
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=8))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    # 1.5 M, and 1,250 where a unit follows that has no thousands of its own.
    axes.xaxis.set_major_formatter(EngFormatter(sep=" ") if high >= 10_000 else "{x:,g}")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))


def _draw_cloud(axes: Axes, points: NDArray[np.float64]) -> None:
    """Draw groups without detail as dots: one path, however many there are."""
    if not len(points):
        return
    path = Path(np.repeat(points, 2, axis=0), [Path.MOVETO, Path.LINETO] * len(points))
    path.should_simplify = False
    axes.add_patch(
        PathPatch(path, edgecolor=FAINT, facecolor="none", linewidth=2.5, capstyle="round")
    )
    axes.update_datalim(points)


def _draw_front(axes: Axes, points: Sequence[tuple[Statistic, Statistic]]) -> None:
    if len(points) > 1:
        ends = np.array(sorted((cost.mean, accuracy.mean) for cost, accuracy in points))
        axes.plot(ends[:, 0], ends[:, 1], color=INK, linewidth=1, alpha=0.6, zorder=1.5)


def _draw_point(
    axes: Axes, point: tuple[Statistic, Statistic], position: int, on_front: bool
) -> None:
    """Draw means with intervals: filled on the front, hollow off it."""
    cost, accuracy = point
    colour = series_colour(position)
    axes.errorbar(
        cost.mean,
        accuracy.mean,
        xerr=_bar(cost),
        yerr=_bar(accuracy),
        fmt=_marker(position),
        color=colour,
        markersize=7,
        markerfacecolor=colour if on_front else PAGE,
        markeredgewidth=1.4,
        elinewidth=1,
        capsize=2.5,
    )


def _bar(statistic: Statistic) -> list[list[float]] | None:
    if statistic.ci_low is None or statistic.ci_high is None or not statistic.sd:
        return None
    return [[statistic.mean - statistic.ci_low], [statistic.ci_high - statistic.mean]]


def _label(axes: Axes, labelled: Sequence[tuple[tuple[Statistic, Statistic], str]]) -> None:
    """Write each name beside its point, where it covers no other point and no other name."""
    axes.figure.canvas.draw()
    at = axes.transData.transform([(cost.mean, accuracy.mean) for (cost, accuracy), _ in labelled])
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    frame = axes.get_window_extent()
    for (x, y), ((cost, accuracy), name) in zip(at, labelled, strict=True):
        width, height = 6.2 * len(name), 9.0
        places = [(dx, dy) for dy in (5, -5 - height, 14, -14 - height) for dx in (6, -6 - width)]
        boxes = [(x + dx, y + dy, x + dx + width, y + dy + height) for dx, dy in places]
        best = min(
            range(len(places)),
            key=lambda i: (
                sum(_overlap(boxes[i], other) for other in taken)
                + 1000 * (boxes[i][0] < frame.x0 or boxes[i][2] > frame.x1)
                + 1000 * (boxes[i][1] < frame.y0 or boxes[i][3] > frame.y1)
            ),
        )
        taken.append(boxes[best])
        axes.annotate(
            name,
            (cost.mean, accuracy.mean),
            places[best],
            textcoords="offset pixels",
            parse_math=False,
        )


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
