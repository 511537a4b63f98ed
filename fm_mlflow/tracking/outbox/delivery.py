"""Delivers a journal to the store: in order, in batches, any number of times with one result."""

from __future__ import annotations

import math
import time
from collections import Counter
from functools import cached_property

from mlflow.entities import Param, RunTag

from fm_mlflow.errors import TrackingError
from fm_mlflow.process.identity import ProcessIdentity
from fm_mlflow.tracking.outbox.journal import Journal
from fm_mlflow.tracking.outbox.lease import Lease
from fm_mlflow.tracking.outbox.records import (
    Batch,
    Checkpoint,
    End,
    Reopen,
    Request,
    RunStart,
)
from fm_mlflow.tracking.outbox.remote_run import Item, LeaseLostError, RemoteRun, only
from fm_mlflow.tracking.outbox.schema import RecordError, excerpt
from fm_mlflow.tracking.store import (
    StoreDeniedError,
    StoreFailedError,
    StoreRefusedError,
    StoreUnavailableError,
)

CHECKPOINT_SECONDS = 60.0
_SAVE_SECONDS = 1
_LEASE_SECONDS = 5.0
"""For how long a look at the lease holds: a process may be stopped, and continue hours later."""

_MOST_FAILURES = 3
_LONGEST_REASON = 500

_DELIVERED = Batch()
"""Takes the place of what the store has: this process does not send it again."""

# MLflow's limits of one request.
_MAX_ITEMS = 1000
_MAX_PARAMS = 100  # and as many tags


class Delivery:
    """Delivers one journal to one store.

    Args:
        journal: Open, and so locked by this process.
        uri: The tracking URI, with its password if it has one.
        checkpoint_seconds: From one checkpoint that is stored to the next.
    """

    def __init__(
        self, journal: Journal, uri: str, checkpoint_seconds: float = CHECKPOINT_SECONDS
    ) -> None:
        self.journal = journal
        self._checkpoint_seconds = checkpoint_seconds
        self.run = RemoteRun(journal.folder, journal.state, uri)
        self._next_checkpoint = 0.0
        self._next_save = 0.0
        self._next_look = -math.inf
        self._failures: Counter[int] = Counter()
        self._newest: dict[str, int] = {}
        self._known = 0
        self._is_repeated = True
        self.final = False
        """Nothing more will come: even a checkpoint that another one might replace is due."""

    @property
    def pending(self) -> int:
        """How many records the store does not have yet, refused ones left out."""
        state = self.journal.state
        return len(self.journal.records) - state.position + len(state.deferred)

    @property
    def complete(self) -> bool:
        """Whether the store has everything."""
        return not self.pending and not self.journal.state.refused and not self.journal.damaged

    def retry_seconds(self, pace: float) -> float:
        """Return in how many seconds to try again what is deferred; infinite without such.

        Args:
            pace: How long to leave files that could not be stored.
        """
        waits = [self._waits(int(number)) for number in list(self.journal.state.deferred)]
        if not waits:
            return math.inf
        return max(0.0, self._next_checkpoint - time.monotonic()) if all(waits) else pace

    def deliver(self, *, retry_refused: bool = False) -> None:
        """Deliver all that can be delivered now; without such, the store is not asked anything.

        Files that cannot be stored do not hold up what follows them: they are deferred, and tried
        again by the next call.

        Args:
            retry_refused: Try once more what the store has refused; nobody calls again soon.

        Raises:
            StoreUnavailableError: The store does not answer.
            RunGoneError: The run was deleted, or another journal has taken it over: nothing more
                can be delivered.
            LeaseLostError: Another process has taken it over while this one trained.
            StoreRefusedError: The run cannot be created.
        """
        state = self.journal.state
        self._is_repeated = not retry_refused
        if retry_refused:
            state.deferred.update(state.refused)
            state.refused.clear()
        deferred = [number for number in map(int, state.deferred) if not self._waits(number)]
        if state.run_id and state.position == len(self.journal.records) and not deferred:
            return
        self.run.connect()
        if state.run_id is None:
            state.bind(self.journal.header.open(self.run))
            state.position = 0
            self.journal.save_state()
        if retry_refused:
            self.check_owner()
        try:
            self._next_look = -math.inf
            while state.position < len(self.journal.records):
                self._check_owner_now_and_then()
                self._deliver_next()
                self._save_now_and_then()
            for number in sorted(deferred):
                self._check_owner_now_and_then()
                if self._deliver_record(number):
                    del state.deferred[str(number)]
                    if isinstance(self.journal.records[number], Checkpoint):
                        self._forget(number)
                self._save_now_and_then()
        finally:
            self.journal.save_state()

    @cached_property
    def _lease(self) -> Lease | None:
        return Lease.of_journal(self.journal.records)

    def check_owner(self) -> None:
        """Make sure that the run is still this journal's to write to.

        Raises:
            LeaseLostError: Another process has taken it over.
            RunGoneError: The same, found by `sync`.
        """
        if not self._is_repeated:
            # Its process has ended, so that the journal's lock and the run's tag say whose it is. A
            # process that was killed as it took the run over may have left a lease, and no more.
            self.run.check_not_taken_over()
            self._next_look = time.monotonic() + _LEASE_SECONDS
            return
        if self._lease is None or self.journal.state.run_id is None:
            return
        tags = self.run.tags()
        if self._lease.is_lost_to(Lease.of(tags)):
            owner = ProcessIdentity.from_tags(tags)
            which = f" ({owner.pid} on {excerpt(owner.host)})" if owner else ""
            raise LeaseLostError(
                f"run {self.run.run_id} was taken over by another process{which}; this one stops, "
                f"and what it has not delivered is left in {self.journal.folder}"
            )
        self._next_look = time.monotonic() + _LEASE_SECONDS

    def _check_owner_now_and_then(self) -> None:
        if time.monotonic() >= self._next_look:
            self.check_owner()

    def beat(self) -> None:
        """Show the store that the run lives, if it is still this journal's; raises as `deliver`."""
        if self.journal.state.run_id is not None:
            self.run.connect()
            self.check_owner()
            self.run.note_heartbeat()

    def _save_now_and_then(self) -> None:
        """Save the state at most once a second: an fsync takes as long as some deliveries."""
        if time.monotonic() >= self._next_save:
            self.journal.save_state()
            self._next_save = time.monotonic() + _SAVE_SECONDS

    def _waits(self, number: int) -> bool:
        """Tell whether a record is a checkpoint that is not due: one comes each epoch."""
        return (
            isinstance(self.journal.records[number], Checkpoint)
            and not self.final
            and not self._is_superseded(number)
            and time.monotonic() < self._next_checkpoint
        )

    def _deliver_next(self) -> None:
        """Deliver the record at the position, and all batches that follow it in one request.

        Between the batches of two epochs there is a checkpoint, which a later one supersedes.
        """
        records, state = self.journal.records, self.journal.state
        items: list[Item] = []
        end = state.position
        while end < len(records):
            record = records[end]
            if isinstance(record, Batch):
                more = self._items(end, record)
                if items and not _fit([*items, *more]):
                    break
                items += more
            elif not (isinstance(record, Checkpoint) and self._is_superseded(end)):
                break
            end += 1
        alone = state.position + 1
        if not _fit(items):  # the first batch takes several requests by itself
            end = alone
        elif end > alone and items:
            try:
                self.run.log(items)
            except (StoreRefusedError, StoreFailedError):
                end = alone  # to find the culprit
        if end <= alone:
            self._deliver_record(state.position)
        end = max(end, alone)
        for number in range(state.position, end):
            # A training of many epochs logs much, and does not need it again.
            if isinstance(records[number], Batch | Checkpoint):
                self._forget(number)
        state.position = end

    def _forget(self, number: int) -> None:
        """Free the memory of a record that the store has, or that nothing is left of."""
        state = self.journal.state
        if str(number) not in state.refused and str(number) not in state.deferred:
            self.journal.records[number] = _DELIVERED

    def _deliver_record(self, number: int) -> bool:
        """Deliver one record; what the store refuses is noted, and so are files it cannot take.

        Returns:
            Whether that was all of it: False where it is to be tried again.
        """
        record = self.journal.records[number]
        if isinstance(record, RunStart):
            # A run that was joined, or created before it was heard of, has no tags yet.
            record = Batch(tags=record.tags)
        if isinstance(record, Batch):
            self._log(number, self._items(number, record))
        elif isinstance(record, Request) and not self._is_superseded(number):
            return self._deliver_request(number, record)
        return True

    def _is_superseded(self, number: int) -> bool:
        """Tell whether a later record leaves nothing to be delivered of this one."""
        records = self.journal.records
        while self._known < len(records):
            self._newest[records[self._known].TYPE] = self._known
            self._known += 1
        record = records[number]
        by = record.SUPERSEDED_BY if isinstance(record, Request) else ""
        if isinstance(record, Reopen) and number < self.journal.state.position:
            by = End.TYPE  # it was refused when its turn came: the run has ended since
        return by != "" and self._newest.get(by, -1) > number

    def _deliver_request(self, number: int, record: Request) -> bool:
        if self._waits(number):
            return self._defer(number, "the next checkpoint is not due yet")
        try:
            with self.run.errors(record.ACTION):
                record.deliver(self.run, number)
        except (StoreRefusedError, RecordError) as error:
            self.run.check()
            self._refuse(number, str(error))
        except StoreUnavailableError as error:
            is_failure = isinstance(error, StoreFailedError)
            if isinstance(error, StoreDeniedError) or not (record.HAS_FILES or is_failure):
                raise
            # Where the tracking server answers, it is the artifact store that does not.
            self.run.heartbeat()
            if record.HAS_FILES:
                return self._defer(number, str(error))
            self._be_patient(number, error)
            self.run.check()
            self._refuse(number, str(error))
        else:
            if isinstance(record, Checkpoint):
                self._next_checkpoint = time.monotonic() + self._checkpoint_seconds
        return True

    def _be_patient(self, number: int, error: TrackingError) -> None:
        """Raise a failure of the store again, until it seems to be this record's own fault."""
        self._failures[number] += 1
        is_early = self._failures[number] < _MOST_FAILURES
        if isinstance(error, StoreFailedError) and self._is_repeated and is_early:
            raise error

    def _defer(self, number: int, why: str) -> bool:
        self.journal.state.deferred[str(number)] = why[:_LONGEST_REASON]
        return False

    def _refuse(self, number: int, why: str) -> None:
        refused = self.journal.state.refused
        texts = filter(None, [refused.get(str(number)), why])
        refused[str(number)] = "; ".join(texts)[:_LONGEST_REASON]

    def _items(self, number: int, record: Batch) -> list[Item]:
        state = self.journal.state
        return record.items(state.run_id, state.model_before(number))

    def _log(self, number: int, items: list[Item]) -> None:
        size = len(items) if _fit(items) else _MAX_PARAMS
        for start in range(0, len(items), size or 1):
            self._bisect(number, items[start : start + size])

    def _bisect(self, number: int, items: list[Item]) -> None:
        """Log what the store takes, and note what it refuses."""
        try:
            self.run.log(items)
        except (StoreRefusedError, StoreFailedError) as error:
            if isinstance(error, StoreFailedError):
                self.run.heartbeat()  # it is well otherwise: then it is this very request
            self.run.check()
            half = len(items) // 2
            if half:
                self._bisect(number, items[:half])
                self._bisect(number, items[half:])
            elif not self.run.has(items[0]):
                self._be_patient(number, error)
                self._refuse(number, f"{items[0].key}: {error}")


def _fit(items: list[Item]) -> bool:
    """Tell whether a store takes them in one request, and keeps what came last."""
    names = [[param.key for param in only(items, Param)], [tag.key for tag in only(items, RunTag)]]
    return len(items) <= _MAX_ITEMS and all(
        # Of one tag set twice, the store might keep the earlier value.
        len(each) <= _MAX_PARAMS and len(set(each)) == len(each)
        for each in names
    )
