"""What `compare` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from fm_mlflow.analysis.comparison import Comparison


@dataclass(frozen=True)
class CompareResult:
    """A comparison, and where its report is.

    Attributes:
        run_id: The run of kind `comparison` that holds the report.
        tracking_uri: The store, any password hidden.
        artifact_uri: Where the run's artifacts are.
        files: Paths of the report's files in the output folder, by name.
        comparison: Everything that they say.
    """

    run_id: str
    experiment_id: str
    tracking_uri: str
    artifact_uri: str
    files: dict[str, str]
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        from fm_mlflow.analysis.to_json import to_json_dict

        own = {name: value for name, value in vars(self).items() if name != "comparison"}
        return own | to_json_dict(self.comparison)

    def to_frame(self) -> pd.DataFrame:
        """Return the comparison as a data frame, a row a model, most accurate first.

        The index `model` names the model as the report does. Columns: `architecture`, `runs` (how
        many), `best`, `contender` (not distinguishable in accuracy from the most accurate),
        `on_front` (the Pareto front of accuracy against the cost that decides), `ranked`; the
        parameters as `params.epochs`; and of each metric the mean under its logged name
        (`test_accuracy`), beside it `_n`, `_sd`, `_ci_low` and `_ci_high` (95% interval of the
        mean). What was not measured is missing.
        """
        from fm_mlflow.results.frames import comparison_frame

        return comparison_frame(self.comparison)
