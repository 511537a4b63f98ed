"""A comparison as plain values: `comparison.json`."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json, to_jsonable_python

from fm_mlflow.analysis.comparison import Comparison, Group
from fm_mlflow.analysis.pareto import MOST_DOMINATORS


def to_json_dict(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as values that JSON can hold; what is not a number is None."""
    plain: dict[str, Any] = to_jsonable_python(_document(comparison), inf_nan_mode="null")
    return plain


def to_json_text(comparison: Comparison) -> str:
    """Return the contents of `comparison.json`: a line for each thing listed."""
    parts = [f'"{name}":{_lines(value)}' for name, value in _document(comparison).items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(value: Any) -> str:
    if not isinstance(value, (list, tuple)) or not value:
        return _text(value)
    return "[\n" + ",\n".join(map(_text, value)) + "\n]"


def _text(value: Any) -> str:
    return to_json(value, inf_nan_mode="null").decode()


def _document(comparison: Comparison) -> dict[str, Any]:
    return {
        "experiment": comparison.experiment,
        "benchmark": _benchmark(comparison),
        "summary": comparison.summary,
        "headline": comparison.headline,
        "evidence": comparison.evidence,
        "models": [_model(group) for group in comparison.groups],
        "verdicts": comparison.verdicts,
        "pareto": {front.metric: front.on_front for front in comparison.fronts},
        "pareto_details": {
            front.metric: {
                "dominated": {name: by[:MOST_DOMINATORS] for name, by in front.dominated.items()},
                "left_out": front.left_out,
                "reason": front.reason,
            }
            for front in comparison.fronts
        },
        "best": comparison.best,
        "target_accuracy": comparison.target if comparison.objective.is_accuracy else None,
        "target": comparison.target,
        "targets": comparison.targets,
        "class_names": comparison.class_names,
        "by_class": comparison.by_class,
        "wrong_examples": comparison.wrong,
        "answers": comparison.answers,
        "expenses": comparison.expenses,
        "warnings": comparison.warnings,
        "skipped": comparison.skipped,
        "repeat": comparison.repeat,
        "objective": comparison.objective,
    }


def _benchmark(comparison: Comparison) -> str | None:
    """Return the id of the run that all compared runs are within, as those of a benchmark."""
    origins = {run.benchmark for group in comparison.groups for run in group.runs}
    return origins.pop() if len(origins) == 1 else None


def _model(group: Group) -> dict[str, Any]:
    return {
        "model": group.name,
        "architecture": group.model,
        "config": group.config,
        "dataset_digest": group.data_digest,
        "run_ids": [run.run_id for run in group.runs],
        "seeds": [run.seed for run in group.runs],
        "ranked": group.ranked,
        "detailed": group.detailed,
        "metrics": group.metrics,
        "missing": group.missing,
    }
