"""Brings a journal into the store: in order, in batches, any number of times with one result.

Every request can be repeated: points, parameters, tags and inputs that the store has already are
not doubled by it, and a run or a model whose creation was not acknowledged is found again by its
tag `fm_mlflow.journal`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from fm_mlflow import keys
from fm_mlflow.errors import TrackingError
from fm_mlflow.tracking.journal import Journal, Record, journal_root
from fm_mlflow.tracking.params import same_value
from fm_mlflow.tracking.store import (
    StoreDeniedError,
    StoreFailedError,
    StoreRefusedError,
    StoreUnavailableError,
    check_reachable,
    prepare,
    store_errors,
)

# MLflow's limits of one request.
_MAX_METRICS = 1000
_MAX_OTHERS = 100

_CHECKPOINT_SECONDS = 60

Item = Metric | Param | RunTag
ItemT = TypeVar("ItemT", Metric, Param, RunTag)


class RunGoneError(StoreRefusedError):
    """The run was deleted in the store."""


class Delivery:
    """Delivers one journal to one store.

    Args:
        journal: Open, and so locked by this process.
        uri: The tracking URI, with its password if it has one.
    """

    def __init__(self, journal: Journal, uri: str) -> None:
        self.journal = journal
        self._uri = uri
        self._connected: MlflowClient | None = None
        self._known_params: dict[str, str] | None = None
        self._next_checkpoint = 0.0
        self.final = False
        """Nothing more will come: even a checkpoint that another one might replace is due."""
        self._handlers: dict[str, Callable[[int, Record], None]] = {
            "dataset": self._log_dataset,
            "artifacts": self._log_artifacts,
            "checkpoint": self._log_checkpoint,
            "model": self._log_model,
            "known_model": self._note_model,
            "models": self._link_models,
            "reopen": self._reopen,
            "end": self._end,
        }

    @property
    def pending(self) -> int:
        """How many records the store does not have yet, refused ones left out."""
        state = self.journal.state
        return len(self.journal) - state.position + len(state.deferred)

    @property
    def complete(self) -> bool:
        """Whether the store has everything."""
        return not self.pending and not self.journal.state.refused and not self.journal.damaged

    def deliver(self, *, retry_refused: bool = False) -> None:
        """Deliver all that can be delivered now.

        Files that cannot be stored do not hold up what follows them: they are deferred, and tried
        again by the next call.

        Args:
            retry_refused: Try once more what the store has refused.

        Raises:
            StoreUnavailableError: The store does not answer.
            RunGoneError: The run was deleted: nothing more can be delivered.
            StoreRefusedError: The run cannot be created.
        """
        check_reachable(self._uri)
        self._connect()
        state = self.journal.state
        if retry_refused:
            state.deferred.update(state.refused)
            state.refused.clear()
        if state.run_id is None:
            self._open_run(self.journal[0])
        deferred = sorted(state.deferred, key=int)
        while state.position < len(self.journal):
            self._deliver_next()
            self.journal.save_state()
        for number in deferred:
            del state.deferred[number]
            self._deliver_record(int(number))
            self.journal.save_state()

    def _connect(self) -> None:
        """Open the store, which MLflow does in the making of a client."""
        if self._connected is None:
            prepare(self._uri, journal_root().parent / "locks")
            with store_errors("open the store", self._uri):
                self._connected = MlflowClient(tracking_uri=self._uri)

    @property
    def _client(self) -> MlflowClient:
        if self._connected is None:
            raise RuntimeError("nothing is delivered yet")
        return self._connected

    def heartbeat(self) -> None:
        """Tell the store that the run lives.

        Raises:
            StoreUnavailableError: The store does not answer.
            StoreRefusedError: The run is not there, or may not be changed.
        """
        run_id = self.journal.state.run_id
        if run_id is not None:
            check_reachable(self._uri)
            with store_errors("set a tag", self._uri):
                self._client.set_tag(run_id, keys.HEARTBEAT, utc_now())

    def _deliver_next(self) -> None:
        """Deliver the record at the position, and all batches that follow it in one request."""
        state = self.journal.state
        items: list[Item] = []
        end = state.position
        while end < len(self.journal) and self.journal[end]["type"] == "batch":
            more = self._items(end)
            if items and not _fits([*items, *more]):
                break
            items += more
            end += 1
        if end == state.position:
            self._deliver_record(end)
            state.position = end + 1
        elif end == state.position + 1:
            self._deliver_record(state.position)
            state.position = end
        else:
            try:
                self._log_batch(items)
            except (StoreRefusedError, StoreFailedError):
                end = state.position + 1
                self._deliver_record(state.position)  # alone, to find the culprit
            state.position = end

    def _deliver_record(self, number: int) -> None:
        """Deliver one record; what the store refuses is noted, and so are files it cannot take."""
        record, state = self.journal[number], self.journal.state
        if record["type"] == "batch":
            self._bisect(number, self._items(number))
        elif record["type"] == "run":
            self._tag_run(record)
        else:
            try:
                self._handlers[record["type"]](number, record)
            except RunGoneError:
                raise
            except StoreRefusedError as error:
                self._check_run()
                state.refused[str(number)] = str(error)
            except StoreUnavailableError as error:
                if record["type"] not in ("artifacts", "model", "checkpoint"):
                    raise
                if isinstance(error, StoreDeniedError):
                    raise
                # Where the tracking server answers, it is the artifact store that does not.
                self.heartbeat()
                state.deferred[str(number)] = str(error)

    def _open_run(self, header: Record) -> None:
        """Create the run of an offline start, or find the one whose creation we never heard of."""
        state = self.journal.state
        with store_errors("open a run", self._uri):
            if header["run_id"] is not None:
                run = self._client.get_run(header["run_id"])
            else:
                experiment = self._experiment(header)
                run = self._find_run(experiment) or self._client.create_run(
                    experiment,
                    start_time=header["start_time"],
                    tags=header["tags"],
                    run_name=header["name"],
                )
        self.bind(run)
        state.position = 0
        self.journal.save_state()

    def bind(self, run: Run) -> None:
        """Note which run in the store is the journal's."""
        state = self.journal.state
        state.run_id = str(run.info.run_id)
        state.experiment_id = str(run.info.experiment_id)
        state.artifact_uri = str(run.info.artifact_uri)

    def _find_run(self, experiment: str) -> Run | None:
        found = self._client.search_runs(
            [experiment], f"tags.`{keys.JOURNAL}` = '{self.journal.journal_id}'", max_results=1
        )
        return found[0] if found else None

    def _experiment(self, header: Record) -> str:
        if header["experiment_id"]:
            return str(header["experiment_id"])
        name = header["experiment_name"]
        if not name:
            return "0"
        experiment = self._client.get_experiment_by_name(name)
        return str(experiment.experiment_id if experiment else self._client.create_experiment(name))

    def _tag_run(self, header: Record) -> None:
        """Set the tags of a run that was joined or created before it was heard of."""
        self._bisect(0, [RunTag(key, value) for key, value in header["tags"].items()])

    def _items(self, number: int) -> list[Item]:
        record, state = self.journal[number], self.journal.state
        model_id = state.model_before(number)
        metrics = [
            Metric(
                point["key"],
                point["value"],
                point["timestamp"],
                point["step"],
                model_id=model_id if point.get("of_model") else None,
                dataset_name=point.get("dataset_name"),
                dataset_digest=point.get("dataset_digest"),
                run_id=state.run_id,
            )
            for point in record.get("metrics", [])
        ]
        params = [Param(key, value) for key, value in record.get("params", {}).items()]
        tags = [RunTag(key, value) for key, value in record.get("tags", {}).items()]
        return [*metrics, *params, *tags]

    def _bisect(self, number: int, items: list[Item]) -> None:
        """Log what the store takes, and note what it refuses."""
        if not items:
            return
        chunk = _of_one_request(items)
        try:
            self._log_batch(chunk)
        except StoreDeniedError:
            raise
        except (StoreRefusedError, StoreFailedError) as error:
            if isinstance(error, StoreFailedError):
                self.heartbeat()  # it is well otherwise: then it is this very request
            self._check_run()
            if len(chunk) > 1:
                self._bisect(number, chunk[: len(chunk) // 2])
                self._bisect(number, chunk[len(chunk) // 2 :])
            elif not self._is_there(chunk[0]):
                refused = self.journal.state.refused
                reason = f"{chunk[0].key}: {error}"
                refused[str(number)] = "; ".join(filter(None, [refused.get(str(number)), reason]))
        self._bisect(number, items[len(chunk) :])

    def _is_there(self, item: Item) -> bool:
        """Tell whether a refused parameter is there already, maybe in another spelling."""
        if not isinstance(item, Param):
            return False
        if self._known_params is None:
            with store_errors("read the run", self._uri):
                self._known_params = dict(self._client.get_run(self._run_id).data.params)
        return item.key in self._known_params and same_value(
            self._known_params[item.key], item.value
        )

    @property
    def _run_id(self) -> str:
        run_id = self.journal.state.run_id
        if run_id is None:
            raise RuntimeError("there is no run yet")
        return run_id

    def _check_run(self) -> None:
        try:
            with store_errors("find the run", self._uri):
                run = self._client.get_run(self._run_id)
        except StoreRefusedError as error:
            raise RunGoneError(str(error)) from error
        if run.info.lifecycle_stage == LifecycleStage.DELETED:
            raise RunGoneError(f"run {self._run_id} was deleted in the store")

    def _log_batch(self, items: list[Item]) -> None:
        with store_errors("log", self._uri):
            self._client.log_batch(
                self._run_id,
                metrics=_only(items, Metric),
                params=_only(items, Param),
                tags=_only(items, RunTag),
            )

    def _log_dataset(self, _number: int, record: Record) -> None:
        names = ("name", "digest", "source_type", "source", "schema", "profile")
        dataset = Dataset(**{name: record["dataset"].get(name) for name in names})
        tag = InputTag(MLFLOW_DATASET_CONTEXT, record["context"])
        with store_errors("log a data set", self._uri):
            self._client.log_inputs(self._run_id, datasets=[DatasetInput(dataset, [tag])])

    def _log_artifacts(self, _number: int, record: Record) -> None:
        with store_errors("log artifacts", self._uri):
            self._client.log_artifacts(self._run_id, str(self.journal.folder / record["folder"]))

    def _log_checkpoint(self, number: int, record: Record) -> None:
        """Store the newest checkpoint only, and not too often: another one comes each epoch."""
        newest = next(
            each
            for each in range(len(self.journal) - 1, -1, -1)
            if self.journal[each]["type"] == "checkpoint"
        )
        if newest != number or not (self.journal.folder / record["file"]).exists():
            return
        if not self.final and time.monotonic() < self._next_checkpoint:
            self.journal.state.deferred[str(number)] = "checkpoints are stored once a minute"
            return
        with store_errors("store a checkpoint", self._uri):
            self._client.log_artifact(
                self._run_id, str(self.journal.folder / record["file"]), keys.CHECKPOINT_FOLDER
            )
        self._next_checkpoint = time.monotonic() + _CHECKPOINT_SECONDS

    def _log_model(self, number: int, record: Record) -> None:
        state = self.journal.state
        folder = self.journal.folder / record["folder"]
        model_id = state.models.get(str(number))
        if model_id is None:
            with store_errors("log the model", self._uri):
                model_id = self._create_model(number, record)
            state.models[str(number)] = model_id
            self.journal.save_state()
        with store_errors("log the model", self._uri):
            outputs = self._client.get_run(self._run_id).outputs
            linked = [model.model_id for model in outputs.model_outputs] if outputs else []
            if model_id not in linked:
                self._client.log_outputs(
                    self._run_id, [LoggedModelOutput(model_id, step=record["step"])]
                )
            model = self._client.get_logged_model(model_id)
            _sign(folder, model, self._run_id)
            self._client.log_model_artifacts(model_id, str(folder))
            self._client.finalize_logged_model(model_id, "READY")

    def _note_model(self, number: int, record: Record) -> None:
        self.journal.state.models[str(number)] = record["model_id"]

    def _link_models(self, _number: int, record: Record) -> None:
        models = [LoggedModelInput(model_id) for model_id in record["model_ids"]]
        if models:
            with store_errors("link models", self._uri):
                self._client.log_inputs(self._run_id, models=models)

    def _create_model(self, number: int, record: Record) -> str:
        identity = f"{self.journal.journal_id}/{number}"
        found = self._client.search_logged_models(
            [str(self.journal.state.experiment_id)],
            f"tags.`{keys.JOURNAL}` = '{identity}'",
            max_results=1,
        )
        if found:
            return str(found[0].model_id)
        created = self._client.create_logged_model(
            str(self.journal.state.experiment_id),
            name=keys.MODEL_NAME,
            source_run_id=self._run_id,
            params={**record["params"], **self._client.get_run(self._run_id).data.params},
            tags={**record["tags"], keys.JOURNAL: identity},
        )
        return str(created.model_id)

    def _reopen(self, _number: int, _record: Record) -> None:
        with store_errors("reopen the run", self._uri):
            self._client.update_run(self._run_id, status="RUNNING")
            # It told how an earlier part ended; the run has not ended now.
            if keys.ERROR in self._client.get_run(self._run_id).data.tags:
                self._client.delete_tag(self._run_id, keys.ERROR)

    def _end(self, number: int, record: Record) -> None:
        later = (self.journal[each] for each in range(number + 1, len(self.journal)))
        if any(each["type"] == "reopen" for each in later):
            return  # the run was resumed since
        with store_errors("close the run", self._uri):
            self._client.set_terminated(self._run_id, record["status"], record["end_time"])


def what_is_pending(delivery: Delivery, reason: TrackingError | None) -> str:
    """Say in one line what of a journal the store does not have, why, and what to do."""
    journal, state = delivery.journal, delivery.journal.state
    texts = []
    if delivery.pending:
        why = str(reason) if reason else next(iter(state.deferred.values()), "no time was left")
        texts.append(
            f"{delivery.pending} records of run {state.run_id or journal.journal_id} are not in "
            f"the store yet; `fm-mlflow sync` delivers them from {journal.folder} ({why})"
        )
    if state.refused:
        number, why = next(iter(state.refused.items()))
        texts.append(
            f"{len(state.refused)} records of run {state.run_id} were refused by the store, first "
            f"record {number}: {why}; they are kept in {journal.folder}"
        )
    if journal.damaged:
        texts.append(f"{journal.damaged} lines of {journal.folder} are damaged and were left out")
    return "; ".join(texts)


def utc_now() -> str:
    """Return the time of day for a tag."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _only(items: list[Item], kind: type[ItemT]) -> list[ItemT]:
    return [item for item in items if isinstance(item, kind)]


def _fits(items: list[Item]) -> bool:
    metrics, params, tags = _only(items, Metric), _only(items, Param), _only(items, RunTag)
    names = {param.key for param in params}
    return (
        len(metrics) <= _MAX_METRICS
        and len(params) <= _MAX_OTHERS
        and len(tags) <= _MAX_OTHERS
        and len(items) <= _MAX_METRICS
        and len(names) == len(params)
        # Of one tag set twice, the store might keep the earlier value.
        and len({tag.key for tag in tags}) == len(tags)
    )


def _of_one_request(items: list[Item]) -> list[Item]:
    return items if _fits(items) else list(islice(items, _MAX_OTHERS))


def _sign(folder: Path, logged: Any, run_id: str) -> None:
    """Write into the saved model which logged model of which run it is."""
    from mlflow.models import Model

    model = Model.load(str(folder))
    if model.model_id != logged.model_id:
        model.model_id = model.model_uuid = logged.model_id
        model.artifact_path, model.run_id = logged.artifact_location, run_id
        model.save(str(folder / "MLmodel"))
