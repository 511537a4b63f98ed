"""A comparison as plain values: `comparison.json`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fm_mlflow.analysis.comparison import Comparison

import json

from fm_mlflow.analysis.comparison import Comparison, Group, Statistic

_MOST_DOMINATORS = 10
"""Of one group: among thousands of groups all pairs would be most of the file."""


def to_json_dict(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as values that JSON can hold; what is not a number is None."""
    plain: dict[str, Any] = finite(_without_models(comparison))
    # Statistics are finite by construction, and in a large store there are very many.
    return {
        "experiment": comparison.experiment,
        "summary": comparison.summary,
        "models": [_model(group) for group in comparison.groups],
        **plain,
    }


def to_json_text(comparison: Comparison) -> str:
    """Return the contents of `comparison.json`: a line for each thing listed.

    `json.dumps` with an indent takes seconds for thousands of models, because it is not in C.
    """
    parts = [
        f"{json.dumps(name)}: {_lines(value)}" for name, value in to_json_dict(comparison).items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return _text(value)
    return "[\n" + ",\n".join(map(_text, value)) + "\n]"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _without_models(comparison: Comparison) -> dict[str, Any]:
    return {
        "verdicts": [asdict(verdict) for verdict in comparison.verdicts],
        "pareto": {front.metric: list(front.on_front) for front in comparison.fronts},
        "pareto_details": {
            front.metric: {
                "dominated": {name: by[:_MOST_DOMINATORS] for name, by in front.dominated.items()},
                "left_out": dict(front.left_out),
                "reason": front.reason,
            }
            for front in comparison.fronts
        },
        "best": asdict(comparison.best),
        "target_accuracy": comparison.target_accuracy,
        "targets": [asdict(target) for target in comparison.targets],
        "class_names": comparison.class_names,
        "by_class": [asdict(each) for each in comparison.by_class],
        "answers": [asdict(answer) for answer in comparison.answers],
        "warnings": comparison.warnings,
        "skipped": [asdict(run) for run in comparison.skipped],
        "repeat": asdict(comparison.repeat),
    }


def _model(group: Group) -> dict[str, Any]:
    return {
        "model": group.name,
        "architecture": group.model,
        "config": dict(group.config),
        "dataset_digest": group.data_digest,
        "run_ids": [run.run_id for run in group.runs],
        "seeds": [run.seed for run in group.runs],
        "ranked": group.ranked,
        "detailed": group.detailed,
        "metrics": {name: _statistic(each) for name, each in group.metrics.items()},
        "missing": dict(group.missing),
    }


def _statistic(statistic: Statistic) -> dict[str, Any]:
    return {
        "n": statistic.n,
        "mean": statistic.mean,
        "sd": statistic.sd,
        "ci_low": statistic.ci_low,
        "ci_high": statistic.ci_high,
        "values": list(statistic.values),
    }


def finite(value: Any) -> Any:
    """Return plain values with None for numbers that JSON has no spelling for: NaN, infinity."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
