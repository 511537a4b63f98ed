"""Results as pandas data frames: each column has one type, whatever was logged."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

import pandas as pd

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison, Group
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.settings.config import LATER_DEFAULTS, NOT_SHAPING, TrainConfig

_STATISTICS = {"n": "Int64", **dict.fromkeys(("mean", "sd", "ci_low", "ci_high"), "float64")}

_RUN = {
    **dict.fromkeys(("run_id", "run_name", "model"), "string"),
    "seed": "Int64",
    **dict.fromkeys(("experiment", "status", "error"), "string"),
    "start_time": "datetime64[ms, UTC]",
    "seconds": "float64",
    "host": "string",
    **dict.fromkeys(("jobs", "parts"), "Int64"),
    **dict.fromkeys(("data_digest", "model_uri"), "string"),
}
_GROUP = {
    **dict.fromkeys(("model", "architecture"), "string"),
    "runs": "Int64",
    **dict.fromkeys(("best", "contender", "on_front", "ranked"), "bool"),
}
_PARAMS = {
    f"params.{name}": {"int": "Int64", "float": "float64"}.get(
        getattr(field.annotation, "__name__", ""), "string"
    )
    for name, field in TrainConfig.model_fields.items()
    if name not in {"model", "seed", *NOT_SHAPING}
}
_MACHINE = {
    key.removeprefix("fm_mlflow."): "float64" if key.unit in ("GiB", "processes") else "string"
    for key in keys.all_keys()
    if key.startswith(keys.MACHINE_PREFIX)
}
_METRICS = {str(key): "float64" for key in keys.all_keys() if key.is_metric}


def runs_frame(runs: Iterable[TrainingRun]) -> pd.DataFrame:
    """Return a row a training run; `fm_mlflow.runs` says which columns."""
    rows = [
        {
            **{column: getattr(run, column, None) for column in _RUN},
            "run_name": run.name,
            "start_time": run.start_time or None,
            "seconds": (run.end_time - run.start_time) / 1000 if run.end_time else None,
            **_params(run.config, run),
            **{f"machine.{name}": value for name, value in run.machine.items()},
            **{_column(name, _RUN): value for name, value in run.metrics.items()},
        }
        for run in runs
    ]
    return _frame(rows, {**_RUN, **_PARAMS, **_MACHINE, **_METRICS}, "float64")


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """Return a row a group; `CompareResult.to_frame` says which columns."""
    best = comparison.best
    on_front = {name for f in comparison.fronts if f.metric == best.cost for name in f.on_front}
    rows = [
        {
            "model": group.name,
            "architecture": group.model,
            "runs": len(group.runs),
            "best": group.name == best.model,
            "contender": group.name in best.contenders,
            "on_front": group.name in on_front,
            "ranked": group.ranked,
            **_params(group.config, group.runs[0]),
        }
        for group in comparison.groups
    ]
    # A metric's own name is the longer, and so the later, where one is called `loss_sd`.
    measured = {
        _column(metric, _GROUP) + ("" if what == "mean" else f"_{what}"): column
        for (metric, what), column in statistics(comparison.groups).items()
    }
    return _frame(rows, {**_GROUP, **_PARAMS}).assign(**measured)


def statistics(groups: Sequence[Group]) -> dict[tuple[str, str], pd.Series]:
    """Return n, mean, sd, ci_low and ci_high of each metric, a value a group, by group name."""
    names = pd.Index([group.name for group in groups])
    return {
        (metric, what): pd.Series(
            [getattr(group.metrics.get(metric), what, None) for group in groups], names, dtype
        )
        for metric in sorted({name for group in groups for name in group.metrics})
        for what, dtype in _STATISTICS.items()
    }


def _params(config: Mapping[str, str], run: TrainingRun) -> dict[str, str]:
    config = {**(LATER_DEFAULTS if run.version else {}), **config}
    return {f"params.{name}": value for name, value in config.items()}


def _column(metric: str, others: Container[str]) -> str:
    """Return what a metric's column is called: as it was logged, where no other column is."""
    is_taken = metric in others or metric.startswith(("params.", "machine."))
    return f"metrics.{metric}" if is_taken else metric


def _frame(
    rows: Sequence[Mapping[str, object]], known: Mapping[str, str], other: str = "string"
) -> pd.DataFrame:
    """Return rows by their first column; columns that are not known are parameters or `other`."""
    types = dict(known)
    for name in sorted({name for row in rows for name in row} - known.keys()):
        types[name] = "string" if name.startswith(("params.", "machine.")) else other
    table = pd.DataFrame(rows, columns=list(types), dtype=object)
    columns = {name: _typed(table[name], dtype) for name, dtype in types.items()}
    return pd.DataFrame(columns).set_index(next(iter(known)))


def _typed(values: pd.Series, dtype: str) -> pd.Series:
    """Convert a column; what is of another type is missing: others log what they like."""
    if dtype in ("Int64", "float64"):
        values = pd.to_numeric(values, errors="coerce")
    if dtype == "Int64":
        # Not beyond what a float64, as which it comes, holds exactly.
        values = values.where((values % 1 == 0) & (values.abs() <= 2**53))
    if dtype.startswith("datetime64"):
        values = pd.to_datetime(values, unit="ms", utc=True, errors="coerce")
    return values.astype(pd.api.types.pandas_dtype(dtype))
