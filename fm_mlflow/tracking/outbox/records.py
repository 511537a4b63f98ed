"""The records of a journal: what a run logs, typed, and how each kind reaches the store.

On the disk a record is a JSON object whose `type` is the class's `TYPE`. A field with a default is
left out where it holds that; fields that are unknown here are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

from mlflow import entities
from typing_extensions import Self, override

from fm_mlflow import keys
from fm_mlflow.errors import TrackingError
from fm_mlflow.tracking.outbox.remote_run import Item, RemoteRun
from fm_mlflow.tracking.save_model import sign_model
from fm_mlflow.tracking.store import experiment_of


class RecordError(TrackingError):
    """A journal has a record of a type that is unknown here, or that lacks a field."""


@dataclass(frozen=True)
class _Stored:
    """Values that are read from JSON and written to it."""

    TYPE: ClassVar[str] = ""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return what a JSON object holds.

        Raises:
            RecordError: A field is missing.
        """
        names = {each.name for each in fields(cls)}
        try:
            return cls(**{name: value for name, value in values.items() if name in names})
        except TypeError as error:
            raise RecordError(f"a record is not complete: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object; values of it may be `_Stored` in turn."""
        written = {"type": self.TYPE} if self.TYPE else {}
        for each in fields(self):
            factory = each.default_factory
            value = getattr(self, each.name)
            if value != (each.default if factory is MISSING else factory()):
                written[each.name] = value
        return written


@dataclass(frozen=True)
class RunStart(_Stored):
    """The header: which run it is.

    Attributes:
        uri: The tracking URI, its password hidden.
        run_id: The run that is joined; None where one is to be created.
        owned: Whether the run is ours to end.
        name: The run's name.
        start_time: In milliseconds since 1970, as all times here.
        experiment_id: Where the run is to be created, if that is known.
        experiment_name: The same by name.
        tags: What to set on it.
        out_of_memory_kills: How many processes the kernel had killed for want of memory by then.
        settings: What the run is to do.
    """

    TYPE = "run"
    uri: str
    run_id: str | None
    owned: bool
    name: str
    start_time: int
    experiment_id: str | None
    experiment_name: str | None
    tags: Mapping[str, str]
    out_of_memory_kills: int | None = None
    settings: Mapping[str, Any] | None = None

    def open(self, run: RemoteRun) -> entities.Run:
        """Return the run that is joined, the one that has the journal's tag already, or a new one.

        Without an experiment's id or name a new one goes to MLflow's default experiment.
        """
        with run.errors("open a run"):
            if self.run_id is not None:
                return run.client.get_run(self.run_id)
            named = self.experiment_name
            experiment = self.experiment_id or (experiment_of(run.client, named) if named else "0")
            found = run.client.search_runs(
                [experiment], f"tags.`{keys.JOURNAL}` = '{run.folder.name}'", max_results=1
            )
            if found:
                return found[0]
            tags = dict(self.tags)
            return run.client.create_run(experiment, self.start_time, tags, self.name)


@dataclass(frozen=True)
class Point(_Stored):
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

    key: str
    value: float
    timestamp: int
    step: int
    of_model: bool = False
    dataset_name: str | None = None
    dataset_digest: str | None = None


@dataclass(frozen=True)
class Batch(_Stored):
    """Points, parameters and tags."""

    TYPE = "batch"
    metrics: Sequence[Point] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    @override
    def read(cls, values: Mapping[str, Any]) -> Self:
        points = tuple(Point.read(each) for each in values.get("metrics", ()))
        return super().read({**values, "metrics": points})

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
class Request(_Stored):
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
    context: str

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        dataset: Any = entities.Dataset.from_dictionary(dict(self.dataset))
        tag = entities.InputTag(keys.MLFLOW_DATASET_CONTEXT, self.context)
        run.client.log_inputs(run.run_id, datasets=[entities.DatasetInput(dataset, [tag])])


@dataclass(frozen=True)
class Artifacts(Request):
    """A folder, by its path in the journal's, whose files become artifacts."""

    TYPE = "artifacts"
    ACTION = "log artifacts"
    HAS_FILES = True
    folder: str

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        run.client.log_artifacts(run.run_id, str(run.file(self.folder)))


@dataclass(frozen=True)
class Checkpoint(Request):
    """A checkpoint, by its path in the journal's folder; only the newest is worth storing."""

    TYPE = SUPERSEDED_BY = "checkpoint"
    ACTION = "store a checkpoint"
    HAS_FILES = True
    file: str

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        path = run.file(self.file)
        if path.exists():
            run.client.log_artifact(run.run_id, str(path), keys.CHECKPOINT_FOLDER)


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
    """

    TYPE = "model"
    ACTION = "log the model"
    HAS_FILES = True
    time: int
    folder: str
    size_bytes: int | None
    step: int
    params: Mapping[str, str]
    tags: Mapping[str, str]

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        folder = run.file(self.folder)
        model_id = run.find_or_create_model(number, self.params, self.tags)
        outputs = run.client.get_run(run.run_id).outputs
        linked = [each.model_id for each in outputs.model_outputs] if outputs else []
        if model_id not in linked:
            run.client.log_outputs(run.run_id, [entities.LoggedModelOutput(model_id, self.step)])
        sign_model(folder, run.client.get_logged_model(model_id), run.run_id)
        run.client.log_model_artifacts(model_id, str(folder))
        run.client.finalize_logged_model(model_id, entities.LoggedModelStatus.READY)


@dataclass(frozen=True)
class KnownModel(Request):
    """A logged model that the store has, though this journal does not."""

    TYPE = "known_model"
    model_id: str

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        run.state.models[str(number)] = self.model_id


@dataclass(frozen=True)
class LinkedModels(Request):
    """Logged models that are inputs of the run: it is about them."""

    TYPE = "models"
    ACTION = "link models"
    model_ids: Sequence[str]

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
    time: int
    tags: Mapping[str, str]
    points: Sequence[tuple[str, int]]
    out_of_memory_kills: int | None = None

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
    status: str
    end_time: int

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        run.client.set_terminated(run.run_id, self.status, self.end_time)


Record = RunStart | Batch | Request


def read_record(values: Mapping[str, Any]) -> Record:
    """Return the record that a JSON object holds.

    Raises:
        RecordError: Its type is unknown, or a field is missing.
    """
    kinds: list[type[Record]] = [RunStart, Batch, *Request.__subclasses__()]
    for kind in kinds:
        if values.get("type") == kind.TYPE:
            return kind.read(values)
    raise RecordError(
        f"a record has the unknown type {values.get('type')!r}; "
        "a later version of fm_mlflow may know it"
    )
