"""Finding a run to be resumed: on this machine by its journal, elsewhere by its artifacts."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlflow
from mlflow.entities import LoggedModelStatus, Run
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.errors import InputError, TrackingError
from fm_mlflow.process.file_lock import FileLock, LockedError
from fm_mlflow.process.temporary import temporary_folder
from fm_mlflow.results.recovery import Verdict
from fm_mlflow.tracking.outbox import records
from fm_mlflow.tracking.outbox.journal import Journal, open_journal
from fm_mlflow.tracking.outbox.remote_run import journal_of
from fm_mlflow.tracking.outbox.roots import confined, lock_folder
from fm_mlflow.tracking.outbox.schema import excerpt
from fm_mlflow.tracking.ownership import Resumption
from fm_mlflow.tracking.recovery import journal_uri
from fm_mlflow.tracking.running import judge
from fm_mlflow.tracking.store import StoreUnavailableError, check_reachable, store_errors

_log = logging.getLogger(__name__)

_SILENT_SECONDS = 120
"""Another host's run that has shown nothing for so long is taken over when a person says so."""


@dataclass(frozen=True)
class Resumable:
    """A run that can be resumed.

    Attributes:
        resumption: What the tracked run needs to know.
        settings: What it was to do; None where only its checkpoint knows.
        folders: Where its checkpoints are.
        finished: Whether it has finished.
        extended_epochs: How far it was extended; None where it was not.
        parts: How many processes have trained it so far.
    """

    resumption: Resumption
    settings: Mapping[str, Any] | None
    folders: list[Path]
    finished: bool
    extended_epochs: int | None
    parts: int


@contextmanager
def resumable(
    run_id: str,
    store: str = "",
    kind: str = keys.KIND_TRAINING,
    *,
    take_over: bool = False,
) -> Iterator[Resumable]:
    """Find a run and keep others from resuming it; its store is the active one meanwhile.

    Args:
        run_id: Its id in the store, or that of its journal.
        store: Tracking URI; by default the active one, which must be that of the journal.
        kind: What it is: a training, or a trial of a sweep.
        take_over: Its process is known to be gone or cut off, whatever the store says.

    Raises:
        InputError: There is no such run.
        TrackingError: It is still running, or another process resumes it; or the store does
            not answer and this machine does not have the run's journal; or the journal names
            another store.
    """
    name = hashlib.sha256(run_id.encode(errors="backslashreplace")).hexdigest()[:32]
    with ExitStack() as stack:
        lock = FileLock(lock_folder() / f".run-{name}.lock")
        journal = None
        try:
            lock.acquire()
            stack.callback(lock.release)
            journal = _opened(run_id, stack)
        except LockedError as error:
            if not take_over:
                raise TrackingError(f"run {run_id} is in use: {error}") from error
            # By a process that was cut off, and still has it: as if it were another machine's.
        if journal is not None:
            store = store or journal_uri(journal, f"resume {shlex.quote(run_id)}")
        if store:
            stack.enter_context(_active(store))
        run = _stored_run(run_id, journal, kind, take_over)
        owner = journal_of(run.data.tags) if run else None
        if journal is not None and owner not in (None, journal.journal_id):
            _log.warning(
                "the journal %s is left alone: run %s went on with another one, and what this one "
                "holds would be there twice",
                *(journal.folder, run_id),
            )
            try:
                journal = _opened(str(owner), stack)
            except LockedError as error:
                if not take_over:
                    raise TrackingError(f"run {run_id} is in use: {error}") from error
                journal = None
        yield _describe(journal, run, stack.enter_context(temporary_folder()))


def _opened(name: str, stack: ExitStack) -> Journal | None:
    """Open the journal of a run, if it is here, until a stack ends."""
    journal = open_journal(name)
    if journal is not None:
        stack.callback(journal.close)
    return journal


@contextmanager
def _active(uri: str) -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _stored_run(run_id: str, journal: Journal | None, kind: str, take_over: bool) -> Run | None:
    """Return the run as the store knows it; None when only the journal can say."""
    stored_id = run_id
    if journal is not None:
        known = journal.state.run_id or journal.header.run_id
        if known is None:
            return None
        stored_id = known
    try:
        check_reachable()
        with store_errors("find the run"):
            run = MlflowClient().get_run(stored_id)
    except StoreUnavailableError:
        if journal is None:
            raise
        return None
    except TrackingError as error:
        raise InputError("run", run_id, f"the id of a training run; {error}") from error
    if run.data.tags.get(keys.KIND) != kind:
        raise InputError("run", run_id, f"the id of a {kind} run of fm_mlflow")
    if run.info.status == keys.RUNNING and not take_over:
        judged = judge(run, _SILENT_SECONDS, ask_journals=journal is None)
        ours = journal is not None and run.data.tags.get(keys.JOURNAL) == journal.journal_id
        # A run of this very process has ended when its journal says so.
        over = journal is not None and isinstance(journal.records[-1], records.End)
        if judged.verdict is not Verdict.DEAD and not (ours and over):
            raise TrackingError(f"run {run_id} is in use: {judged.reason}")
    return run


def _describe(journal: Journal | None, run: Run | None, downloads: Path) -> Resumable:
    header = journal.header if journal else None
    journaled = journal.records if journal else ()
    tags: dict[str, str] = dict(run.data.tags) if run else {}
    params: dict[str, str] = dict(run.data.params) if run else {}
    status = run.info.status if run else keys.RUNNING
    for record in journaled:
        if isinstance(record, (records.RunStart, records.Batch)):
            tags.update(record.tags)
        if isinstance(record, records.Batch):
            params = {**record.params, **params}
        elif isinstance(record, records.End):
            status = record.status
        elif isinstance(record, records.Reopen):
            status = keys.RUNNING
    extended_at = _whole(tags, keys.EXTENDED_AT) or 0
    points, model = _journaled(journaled, extended_at)
    if journal and model:
        confined(journal.folder, model[1].folder)

    model_id = None

    def stored() -> tuple[set[tuple[str, int]], str | None]:
        now = MlflowClient().get_run(cast(Run, run).info.run_id)
        return _stored_points(now, extended_at), _stored_model(now, extended_at)

    if run is not None:
        more, model_id = stored()
        points |= more
    folders = [journal.folder / keys.CHECKPOINT_FOLDER] if journal else []
    went_on_elsewhere = journal is None or tags.get(keys.JOURNAL) != journal.journal_id
    if run is not None and went_on_elsewhere:
        folders.append(_download(run.info.run_id, downloads))
    name = tags.get(keys.MLFLOW_RUN_NAME, header.name if header else "")
    return Resumable(
        Resumption(
            run_id=run.info.run_id if run else journal.state.run_id if journal else None,
            journal=journal,
            name=run.info.run_name if run else name,
            tags={},
            params=params,
            points=points,
            model_id=model_id,
            model=model,
            stored=None if run is None else stored,
            was_finished=status == keys.FINISHED,
        ),
        settings=(header.settings if header else None) or _settings(tags),
        folders=folders,
        finished=status == keys.FINISHED,
        extended_epochs=_whole(tags, keys.EXTENDED_EPOCHS),
        parts=_whole(tags, keys.PARTS) or 1,
    )


def _settings(tags: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Return what a run was to do, by its tag; None where that says nothing of the kind."""
    try:
        found = json.loads(tags.get(keys.SETTINGS, ""))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _whole(tags: Mapping[str, str], key: str) -> int | None:
    """Return a tag's number; None where there is none.

    Raises:
        TrackingError: It is something else.
    """
    text = tags.get(key)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise TrackingError(f"the tag {key} of the run is {excerpt(text)}, no whole number")
    return int(text)


def _journaled(
    journaled: Sequence[records.Record], extended_at: int
) -> tuple[set[tuple[str, int]], tuple[int, records.Model] | None]:
    """Return the points and the model that a journal holds of a run that is resumed."""
    points: set[tuple[str, int]] = set()
    model: tuple[int, records.Model] | None = None
    for number, record in enumerate(journaled):
        if isinstance(record, records.Reopen):
            counts = record.time >= extended_at
            points |= {(key, step) for key, step in record.points if step > 0 or counts}
        elif isinstance(record, records.Model) and record.time >= extended_at:
            model = number, record
        elif isinstance(record, records.Batch):
            points |= {
                (point.key, point.step)
                for point in record.metrics
                if point.step > 0 or point.timestamp >= extended_at
            }
    return points, model


def _stored_points(run: Run, extended_at: int) -> set[tuple[str, int]]:
    client = MlflowClient()
    with store_errors("read the run"):
        return {
            (key, point.step)
            for key in run.data.metrics
            for point in client.get_metric_history(run.info.run_id, key)
            if point.step > 0 or point.timestamp >= extended_at
        }


def _stored_model(run: Run, extended_at: int) -> str | None:
    with store_errors("search for models"):
        found = MlflowClient().search_logged_models(
            [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
        )
    for model in found:
        if model.status == LoggedModelStatus.READY and model.creation_timestamp >= extended_at:
            return str(model.model_id)
    return None


def _download(run_id: str, folder: Path) -> Path:
    client = MlflowClient()
    with store_errors("download the checkpoint"):
        if any(each.path == keys.CHECKPOINT_FOLDER for each in client.list_artifacts(run_id)):
            client.download_artifacts(run_id, keys.CHECKPOINT_FOLDER, str(folder))
    return folder / keys.CHECKPOINT_FOLDER
