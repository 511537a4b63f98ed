"""What models cost to use and to train, in the unit in which computers are paid for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Answer, Group, Statistic
from fm_mlflow.analysis.core_hours import Expense, Range
from fm_mlflow.analysis.costs import COSTS, GPUS, incomparable
from fm_mlflow.analysis.prose.words import ratio, significant

_PREDICTIONS = 1_000_000
_SECONDS_OF_HOUR = 3600
_MOST_NAMED = 5
_USABLE_CORES = re.compile(r"(\d{1,6}) usable")
_FIT_TIME = next(cost for cost in COSTS if cost.key == keys.FIT_SECONDS)


def expenses(groups: Sequence[Group], price: float | None) -> tuple[Expense, ...]:
    """Return the core-hours of groups whose runs were all on one kind of machine.

    A core-hour is an hour of one core that the process may use, busy or not.

    Args:
        groups: Those that are looked at closely.
        price: Of a core-hour; None: not asked.
    """
    found = []
    for group in groups:
        cores = {run.machine.get("cores", "") for run in group.runs}
        usable = _USABLE_CORES.search(next(iter(cores))) if len(cores) == 1 else None
        has_gpus = any(GPUS in run.machine for run in group.runs)  # no cores are paid for there
        if usable is None or has_gpus or incomparable(_FIT_TIME, group.runs):
            continue
        of_core = int(usable[1]) / _SECONDS_OF_HOUR
        rate = group.metrics.get(keys.THROUGHPUT_INFERENCE)
        seconds = group.metrics.get(keys.FIT_SECONDS)
        predictions = _inverse(rate, _PREDICTIONS * of_core) if rate else None
        training = _scaled(seconds, of_core) if seconds else None
        if predictions or training:
            found.append(
                Expense(
                    group.name,
                    int(usable[1]),
                    predictions,
                    training,
                    _priced(predictions, price),
                    _priced(training, price),
                )
            )
    return tuple(found)


def in_words(found: Sequence[Expense], price: float | None) -> Answer | None:
    """Say what models cost to use and to train; None where nobody measured that."""
    lines = []
    for each in found[:_MOST_NAMED]:
        parts = []
        if each.predictions is not None:
            amount = _amount(each.predictions, each.predictions_price)
            parts.append(f"a million predictions take {amount}")
        if each.training is not None:
            parts.append(f"a training takes {_amount(each.training, each.training_price)}")
        lines.append(f"{each.model}: {', '.join(parts)}.")
    if not lines:
        return None
    if len(found) > _MOST_NAMED:
        lines.append(f"{len(found) - _MOST_NAMED} more are in comparison.json.")
    at = "" if price is None else f" A core-hour costs {price:g}."
    return Answer(
        "What does it cost to use and to train?",
        f"{' '.join(lines)} Core-hours of the machine that measured, all its usable cores "
        f"together; predictions in batches.{at}",
    )


def _scaled(statistic: Statistic, factor: float) -> Range:
    low, high = statistic.ci_low, statistic.ci_high
    return Range(
        statistic.mean * factor,
        None if low is None else low * factor,
        None if high is None else high * factor,
    )


def _inverse(statistic: Statistic, numerator: float) -> Range | None:
    """Return what is so many per rate; None where a rate is not positive."""
    if not statistic.mean > 0:
        return None
    low, high = statistic.ci_low, statistic.ci_high
    return Range(
        numerator / statistic.mean,
        numerator / high if high is not None and high > 0 else None,
        numerator / low if low is not None and low > 0 else None,
    )


def _priced(hours: Range | None, price: float | None) -> Range | None:
    if hours is None or price is None:
        return None
    low, high = hours.low, hours.high
    return Range(
        hours.mean * price,
        None if low is None else low * price,
        None if high is None else high * price,
    )


def _amount(hours: Range, money: Range | None) -> str:
    text = f"{_shown(hours)} core-hours"
    return text if money is None else f"{text}, which cost {_shown(money)}"


def _shown(value: Range) -> str:
    text = ratio(value.mean)
    if value.low is None or value.high is None:
        return text
    decimals = significant(value.high, 3)
    return f"{text} ({value.low:,.{decimals}f} to {value.high:,.{decimals}f})"
