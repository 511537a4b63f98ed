"""The compared metric against each cost as SVG, with intervals and the Pareto front."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from fm_mlflow.analysis.comparison import Comparison, Front, Statistic
from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.words import counted, figure, interval, listed, unit
from fm_mlflow.escaping import shortened
from fm_mlflow.report.drawing import lay_out
from fm_mlflow.report.layout import MOST_NAMES, Groups
from fm_mlflow.report.svg import FAINT, INK, PAGE, Dot, series_colour, style, to_svg
from fm_mlflow.report.vector_plots import LONGEST_AXIS, Plot, marker, new_axes

_STEPS = (1, 2, 2.5, 5, 10)
_LETTER_WIDTH, _LETTER_HEIGHT = 6.0, 9.0
_OUTSIDE = 1000
"""What a name outside the frame counts as, in covered area."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Point:
    """Where a group stands in a plot.

    Attributes:
        position: Among the detailed groups; None for one of the others.
        on_front: Whether no other group dominates it.
    """

    cost: Statistic
    metric: Statistic
    position: int | None
    on_front: bool

    @property
    def at(self) -> tuple[float, float]:
        """The means."""
        return self.cost.mean, self.metric.mean


def prepare() -> None:
    """Draw a plot for nobody: the first one of a process takes longer than those that follow."""
    points = {
        f"model {i}": _Point(cost, Statistic(2, 0.8, 0.1, 0.7, 0.9, (0.7, 0.9)), i, bool(i))
        for i, mean in enumerate((1.0, 20_000.0))
        for cost in [Statistic(2, mean, mean / 4, mean / 2, mean * 2, (mean / 2, mean * 2))]
    }
    with style():
        drawn, axes = new_axes("cost", "metric")
        _scale(axes, [point.cost.mean for point in points.values()])
        line = [point.at for point in points.values()]
        axes.plot(*zip(*line, strict=True))
        for position, point in enumerate(points.values()):
            _draw_point(axes, point, position)
        _label(drawn, axes, points, line)
        to_svg(drawn, "prepared", "title", "description", [Dot(*line[0], "text")])


def trade_offs(comparison: Comparison) -> list[Plot]:
    """Plot the compared metric against each cost; a cost without a ranking has no plot."""
    groups = Groups(comparison)
    return [
        _trade_off(front, points, groups.labels, comparison.objective)
        for front in comparison.fronts
        if not front.reason and (points := _points(groups, front, comparison.objective))
    ]


def _points(groups: Groups, front: Front, objective: Objective) -> dict[str, _Point]:
    on_front = set(front.on_front)
    return {
        group.name: _Point(
            group.metrics[front.metric],
            group.metrics[objective.metric],
            groups.cell(group.name).group,
            group.name in on_front,
        )
        for group in groups.all
        if group.name in on_front or group.name in front.dominated
    }


def _trade_off(
    front: Front, points: Mapping[str, _Point], names: Sequence[str], objective: Objective
) -> Plot:
    what = cost_title(front.metric)
    measure = unit(front.metric)
    upward = shortened(objective.title, LONGEST_AXIS)
    if not objective.is_accuracy:
        upward += " (↓ better)" if objective.smaller_is_better else " (↑ better)"
    marked = {point.position: point for point in points.values() if point.position is not None}
    with style():
        figure, axes = new_axes(f"{what}, {measure}" if measure else what, upward)
        _scale(axes, [point.cost.mean for point in points.values()])
        _draw_cloud(axes, [point.at for point in points.values() if point.position is None])
        line = _draw_front(axes, (p.at for p in points.values() if p.on_front), objective)
        for position, point in marked.items():
            _draw_point(axes, point, position)
        axes.margins(0.14, 0.14)
        _label(figure, axes, {names[i]: point for i, point in marked.items()}, line)
        heading = f"{objective.heading} against {what}"
        on_front = listed([name for name in front.on_front if name in points], MOST_NAMES)
        svg = to_svg(
            figure,
            f"front-{front.metric.replace('/', '-')}",
            heading,
            f"{counted(len(points), 'model')}. On the Pareto front: {on_front}.",
            _dots(points, front.metric, objective),
        )
    return Plot(heading, svg)


def _dots(points: Mapping[str, _Point], cost: str, objective: Objective) -> list[Dot]:
    """Return what the marked points tell: both means, with their intervals."""
    return [
        Dot(
            *point.at,
            f"{name}: {objective.title} {_told(objective.metric, point.metric)}; "
            f"{cost_title(cost)} {_told(cost, point.cost)}",
        )
        for name, point in points.items()
        if point.position is not None
    ]


def _told(metric: str, statistic: Statistic) -> str:
    low, high = statistic.ci_low, statistic.ci_high
    within = interval(metric, low, high) if low is not None and high is not None else ""
    return figure(metric, statistic.mean) + (f" ({within})" if within else "")


def _scale(axes: Axes, costs: Sequence[float]) -> None:
    low, high = min(costs), max(costs)
    if low > 0 and high > 10 * low:
        axes.set_xscale("log")
        subdivisions = (1, 2, 5) if high < 100 * low else (1,)
        axes.xaxis.set_major_locator(LogLocator(subs=subdivisions, numticks=8))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    # 1.5 M; but 1,250 MiB, not 1.25 k MiB.
    axes.xaxis.set_major_formatter(EngFormatter(sep=" ") if high >= 10_000 else "{x:,g}")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))


def _draw_cloud(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Draw groups without detail as dots: one path, however many there are."""
    if not points:
        return
    path = Path(np.repeat(np.array(points), 2, axis=0), [Path.MOVETO, Path.LINETO] * len(points))
    path.should_simplify = False
    axes.add_patch(
        PathPatch(path, edgecolor=FAINT, facecolor="none", linewidth=2.5, capstyle="round")
    )
    axes.update_datalim(points)


def _draw_front(
    axes: Axes, points: Iterable[tuple[float, float]], objective: Objective
) -> list[tuple[float, float]]:
    """Join those that are better than all cheaper ones; return where the line goes."""
    line: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], -objective.gain(point[1]))):
        if not line or objective.gain(value) > objective.gain(line[-1][1]):
            line.append((cost, value))
    if len(line) > 1:
        axes.plot(*zip(*line, strict=True), color=INK, linewidth=1, alpha=0.6, zorder=1.5)
    return line


def _draw_point(axes: Axes, point: _Point, position: int) -> None:
    """Draw means with intervals: filled on the front, hollow off it."""
    colour = series_colour(position)
    axes.errorbar(
        *point.at,
        xerr=_bar(point.cost),
        yerr=_bar(point.metric),
        fmt=marker(position),
        color=colour,
        markersize=7,
        markerfacecolor=colour if point.on_front else PAGE,
        markeredgewidth=1.4,
        elinewidth=1,
        capsize=2.5,
    )


def _bar(statistic: Statistic) -> list[list[float]] | None:
    if statistic.ci_low is None or statistic.ci_high is None or not statistic.sd:
        return None
    return [[statistic.mean - statistic.ci_low], [statistic.ci_high - statistic.mean]]


def _label(
    figure: Figure, axes: Axes, points: Mapping[str, _Point], line: Sequence[tuple[float, float]]
) -> None:
    """Write each name beside its point, where it covers the least of everything else."""
    lay_out(figure)
    taken = list(_obstacles(axes, points.values(), line))
    frame = axes.get_window_extent()
    for name, point in points.items():
        x, y = axes.transData.transform(point.at)
        width, height = _LETTER_WIDTH * len(name), _LETTER_HEIGHT
        places = [
            (dx, dy) for dy in (5.0, -5 - height, 15.0, -15 - height) for dx in (7.0, -7 - width)
        ]
        boxes: list[Box] = [(x + dx, y + dy, x + dx + width, y + dy + height) for dx, dy in places]
        covered = [
            sum(_overlap(box, other) for other in taken)
            # Outside the frame only where nothing else is left.
            + _OUTSIDE * (box[0] < frame.x0 or box[2] > frame.x1)
            + _OUTSIDE * (box[1] < frame.y0 or box[3] > frame.y1)
            for box in boxes
        ]
        best = covered.index(min(covered))
        if covered[best] >= _OUTSIDE:
            figure.set_layout_engine("constrained")  # once more, with room for the name
        taken.append(boxes[best])
        axes.annotate(name, point.at, places[best], textcoords="offset points", parse_math=False)


def _obstacles(
    axes: Axes, points: Iterable[_Point], line: Sequence[tuple[float, float]]
) -> Iterable[Box]:
    to_pixels = axes.transData.transform
    for point in points:
        x, y = to_pixels(point.at)
        yield x - 4, y - 4, x + 4, y + 4
        cost, value = point.at
        low, high = point.metric.ci_low, point.metric.ci_high
        if low is not None and high is not None:
            (_, bottom), (_, top) = to_pixels([(cost, low), (cost, high)])
            yield x - 2, bottom, x + 2, top
        low, high = point.cost.ci_low, point.cost.ci_high
        if low is not None and high is not None:
            (left, _), (right, _) = to_pixels([(low, value), (high, value)])
            yield left, y - 2, right, y + 2
    if len(line) > 1:
        corners = to_pixels(line)
        frame = axes.get_window_extent()
        across = np.arange(frame.x0, frame.x1, 3)
        heights = np.interp(across, corners[:, 0], corners[:, 1], left=np.nan, right=np.nan)
        for x, y in zip(across[~np.isnan(heights)], heights[~np.isnan(heights)], strict=True):
            yield x - 1.5, y - 1.5, x + 1.5, y + 1.5


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
