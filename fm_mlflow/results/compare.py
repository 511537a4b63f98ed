"""What `compare` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fm_mlflow.analysis.comparison import Comparison


@dataclass(frozen=True)
class CompareResult:
    """A comparison, and where its report is.

    Attributes:
        run_id: The run of kind `comparison` that holds the report.
        experiment_id: Id of its experiment.
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
