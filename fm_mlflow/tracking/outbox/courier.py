"""The thread that delivers a run's journal to the store while the run continues."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from fm_mlflow.errors import TrackingError
from fm_mlflow.process.redaction import one_line
from fm_mlflow.tracking.outbox.delivery import CHECKPOINT_SECONDS, Delivery
from fm_mlflow.tracking.outbox.heartbeat import Heartbeat
from fm_mlflow.tracking.outbox.journal import Journal
from fm_mlflow.tracking.outbox.pending import what_is_pending
from fm_mlflow.tracking.outbox.remote_run import LeaseLostError
from fm_mlflow.tracking.store import StoreRefusedError, StoreUnavailableError

_log = logging.getLogger(__name__)

_GATHER_SECONDS = 1.0
_FIRST_RETRY_SECONDS = 0.5
_LONGEST_RETRY_SECONDS = 15.0
_LONGEST_RETRY_SECONDS_AT_THE_END = 2.0
_LONGEST_SLEEP_SECONDS = 3600.0

_THREAD_NAME = "fm_mlflow-courier"

# These say on each attempt, with tracebacks, what the courier says once.
_CHATTER = ("mlflow.store.db.utils", "urllib3.connectionpool", "mlflow.utils.rest_utils")


class Courier:
    """Delivers a journal on a thread of its own, as often as it takes.

    Nothing that the store does reaches the thread that trains: it appends to the journal and calls
    `wake`. The thread is a daemon, because MLflow may hold it for minutes; what it has in hand then
    is in the journal. Whatever is raised while it delivers, it says so once, and tries again.

    Args:
        journal: The open journal; closed, or removed when the store has all, by `finish`.
        uri: The tracking URI.
        notice: Called with what a person should know, in one line.
        checkpoint_seconds: From one checkpoint that is stored to the next.
        is_lost: Called once with the reason, from another thread, when another process has taken
            the run over: nothing more is delivered, and the training is to stop.
    """

    def __init__(
        self,
        journal: Journal,
        uri: str,
        notice: Callable[[str], None],
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        is_lost: Callable[[str], None] = _log.warning,
    ) -> None:
        self._journal = journal
        self._delivery = Delivery(journal, uri, checkpoint_seconds)
        self._heartbeat = Heartbeat(self._delivery.beat, self._lose)
        self._is_lost = is_lost
        self.lost = ""
        """Why nothing more may be logged: another process has taken the run over."""
        self._notice = notice
        self._changed = threading.Condition()
        self._news = self._urgent = self._stopping = self._settled = False
        self._rounds = 0
        self._failure: TrackingError | None = None
        self._thread = threading.Thread(target=self._run, name=_THREAD_NAME, daemon=True)

    def start(self, failure: TrackingError | None = None) -> None:
        """Begin to deliver; `failure` says why the store did not answer just now, if it did not."""
        self._failure = failure
        for name in _CHATTER:
            logging.getLogger(name).addFilter(_not_of_the_courier)
        self._thread.start()
        self._heartbeat.start()

    def wake(self) -> None:
        """Say that there is something new."""
        with self._changed:
            self._news = True
            self._changed.notify_all()

    @property
    def answers(self) -> bool:
        """Whether the store answered when it was asked last."""
        return self._failure is None

    def finish(self, seconds: float) -> str:
        """Wait until the store has everything, then remove the journal.

        Args:
            seconds: How long to wait at most.

        Returns:
            One line that says what is pending and where, or refused and why; empty when the store
            has everything.
        """
        try:
            self._wait(time.monotonic() + seconds)
        finally:
            with self._changed:
                self._stopping = True
                self._changed.notify_all()
            self._thread.join(timeout=1)  # it may be within a call that lasts
            self._heartbeat.stop()
        if not self._thread.is_alive():
            self._settle()
        return self.lost or what_is_pending(self._delivery, self._failure)

    def _settle(self) -> None:
        """Remove the journal where the store has everything, else close it; once.

        The thread does it as the last thing when it is still delivering as `finish` returns. Where
        the process ends before, the system frees the lock, and the journal says how far it was.
        """
        with self._changed:
            if self._settled or not self._stopping:
                return
            self._settled = True
        if self._delivery.complete:
            self._journal.remove()
        else:
            self._journal.close()

    def _lose(self, error: LeaseLostError) -> None:
        """Deliver nothing more, and say why."""
        with self._changed:
            if self.lost:
                return
            self.lost = str(error)
            self._stopping = True
            self._changed.notify_all()
        self._is_lost(self.lost)

    def _wait(self, deadline: float) -> None:
        self._delivery.final = True
        with self._changed:
            rounds = self._rounds
            self._urgent = True
            self._changed.notify_all()
            # Of what was refused nothing more is to be hoped, but a whole round has to tell.
            while self._thread.is_alive() and (self._delivery.pending or self._rounds == rounds):
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(min(left, 1))

    def _run(self) -> None:
        try:
            self._deliver_until_stopped()
        except LeaseLostError as error:
            self._lose(error)
        except BaseException as error:
            # Nobody waits for this thread: what ends it has to be told here.
            self._note(error if isinstance(error, TrackingError) else _unavailable(error))
        finally:
            self._settle()
            with self._changed:
                self._changed.notify_all()

    def _deliver_until_stopped(self) -> None:
        retry = pace = _FIRST_RETRY_SECONDS
        while not self._stopping:
            position = self._journal.state.position
            try:
                self._delivery.deliver()
            except StoreRefusedError:
                raise
            except Exception as error:
                self._note(_unavailable(error))
                if self._journal.state.position > position:  # it answered for a while
                    retry = _FIRST_RETRY_SECONDS
                retry = min(retry, self._longest_retry)
                self._sleep(retry, for_news=False)
                retry *= 2
            else:
                self._note(None)
                retry = _FIRST_RETRY_SECONDS
                pace = min(pace * 2, self._longest_retry)
                again = self._delivery.retry_seconds(pace)
                if math.isinf(again):
                    pace = _FIRST_RETRY_SECONDS
                self._sleep(min(again, _LONGEST_SLEEP_SECONDS))

    @property
    def _longest_retry(self) -> float:
        """Seconds; at the end somebody waits for it."""
        is_end = self._delivery.final
        return _LONGEST_RETRY_SECONDS_AT_THE_END if is_end else _LONGEST_RETRY_SECONDS

    def _sleep(self, seconds: float, *, for_news: bool = True) -> None:
        """Sleep until there is news, or something urgent; gather what comes at about one time."""
        until = time.monotonic() + seconds
        gather = time.monotonic() + _GATHER_SECONDS
        with self._changed:
            while not self._urgent and not self._stopping:
                until = min(until, gather) if for_news and self._news else until
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._news = self._urgent = False

    def _note(self, failure: TrackingError | None) -> None:
        with self._changed:
            before, self._failure = self._failure, failure
            self._rounds += 1
            self._changed.notify_all()
        text = ""
        if failure is not None and before is None:
            text = f"{failure}; the run goes on, and what it logs is kept in its journal"
        elif failure is None and before is not None:
            text = "the tracking store answers again"
        try:
            if text:
                self._notice(text)
        except (Exception, SystemExit):  # the terminal is gone, say: no reason to end this thread
            _log.warning("%s", text)


def _unavailable(error: BaseException) -> TrackingError:
    """Return what ends an attempt, but not the thread."""
    if isinstance(error, StoreUnavailableError):
        return error
    return StoreUnavailableError(f"the delivery failed: {one_line(error)}")


def _not_of_the_courier(record: logging.LogRecord) -> bool:
    return record.threadName != _THREAD_NAME
