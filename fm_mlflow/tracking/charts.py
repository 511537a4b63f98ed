"""A shared view of an experiment's charts: MLflow's own order puts accuracy and loss last.

MLflow orders sections of charts by name, with the metrics that have no slash at the end. What a
user rearranges is kept in the browser; what is shared by a link is a tag of the experiment.
"""

from __future__ import annotations

import json
from typing import Any

from fm_mlflow import keys

_KEY = "fm_mlflow"
_WITHOUT_SLASH = "Model metrics"
_SECTIONS = (
    *(_WITHOUT_SLASH, "memory", "flops", "parameters", "size", "latency", "throughput", "time"),
    *("energy", "utilization", "kept", "user", "search", "verdict", "System metrics", "estimate"),
)
_FOLDED = ("System metrics", "estimate")
_CURVES = (keys.ACCURACY, keys.VAL_ACCURACY, keys.LOSS, keys.VAL_LOSS)
_FIRST = (*_CURVES, keys.TEST_ACCURACY, keys.TEST_LOSS)


def tags() -> dict[str, str]:
    """Return the tags of an experiment that has the view."""
    return {f"mlflow.sharedViewState.{_KEY}": json.dumps(_view())}


def link(experiment_id: str) -> str:
    """Return where MLflow's pages show the view, from any of them."""
    return (
        f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={_KEY}"
        "&compareRunsMode=CHART"
    )


def _view() -> dict[str, Any]:
    # MLflow adds the metrics that are missing here to the section of their name.
    return {
        "isAccordionReordered": True,
        "compareRunSections": [
            {
                "uuid": f"fm_mlflow-{name}",
                "name": name,
                "display": name not in _FOLDED,
                "isReordered": True,
                "deleted": False,
                "isGenerated": True,
            }
            for name in _SECTIONS
        ],
        "compareRunCharts": [_chart(name) for name in _FIRST],
    }


def _chart(metric: str) -> dict[str, Any]:
    chart: dict[str, Any] = {
        "uuid": f"fm_mlflow-{metric}",
        "type": "BAR",
        "metricKey": metric,
        "metricSectionId": f"fm_mlflow-{_WITHOUT_SLASH}",
        "runsCountToCompare": 10,
        "deleted": False,
        "isGenerated": True,
    }
    curve = {
        "type": "LINE",
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
    return {**chart, **curve} if metric in _CURVES else chart
