"""Links between runs and the models that they are about, as the MLflow UI shows them."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow.entities import LoggedModelInput
from mlflow.tracking import MlflowClient

from fm_mlflow.tracking.store import store_errors


def link_models(run_id: str, model_uris: Iterable[str | None]) -> None:
    """Record logged models (`models:/<id>`) as inputs of a run; None stands for no model."""
    models = [LoggedModelInput(uri.removeprefix("models:/")) for uri in model_uris if uri]
    if models:
        with store_errors("link models"):
            MlflowClient().log_inputs(run_id, models=models)
