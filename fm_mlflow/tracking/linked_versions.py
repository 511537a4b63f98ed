"""Which versions a logged model has, as its own page shows them."""

from __future__ import annotations

import json
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.tracking import MlflowClient

from fm_mlflow.tracking.store import has_code

_VERSIONS = "mlflow.modelVersions"


def link_version(client: MlflowClient, model_uri: str, name: str, version: int) -> None:
    """Name a version on its model's page, unless that is done.

    MLflow does it as it makes the version, by a second request, which may never have been sent.
    Who may register somebody else's model may not write on its page: that is left as it is.

    Args:
        client: Of the tracking store.
        model_uri: The logged model, `models:/<id>`.
        name: The registered model.
        version: Its version.
    """
    model_id = model_uri.removeprefix("models:/")
    try:
        linked = _read(client.get_logged_model(model_id).tags.get(_VERSIONS))
        if (name, str(version)) not in {
            (each.get("name"), str(each.get("version"))) for each in linked
        }:
            text = json.dumps([*linked, {"name": name, "version": version}])
            client.set_logged_model_tags(model_id, {_VERSIONS: text})
    except MlflowException as error:
        if not has_code(error, codes.PERMISSION_DENIED, codes.RESOURCE_DOES_NOT_EXIST):
            raise


def _read(text: str | None) -> list[dict[str, Any]]:
    """Return what the tag lists; nothing where it is damaged."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
