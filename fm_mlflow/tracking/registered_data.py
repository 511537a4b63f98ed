"""Which data set a registered model belongs to, and what says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from mlflow.entities.model_registry import RegisteredModel
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.analysis.records import DataSet
from fm_mlflow.errors import InputError
from fm_mlflow.escaping import markdown
from fm_mlflow.process.redaction import redact_named
from fm_mlflow.results.register import GateError, RegisteredVersion
from fm_mlflow.settings.registered import CHAMPION, PREVIOUS
from fm_mlflow.tracking.candidate import find_training_run
from fm_mlflow.tracking.store import pages

_LONGEST_NAME = 200
_LONGEST_DIGEST = 64
_TAGGED = f"tags.`{keys.DATASET_DIGEST}` != ''"
_ABOUT = (
    f"Classifies grey images. `{CHAMPION}` is the version in use, `{PREVIOUS}` the one before it; "
    "both are moved by `fm-mlflow register`, which verifies a model first. "
    "Each version's description is its model card."
)


class OtherDataSetError(GateError):
    """A model of one data set may not become a version in a registered model of another."""

    def __init__(self, name: str, owner: DataSet, what: str, found: DataSet, advice: str) -> None:
        super().__init__(
            f"{name} belongs to another data set: {owner.exactly}; {what} is of {found.exactly}; "
            f"{advice}"
        )


def of_tags(tags: Mapping[str, str]) -> DataSet | None:
    """Return the data set that tags speak of, bounded; None where they speak of none."""
    name = tags.get(keys.DATASET, "")[:_LONGEST_NAME]
    digest = tags.get(keys.DATASET_DIGEST, "")[:_LONGEST_DIGEST]
    return DataSet(name, digest or None) if name or digest else None


def to_tags(data: DataSet) -> dict[str, str]:
    """Return the tags that speak of a data set."""
    tags = {keys.DATASET: data.name[:_LONGEST_NAME], keys.DATASET_DIGEST: data.digest}
    return {str(key): value for key, value in tags.items() if value}


def owner(
    model: RegisteredModel, versions: Sequence[RegisteredVersion]
) -> tuple[DataSet | None, str]:
    """Return the data set that a registered model belongs to.

    Where no tag says it, its champion does, else its latest version, else nobody.

    Args:
        model: The registered model.
        versions: Its versions, newest first.

    Returns:
        The data set, and where that comes from, in words; no words where a tag says it.
    """
    if tagged := of_tags(model.tags):
        return tagged, ""
    champion = [each for each in versions if CHAMPION in each.aliases]
    for version in [*champion, *versions[:1]]:
        if data := of_version(version):
            return (
                data,
                f"{model.name} has no record of its data set; version {version.version} has",
            )
    return None, f"{model.name} has no record of its data set; its first promotion decides"


def of_version(version: RegisteredVersion) -> DataSet | None:
    """Return the data set of a version, by its evidence, and what that lacks by its run."""
    data = of_tags(version.tags)
    if data is None or not (data.name and data.digest):
        with suppress(InputError):  # the run is gone, or somebody else's
            run = find_training_run(version.run_id or "").data_set
            if data is None or data.digest in (None, run.digest):
                return of_tags(to_tags(run))
    return data


def claim(client: MlflowClient, model: RegisteredModel, data: DataSet) -> None:
    """Record that a registered model belongs to a data set, where nothing is recorded."""
    tagged = of_tags(model.tags)
    if data.digest is None or (tagged is not None and tagged.digest is not None):
        return
    if model.description in ("", None, about()):
        client.update_registered_model(model.name, about(data))
    for name, value in to_tags(data).items():
        client.set_registered_model_tag(model.name, name, redact_named(name, value))


def about(data: DataSet | None = None) -> str:
    """Return the description of a registered model, as Markdown."""
    return f"{_ABOUT} All are of the data set {markdown(data.exactly)}." if data else _ABOUT


def recorded(client: MlflowClient) -> dict[str, DataSet]:
    """Return the registered models whose data set is recorded, each with it."""
    found = pages(client.search_registered_models, _TAGGED)
    return {model.name: data for model in found if (data := of_tags(model.tags))}
