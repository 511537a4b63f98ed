"""The records of a journal: what a run logs, typed, and how each kind reaches the store.

On the disk a record is a JSON object whose `type` is the class's `TYPE`. A field with a default is
left out where it holds that; fields that are unknown here are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from mlflow.entities import Metric, Param, Run, RunTag
from typing_extensions import Self, override

from fm_mlflow.errors import TrackingError
from fm_mlflow.tracking.outbox.batches import Item

if TYPE_CHECKING:
    from fm_mlflow.tracking.outbox.remote_run import RemoteRun


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
        values = [(each, getattr(self, each.name)) for each in fields(self)]
        written = {each.name: value for each, value in values if value != _default(each)}
        return {"type": self.TYPE, **written} if self.TYPE else written


def _default(each: Field[Any]) -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()


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

    def open(self, run: RemoteRun) -> Run:
        """Create the run of an offline start, or find the one whose creation we never heard of."""
        return run.open(
            self.run_id,
            self.experiment_id,
            self.experiment_name,
            start_time=self.start_time,
            tags=self.tags,
            run_name=self.name,
        )


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
            Metric(
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
        params = [Param(key, value) for key, value in self.params.items()]
        tags = [RunTag(key, value) for key, value in self.tags.items()]
        return [*metrics, *params, *tags]


@dataclass(frozen=True)
class Request(_Stored):
    """A record that takes requests of its own; delivered again, it changes nothing."""

    HAS_FILES: ClassVar[bool] = False
    """Whether it brings files, which do not hold up what follows them."""
    SUPERSEDED_BY: ClassVar[str] = ""
    """The type of a later record that leaves nothing of it to be delivered."""

    def deliver(self, run: RemoteRun, number: int) -> None:
        """Deliver the record, which has this number.

        Raises:
            StoreUnavailableError: The store does not answer.
            StoreRefusedError: It says no.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Dataset(Request):
    """A data set that is an input of the run: MLflow's description, and what it is for."""

    TYPE = "dataset"
    dataset: Mapping[str, Any]
    context: str

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        run.log_dataset(self.dataset, self.context)


@dataclass(frozen=True)
class Artifacts(Request):
    """A folder, by its path in the journal's, whose files become artifacts."""

    TYPE = "artifacts"
    HAS_FILES = True
    folder: str

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        run.log_artifacts(self.folder)


@dataclass(frozen=True)
class Checkpoint(Request):
    """A checkpoint, by its path in the journal's folder; only the newest is worth storing."""

    TYPE = SUPERSEDED_BY = "checkpoint"
    HAS_FILES = True
    file: str

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        run.log_checkpoint(self.file)


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
    HAS_FILES = True
    time: int
    folder: str
    size_bytes: int | None
    step: int
    params: Mapping[str, str]
    tags: Mapping[str, str]

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        model_id = run.state.models.get(str(number))
        if model_id is None:
            model_id = run.find_or_create_model(number, self.params, self.tags)
            run.state.models[str(number)] = model_id
        run.store_model(model_id, self.folder, self.step)


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
    model_ids: Sequence[str]

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
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
    time: int
    tags: Mapping[str, str]
    points: Sequence[tuple[str, int]]
    out_of_memory_kills: int | None = None

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        run.reopen()


@dataclass(frozen=True)
class End(Request):
    """How and when the run ended."""

    TYPE = "end"
    SUPERSEDED_BY = "reopen"
    status: str
    end_time: int

    @override
    def deliver(self, run: RemoteRun, number: int) -> None:
        run.end(self.status, self.end_time)


Record = RunStart | Batch | Request

_KINDS: dict[str, type[RunStart] | type[Batch] | type[Request]] = {
    RunStart.TYPE: RunStart,
    Batch.TYPE: Batch,
    **{kind.TYPE: kind for kind in Request.__subclasses__()},
}


def read_record(values: Mapping[str, Any]) -> Record:
    """Return the record that a JSON object holds.

    Raises:
        RecordError: Its type is unknown, or a field is missing.
    """
    kind = _KINDS.get(str(values.get("type")))
    if kind is None:
        raise RecordError(
            f"a record has the unknown type {values.get('type')!r}; "
            "a later version of fm_mlflow may know it"
        )
    return kind.read(values)
