"""The records of a journal: what a run logs, typed, and how each kind reaches the store.

On the disk a record is a JSON object whose `type` is the class's `TYPE`. A field with a default is
left out where it holds that; fields that are unknown here are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from mlflow import entities
from pydantic import FailFast, StrictBool
from typing_extensions import override

from fm_mlflow import keys
from fm_mlflow.tracking.artifacts import sync_stored
from fm_mlflow.tracking.experiment import experiments_of_journal
from fm_mlflow.tracking.outbox.remote_run import Item, RemoteRun, check_sizes
from fm_mlflow.tracking.outbox.schema import (
    Number,
    RecordError,
    Sizes,
    Stored,
    Text,
    Texts,
    Whole,
    excerpt,
)
from fm_mlflow.tracking.save_model import MODEL_FILE, sign_model


@dataclass(frozen=True)
class Unreadable(Stored):
    """Stands for a record that cannot be read, so that those after it keep their numbers."""


@dataclass(frozen=True)
class RunStart(Stored):
    """The header: which run it is.

    Attributes:
        uri: The tracking URI, its password hidden.
        run_id: The run that is joined; None where one is to be created.
        owned: Whether the run is ours to end.
        name: The run's name.
        start_time: In milliseconds since 1970, as all times here.
        experiment_id: Where the run is to be created, if that is known.
        experiment_name: The same by name; empty where nobody chose one.
        tags: What to set on it.
        out_of_memory_kills: How many processes the kernel had killed for want of memory by then.
        settings: What the run is to do.
    """

    TYPE = "run"
    uri: Text
    run_id: Text | None
    owned: StrictBool
    name: Text
    start_time: Whole
    experiment_id: Text | None
    experiment_name: Text | None
    tags: Texts
    out_of_memory_kills: Whole | None = None
    settings: Mapping[str, Any] | None = None

    def open(self, run: RemoteRun) -> entities.Run:
        """Return the run that is joined, the one that has the journal's tag already, or a new one.

        `experiments_of_journal` says in which experiment.
        """
        with run.errors("open a run"):
            if self.run_id is not None:
                return run.client.get_run(self.run_id)
            experiments = experiments_of_journal(
                run.client, self.experiment_id, self.experiment_name
            )
            found = run.client.search_runs(
                experiments, f"tags.`{keys.JOURNAL}` = '{run.folder.name}'", max_results=1
            )
            if found:
                return found[0]
            tags = dict(self.tags)
            return run.client.create_run(experiments[0], self.start_time, tags, self.name)


@dataclass(frozen=True, slots=True)
class Point(Stored):
    """One value of a metric.

    Attributes:
        key: The metric's name.
        value: NaN and infinities included.
        timestamp: In milliseconds since 1970.
        step: The epoch, from 1; 0 for values of the whole run.
        of_model: Whether it is linked to the run's newest model.
        dataset_name: What it was measured on.
        dataset_digest: The contents of that.
    """

    key: Text
    value: Number
    timestamp: Whole
    step: Whole
    of_model: StrictBool = False
    dataset_name: Text | None = None
    dataset_digest: Text | None = None


@dataclass(frozen=True)
class Batch(Stored):
    """Points, parameters and tags."""

    TYPE = "batch"
    metrics: Annotated[tuple[Point, ...], FailFast()] = ()
    params: Texts = field(default_factory=dict)
    tags: Texts = field(default_factory=dict)

    def items(self, run_id: str | None, model_id: str | None) -> list[Item]:
        """Return what is to be logged.

        Args:
            run_id: Of the run in the store.
            model_id: Of the logged model that was the run's newest when it was recorded.
        """
        metrics = [
            entities.Metric(
                point.key,
                point.value,
                point.timestamp,
                point.step,
                model_id=model_id if point.of_model else None,
                dataset_name=point.dataset_name,
                dataset_digest=point.dataset_digest,
                run_id=run_id,
            )
            for point in self.metrics
        ]
        params = [entities.Param(key, value) for key, value in self.params.items()]
        tags = [entities.RunTag(key, value) for key, value in self.tags.items()]
        return [*metrics, *params, *tags]


@dataclass(frozen=True)
class Request(Stored):
    """A record that takes requests of its own; delivered again, it changes nothing."""

    ACTION: ClassVar[str] = ""
    """What delivering it does, for the errors of the store."""
    HAS_FILES: ClassVar[bool] = False
    """Whether it brings files, which do not hold up what follows them."""
    SUPERSEDED_BY: ClassVar[str] = ""
    """The type of a later record that leaves nothing of it to be delivered."""

    def deliver(self, run: RemoteRun, number: int) -> None:
        """Deliver the record, which has this number; raises what MLflow does."""
        raise NotImplementedError


@dataclass(frozen=True)
class Dataset(Request):
    """A data set that is an input of the run: MLflow's description, and what it is for."""

    TYPE = "dataset"
    ACTION = "log a data set"
    dataset: Mapping[str, Any]
    context: Text

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        dataset: Any = entities.Dataset.from_dictionary(dict(self.dataset))
        tag = entities.InputTag(keys.MLFLOW_DATASET_CONTEXT, self.context)
        run.client.log_inputs(run.run_id, datasets=[entities.DatasetInput(dataset, [tag])])


@dataclass(frozen=True)
class Artifacts(Request):
    """A folder whose files become artifacts.

    Attributes:
        folder: Its path in the journal's folder.
        files: Bytes of each file, by its path in the folder; version 0.1.0 did not write it.
    """

    TYPE = "artifacts"
    ACTION = "log artifacts"
    HAS_FILES = True
    folder: Text
    files: Sizes = field(default_factory=dict)

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        folder = run.file(self.folder)
        run.client.log_artifacts(run.run_id, str(folder))
        check_sizes(folder, self.files)
        sync_stored(run.state.artifact_uri or "", folder)


@dataclass(frozen=True)
class Checkpoint(Request):
    """A checkpoint, by its path in the journal's folder; only the newest is worth storing."""

    TYPE = SUPERSEDED_BY = "checkpoint"
    ACTION = "store a checkpoint"
    HAS_FILES = True
    file: Text

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        path = run.file(self.file)
        run.client.log_artifact(run.run_id, str(path), keys.CHECKPOINT_FOLDER)
        sync_stored(f"{run.state.artifact_uri}/{keys.CHECKPOINT_FOLDER}", path)


@dataclass(frozen=True)
class Model(Request):
    """A saved model.

    Attributes:
        time: When it was logged.
        folder: Its path in the journal's folder.
        size_bytes: All its files together, as MLflow counts them; None where it does not.
        step: 0; of a run that was extended, its epochs.
        params: Shown on the model's page.
        tags: Set on the model.
        files: Bytes of each file but MLmodel, which is still to be signed; by its path in the
            folder. Version 0.1.0 did not write it.
    """

    TYPE = "model"
    ACTION = "log the model"
    HAS_FILES = True
    time: Whole
    folder: Text
    size_bytes: Whole | None
    step: Whole
    params: Texts
    tags: Texts
    files: Sizes = field(default_factory=dict)

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        folder = run.file(self.folder)
        check_sizes(run.file(f"{self.folder}/{MODEL_FILE}").parent, self.files)
        model_id = run.find_or_create_model(number, self.params, self.tags)
        outputs = run.client.get_run(run.run_id).outputs
        linked = [each.model_id for each in outputs.model_outputs] if outputs else []
        if model_id not in linked:
            run.client.log_outputs(run.run_id, [entities.LoggedModelOutput(model_id, self.step)])
        logged = run.client.get_logged_model(model_id)
        sign_model(folder, logged, run.run_id)
        run.client.log_model_artifacts(model_id, str(folder))
        sync_stored(str(logged.artifact_location), folder)
        run.client.finalize_logged_model(model_id, entities.LoggedModelStatus.READY)


@dataclass(frozen=True)
class KnownModel(Request):
    """A logged model that the store has, though this journal does not."""

    TYPE = "known_model"
    model_id: Text

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        run.state.models[str(number)] = self.model_id


@dataclass(frozen=True)
class LinkedModels(Request):
    """Logged models that are inputs of the run: it is about them."""

    TYPE = "models"
    ACTION = "link models"
    model_ids: Annotated[tuple[Text, ...], FailFast()]

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        if self.model_ids:
            run.link_models(self.model_ids)


@dataclass(frozen=True)
class Reopen(Request):
    """Another process resumes the run.

    Attributes:
        time: When.
        tags: What is set on the run, the new process's identity among it.
        points: What the run has logged by then: metric and step.
        out_of_memory_kills: How many processes the kernel had killed for want of memory by then.
    """

    TYPE = "reopen"
    ACTION = "reopen the run"
    time: Whole
    tags: Texts
    points: Annotated[tuple[tuple[Text, Whole], ...], FailFast()]
    out_of_memory_kills: Whole | None = None

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        run.client.update_run(run.run_id, status=keys.RUNNING)
        # It told how an earlier part ended; the run has not ended now.
        if keys.ERROR in run.client.get_run(run.run_id).data.tags:
            run.client.delete_tag(run.run_id, keys.ERROR)


@dataclass(frozen=True)
class End(Request):
    """How and when the run ended."""

    TYPE = "end"
    ACTION = "close the run"
    SUPERSEDED_BY = "reopen"
    status: Text
    end_time: Whole

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        run.client.set_terminated(run.run_id, self.status, self.end_time)


Record = RunStart | Batch | Request | Unreadable


def read_record(values: Mapping[str, Any]) -> Record:
    """Return the record that a JSON object holds.

    Raises:
        RecordError: Its type is unknown, or a field is missing or of another type.
    """
    kinds: list[type[Record]] = [RunStart, Batch, *Request.__subclasses__()]
    for kind in kinds:
        if values.get("type") == kind.TYPE:
            return kind.read(values)
    raise RecordError(
        f"a record has the unknown type {excerpt(values.get('type'))}; "
        "a later version of fm_mlflow may know it"
    )
