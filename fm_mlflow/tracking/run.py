"""One tracked run: the single object through which everything reaches the tracking store."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from typing import IO, Any

import mlflow
from mlflow.entities import Run, RunTag
from mlflow.tracking import MlflowClient, fluent

from fm_mlflow import __version__, keys
from fm_mlflow.errors import InputError, TrackingError
from fm_mlflow.process.identity import out_of_memory_kills, this_process
from fm_mlflow.process.redaction import one_line, redact
from fm_mlflow.process.signals import interrupt, shield
from fm_mlflow.tracking.experiment import for_journal, start_run
from fm_mlflow.tracking.outbox import records
from fm_mlflow.tracking.outbox.courier import Courier
from fm_mlflow.tracking.outbox.delivery import CHECKPOINT_SECONDS
from fm_mlflow.tracking.outbox.journal import Journal
from fm_mlflow.tracking.outbox.lease import Lease
from fm_mlflow.tracking.outbox.remote_run import LeaseLostError, utc_now
from fm_mlflow.tracking.outbox.roots import lock_folder, sync_command
from fm_mlflow.tracking.ownership import Resumption, points_of_epochs, take_over
from fm_mlflow.tracking.params import whole_number
from fm_mlflow.tracking.recorder import MAX_TAG_LENGTH, LoggedModel, Recorder
from fm_mlflow.tracking.store import (
    StoreDeniedError,
    StoreUnavailableError,
    check_reachable,
    context_tags,
    prepare,
    status_after,
    store_errors,
)
from fm_mlflow.tracking.uris import absolute_uri

_log = logging.getLogger(__name__)

FLUSH_SECONDS = 60.0

REOPENED: set[str] = set()
"""Runs that this process has opened, or reopened, for a TrackedRun of their kind to join them."""
_FLUSH_SECONDS_INTERRUPTED = 10.0


class TrackedRun(Recorder):
    """A run in the tracking store, from its opening to its true end; a context manager.

    What is logged goes to a journal on the local disk, and from there into the store on a thread of
    its own: nothing here waits for the store but the opening, briefly, and the end. Where the store
    does not answer, the run continues; `fm-mlflow sync` delivers the journal later.

    Three ways in: a run that the caller opened is joined and left open; a run that `mlflow run`
    handed over (MLFLOW_RUN_ID) is joined and closed; otherwise a run is created and closed. On the
    way out the run's status is what happened: FINISHED, FAILED or KILLED, the latter two with
    their one-line cause in the tag `fm_mlflow.error`.

    The run is also MLflow's active run meanwhile, so that a user's own `mlflow.log_*` calls, in a
    callback say, reach it; unless the store did not answer at the start.

    Entering raises TrackingError where the store refuses or no journal can be written, and
    InputError where the run to be joined cannot take a tracked run; that run is then left as it is.

    Args:
        kind: Value of the tag `fm_mlflow.kind`.
        name: Name of the run, unless it was given one already.
        flush_timeout: How many seconds the end waits for the store.
        checkpoint_seconds: From one checkpoint that the store gets to the next.
        notice: Called with what a person should know about the store, in one line.
        settings: What the run is to do, as plain values: kept in the journal for `resume`.
        resumption: The run that is resumed, instead of the three ways in.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        *,
        flush_timeout: float = FLUSH_SECONDS,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        notice: Callable[[str], None] = _log.warning,
        settings: Mapping[str, Any] | None = None,
        resumption: Resumption | None = None,
    ) -> None:
        super().__init__(notice)
        self._kind = kind
        self.name = redact(name)
        self.pending = ""
        """After the end: what the store does not have yet and where it is, in one line."""
        self._flush_timeout = flush_timeout
        self._checkpoint_seconds = checkpoint_seconds
        self._settings = dict(settings or {})
        self._resumption = resumption
        self._owned = True
        self._active = False
        if resumption is not None:
            self._resumed = True
            self._logged_params, self._logged_points = resumption.params, resumption.points
            # Of several models of a run, the last counts.
            self._model_step = whole_number(resumption.tags.get(keys.EXTENDED_EPOCHS, ""), 0)
        self._crash_trace: IO[str] | None = None

    def __enter__(self) -> TrackedRun:
        """Open or join the run."""
        try:
            # A signal between the store's answer and ours would leave the run open for ever.
            with shield():
                self._open()
        except BaseException as error:
            if self._courier is not None:
                self._close(error)
            elif self._opened is not None:
                if self._resumption is None or self._resumption.journal is None:
                    self._opened.remove()
                self._opened.close()
            raise
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Close the run as it truly ended."""
        self._close(error)

    def _open(self) -> None:
        caller_run = mlflow.active_run()
        again = self._resumption
        uri = absolute_uri(mlflow.get_tracking_uri())
        if uri.startswith("file:"):  # MLflow takes what follows a # or ? of the folder for no path
            mlflow.set_tracking_uri(uri)
        run_id = caller_run.info.run_id if caller_run else os.environ.get("MLFLOW_RUN_ID")
        if again is not None:
            caller_run, run_id = None, again.run_id
        self._owned = caller_run is None
        there = again.journal if again else None
        journal_id = there.journal_id if there else f"j-{uuid.uuid4().hex}"
        tags = {
            keys.KIND: self._kind,
            keys.VERSION: __version__,
            keys.JOURNAL: journal_id,
            keys.HEARTBEAT: utc_now(),
            **this_process().tags(),
            **(again.tags if again else {}),
        }
        earlier = Lease.of_journal(there.records) if there else None
        tags[keys.LEASE] = str(Lease.after(earlier))
        # Each text by itself: redacted JSON may be none.
        safe = {name: redact(v) if isinstance(v, str) else v for name, v in self._settings.items()}
        settings = json.dumps({**safe, "data_dir": ""})
        if self._settings and len(settings) <= MAX_TAG_LENGTH:
            tags[keys.SETTINGS] = settings
        self._opened = there or Journal.create(journal_id, self._header(uri, run_id, tags))
        unavailable: TrackingError | None = None
        courier = Courier(
            self._opened, uri, self._notice, self._checkpoint_seconds, self._stop_training
        )
        try:
            check_reachable(uri)
            prepare(uri, lock_folder())
            with store_errors("open a run"):
                if again is None:
                    self._open_in_store(caller_run, run_id, tags)
                elif run_id is not None:
                    take_over(run_id, again, tags)
                    self._bind(start_run(run_id=run_id))
                    self._active = True
        except StoreDeniedError:
            raise
        except StoreUnavailableError as error:
            unavailable = error
            self._notice(
                f"{error}; the run goes on offline, its journal is {self._opened.folder}, and "
                f"`{sync_command()}` delivers it"
            )
        if again is not None:
            self._note_resumption(again, tags)
        self._courier = courier
        courier.start(unavailable)
        self._watch_for_crashes()

    def _header(self, uri: str, run_id: str | None, tags: Mapping[str, str]) -> records.RunStart:
        if run_id is None:
            tags = context_tags({**tags, keys.MLFLOW_RUN_NAME: self.name})
        experiment_id, experiment_name = for_journal()
        return records.RunStart(
            uri=redact(uri),
            run_id=run_id,
            owned=self._owned,
            name=self.name,
            start_time=self._now(),
            experiment_id=experiment_id,
            experiment_name=experiment_name,
            tags={k: v if k == keys.SETTINGS else redact(v) for k, v in tags.items()},
            out_of_memory_kills=out_of_memory_kills(),
            settings=self._settings,
        )

    def _stop_training(self, reason: str) -> None:
        """Stop what logs here, from another thread: the run belongs to another process."""
        self._notice(reason)
        interrupt(reason)

    def _note_resumption(self, again: Resumption, tags: dict[str, str]) -> None:
        """Have the run reopened, and note what of it is logged already."""
        self._append(records.Batch(tags=tags))
        now, points = self._now(), tuple(sorted(again.points))
        self._append(records.Reopen(now, tags, points, out_of_memory_kills()), durable=True)
        if again.model is not None:
            self._model_record, model = again.model
            self._model_folder = str(self._journal.folder / model.folder)
            self._model = LoggedModel(self, model.size_bytes)
        elif again.model_id is not None:
            from mlflow.models import Model

            self._model_record = self._append(records.KnownModel(again.model_id), durable=True)
            size = Model.load(f"models:/{again.model_id}").model_size_bytes
            self._model = LoggedModel(self, size)

    def _open_in_store(
        self, caller_run: Run | None, run_id: str | None, tags: dict[str, str]
    ) -> None:
        client = MlflowClient()
        run: Run
        if run_id is None:
            run = start_run(run_name=self.name, tags=tags)
            self._active = True
        else:
            existing = client.get_run(run_id)
            self._check_joinable(run_id, existing)
            run = caller_run or start_run()
            self._active = caller_run is None
            self._logged_params = existing.data.params
            if run_id in REOPENED:  # an earlier call has logged what this one comes to again
                self._logged_points = points_of_epochs(existing)
                self._logged_values = existing.data.metrics
            if _is_generated(existing.info.run_name):
                tags[keys.MLFLOW_RUN_NAME] = self.name
            else:
                self.name = existing.info.run_name
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        self._bind(run)

    def _bind(self, run: Run) -> None:
        """Note which run in the store it is, and that it has the journal's first record."""
        state = self._journal.state
        state.bind(run)
        state.position = max(state.position, 1)
        self._journal.save_state()

    def _check_joinable(self, run_id: str, run: Run) -> None:
        if keys.KIND in run.data.tags and run_id not in REOPENED:
            accepted = "a run that holds no fm_mlflow run yet; open one (nested=True) for each"
            raise InputError("run", run_id, accepted)
        if run.info.status in keys.ENDED:
            raise InputError("run", run_id, f"a run that has not ended; it is {run.info.status}")

    def _watch_for_crashes(self) -> None:
        """Have Python write what it was at into the journal, should the process crash."""
        if not faulthandler.is_enabled():
            # Without a disk to write to there is no trace, which harms nothing else.
            with contextlib.suppress(OSError):
                self._crash_trace = self._journal.crash_file.open("w", encoding="utf-8")
                faulthandler.enable(self._crash_trace)

    def _close(self, error: BaseException | None) -> None:
        status = status_after(error)
        # The run is complete: an interruption changes nothing from here on.
        with shield(forget=error is None):
            if not self.is_lost:
                # Else, and if it is found out now, whoever has it will say how it ended.
                with contextlib.suppress(LeaseLostError):
                    self._note_end(status, error)
            if self._owned and self._active:
                self._leave(status)
            if self._crash_trace is not None:
                faulthandler.disable()
                self._crash_trace.close()
        self._flush(_FLUSH_SECONDS_INTERRUPTED if status == keys.KILLED else self._flush_timeout)

    def _note_end(self, status: str, error: BaseException | None) -> None:
        if error is not None:
            self.set_tags({keys.ERROR: one_line(error)})
        if self._long_params:
            self._log_long_params()
        if self._owned:
            self._append(records.End(status, self._now()), durable=True)

    def _flush(self, seconds: float) -> None:
        if self._courier is None:
            raise RuntimeError("the run is not open")
        try:
            self.pending = self._courier.finish(min(seconds, self._flush_timeout))
        except KeyboardInterrupt:
            # Whoever does not want to wait need not: the journal is safe.
            self.pending = self._courier.finish(0)
        if self.pending:
            self._notice(self.pending)

    def _leave(self, status: str) -> None:
        """Make our run the active one no more, and end those left open within it."""
        while (active := mlflow.active_run()) is not None and active.info.run_id != self.run_id:
            if self._courier is not None and not self._courier.answers:
                break
            with contextlib.suppress(TrackingError), store_errors("close a run within the run"):
                mlflow.end_run(status)
        try:
            # Not `mlflow.end_run`: it asks the store, and the journal does that.
            stack = fluent._active_run_stack.get()  # type: ignore[no-untyped-call]
        except AttributeError:
            with contextlib.suppress(TrackingError), store_errors("close the run"):
                mlflow.end_run(status)
        else:
            while stack and stack.pop().info.run_id != self.run_id:
                pass
        with contextlib.suppress(AttributeError):
            fluent._last_active_run_id.set(self.run_id)  # type: ignore[no-untyped-call]
        monitors = getattr(fluent, "run_id_to_system_metrics_monitor", {})
        monitor = monitors.pop(self.run_id, None)
        if monitor is not None:
            monitor.finish()
        os.environ.pop("MLFLOW_RUN_ID", None)


def _is_generated(name: str | None) -> bool:
    """Tell whether MLflow named a run that nobody named: two words of its lists and a number."""
    words = (name or "").split("-")
    try:
        from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES
    except ImportError:
        return not name  # rather keep a name than replace one that somebody gave
    return not name or (
        len(words) == 3
        and words[0] in _GENERATOR_PREDICATES
        and words[1] in _GENERATOR_NOUNS
        and words[2].isdigit()
    )
