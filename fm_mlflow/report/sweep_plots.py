"""The plots of a sweep as SVG: trade-off, learning curves, parallel coordinates, importance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.prose.words import counted, figure, number
from fm_mlflow.escaping import printable, shortened
from fm_mlflow.report.svg import FAINT, INK, PAGE, series_colour, style, to_svg
from fm_mlflow.report.vector_plots import LONGEST_AXIS, Plot, new_axes
from fm_mlflow.results.sweep import SweepResult, SweepTrial
from fm_mlflow.settings.space import Float, Int, OneOf, choice_texts, dimensions, text_point

_FINALIST, _FRONT = 0, 1  # series
_LONGEST_NAME = 18
_MOST_AXES = 12


def sweep_plots(result: SweepResult) -> list[Plot]:
    """Return the plots of a search; those without anything to show are left out."""
    with style():
        plots = [_trade_off(result), _curves(result), _importance(result)]
    return [plot for plot in plots if plot is not None]


def parallel_coordinates(result: SweepResult) -> list[Plot]:
    """Return the plot of each trained trial over all settings, which takes a page's width."""
    with style():
        plot = _parallel(result)
    return [] if plot is None else [plot]


def _trade_off(result: SweepResult) -> Plot | None:
    config = result.config
    title = cost_title(config.cost)
    points = [
        (trial.costs[config.cost], trial.value, trial)
        for trial in result.trials
        if trial.value is not None and config.cost in trial.costs
    ]
    if not points:
        return None
    drawn, axes = new_axes(title, shortened(config.metric, LONGEST_AXIS))
    weak = [(cost, value) for cost, value, trial in points if trial.status == "stopped"]
    full = [(cost, value) for cost, value, trial in points if trial.status == "trained"]
    for some, fill in ((weak, "none"), (full, FAINT)):
        if some:
            axes.plot(
                *zip(*some, strict=True),
                linestyle="none",
                marker="o",
                markersize=5,
                markeredgecolor=FAINT,
                markerfacecolor=fill,
            )
    front = sorted((cost, value) for cost, value, trial in points if trial.on_front)
    if front:
        colour = series_colour(_FRONT)
        axes.plot(*zip(*front, strict=True), color=colour, marker="o", markersize=5, linewidth=1.2)
    for finalist in result.finalists:
        if finalist.proven is None or finalist.cost is None:
            continue
        low, high = finalist.proven_low, finalist.proven_high
        bar = (
            None
            if low is None or high is None
            else [[finalist.proven - low], [high - finalist.proven]]
        )
        colour = series_colour(_FINALIST)
        axes.errorbar(
            finalist.cost,
            finalist.proven,
            yerr=bar,
            fmt="s" if finalist.is_default else "D",
            color=colour,
            markersize=7,
            markerfacecolor=PAGE if finalist.is_default else colour,
            capsize=2.5,
            zorder=3,
        )
    _scale(axes, [cost for cost, _, _ in points])
    _focus(axes, [value for _, value, trial in points if trial.status == "trained"], result)
    heading = f"{config.metric} against {title}"
    caption = (
        f"{heading}: stopped early (hollow), trained to the end (grey), the front (line); the "
        "finalists' proof on the test set with fresh seeds (diamonds, the default a square; 95% "
        "intervals)."
    )
    told = f"{counted(len(points), 'trial')}, {counted(len(front), 'trial')} on the front."
    return Plot(caption, to_svg(drawn, "sweep-front", heading, told))


def _scale(axes: Axes, costs: Sequence[float]) -> None:
    low, high = min(costs), max(costs)
    if low > 0 and high > 3 * low:
        axes.set_xscale("log")
        subdivisions = (1, 2, 5) if high < 100 * low else (1,)
        axes.xaxis.set_major_locator(LogLocator(subs=subdivisions, numticks=8))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" ") if high >= 10_000 else "{x:,g}")


def _focus(axes: Axes, values: Sequence[float], result: SweepResult) -> None:
    """Show those that matter: trials that failed to learn would press the others together."""
    shown = [*values, *(each.proven for each in result.finalists if each.proven is not None)]
    if len(shown) < 4:
        return
    middle = sorted(shown)[len(shown) // 2]
    distances = sorted(abs(value - middle) for value in shown)
    reach = 4 * max(distances[len(distances) * 3 // 4], 1e-6)
    inside = [value for value in shown if abs(value - middle) <= reach]
    ends = [end for each in result.finalists for end in (each.proven_low, each.proven_high) if end]
    low, high = min([*inside, *ends]), max([*inside, *ends])
    margin = 0.1 * (high - low or 1e-3)
    axes.set_ylim(low - margin, high + margin)


def _curves(result: SweepResult) -> Plot | None:
    trained = [trial for trial in result.trials if len(trial.curve) > 1]
    if not trained:
        return None
    drawn, axes = new_axes("epoch", shortened(result.config.metric, LONGEST_AXIS))
    for trial in sorted(result.trials, key=lambda trial: trial.on_front):
        epochs = sorted(trial.curve)
        if epochs:
            axes.plot(
                epochs,
                [trial.curve[epoch] for epoch in epochs],
                color=series_colour(_FRONT) if trial.on_front else FAINT,
                linewidth=1.4 if trial.on_front else 0.7,
                marker="o",
                markersize=2.5,
            )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    heading = f"{result.config.metric} by epoch"
    stopped = counted(result.spent.stopped, "trial")
    caption = f"{heading}: trials on the front in colour; {stopped} stopped early."
    return Plot(caption, to_svg(drawn, "sweep-curves", heading, f"{stopped} stopped early."))


def _parallel(result: SweepResult) -> Plot | None:
    """Draw each trained trial as a line over one axis a setting, the cost and the metric."""
    config, space = result.config, result.ranges
    ranges = list(dimensions(space).items())[:_MOST_AXES]
    lines = []
    for trial in result.trials:
        point = text_point(space, trial.settings)
        if point is None or trial.value is None or config.cost not in trial.costs:
            continue
        places = [_place(each, point[name]) for name, each in ranges]
        lines.append((trial, [*places, trial.costs[config.cost], trial.value]))
    if len(lines) < 2:
        return None
    ends = []
    for at in (-2, -1):
        values = [line[at] for _, line in lines]
        low, high = min(values), max(values)
        ends.append((low, high))
        for _, line in lines:
            line[at] = (line[at] - low) / (high - low) if high > low else 0.5
    drawn = Figure(figsize=(8.4, 2.9), dpi=72, layout="constrained")
    axes = drawn.add_subplot()
    names = [name for name, _ in ranges]
    labels = [*names, config.cost, config.metric]
    for trial, line in sorted(lines, key=lambda each: each[0].on_front):
        axes.plot(
            range(len(line)),
            line,
            color=series_colour(_FRONT) if trial.on_front else FAINT,
            linewidth=1.6 if trial.on_front else 0.8,
        )
    for at, (_, each) in enumerate(ranges):
        _end_labels(axes, at, *_ends(each))
    cost, metric = ends
    _end_labels(axes, len(ranges), *(number(config.cost, value) for value in cost))
    _end_labels(axes, len(ranges) + 1, *(number(config.metric, value) for value in metric))
    axes.set_xticks(
        range(len(labels)),
        [printable(shortened(label, _LONGEST_NAME)) for label in labels],
        parse_math=False,
    )
    axes.set_yticks([])
    axes.set_ylim(-0.12, 1.12)
    axes.spines["left"].set_visible(False)
    caption = "Settings, cost and metric of each trial that was trained; the front in colour."
    told = f"{counted(len(lines), 'trial')} over {counted(len(ranges), 'setting')}."
    return Plot(caption, to_svg(drawn, "sweep-parallel", "Parallel coordinates", told))


def _place(each: Int | Float | OneOf, value: float | int | str) -> float:
    if isinstance(each, OneOf):
        texts = choice_texts(each)
        return texts.index(str(value)) / (len(texts) - 1)
    low, high, at = float(each.low), float(each.high), float(value)
    if each.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def _ends(each: Int | Float | OneOf) -> tuple[str, str]:
    if isinstance(each, OneOf):
        texts = choice_texts(each)
        return texts[0], texts[-1]
    return f"{each.low:g}", f"{each.high:g}"


def _end_labels(axes: Axes, at: int, low: str, high: str) -> None:
    for height, text, side in ((-0.03, low, "top"), (1.03, high, "bottom")):
        shown = printable(shortened(text, _LONGEST_NAME))
        axes.text(
            at, height, shown, ha="center", va=side, fontsize=8.5, color=INK, parse_math=False
        )
    axes.axvline(at, color=INK, linewidth=0.6, ymin=0.1, ymax=0.9)


def _importance(result: SweepResult) -> Plot | None:
    shares = _sorted(result.importance)
    if not shares:
        return None
    drawn, axes = new_axes("share of the metric's variance", "")
    names = [printable(shortened(name, _LONGEST_NAME)) for name, _ in reversed(shares)]
    axes.barh(
        range(len(shares)), [share for _, share in reversed(shares)], color=series_colour(_FRONT)
    )
    axes.set_yticks(range(len(shares)), names, parse_math=False)
    axes.set_xlim(0, 1)
    heading = "Importance of settings"
    told = "; ".join(f"{name} {share:.0%}" for name, share in shares)
    caption = (
        f"{heading}: share of the variance of {result.config.metric} that each explains over the "
        "space (fANOVA). Few trials make it rough."
    )
    return Plot(caption, to_svg(drawn, "sweep-importance", heading, told))


def _sorted(shares: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda each: (-each[1], each[0]))[:_MOST_AXES]


def cost_text(result: SweepResult, trial: SweepTrial) -> str:
    """Return the cost of a trial as text; empty where it is not known."""
    cost = trial.costs.get(result.config.cost)
    return "" if cost is None else figure(result.config.cost, cost)
