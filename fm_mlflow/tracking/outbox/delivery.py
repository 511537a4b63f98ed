"""Delivers a journal to the store: in order, in batches, any number of times with one result."""

from __future__ import annotations

import time

from mlflow.entities import Param, RunTag

from fm_mlflow.errors import TrackingError
from fm_mlflow.tracking.outbox.journal import Journal
from fm_mlflow.tracking.outbox.records import Batch, Checkpoint, Request, RunStart
from fm_mlflow.tracking.outbox.remote_run import Item, RemoteRun, only
from fm_mlflow.tracking.outbox.roots import sync_command
from fm_mlflow.tracking.store import (
    StoreDeniedError,
    StoreFailedError,
    StoreRefusedError,
    StoreUnavailableError,
)

_CHECKPOINT_SECONDS = 60

# MLflow's limits of one request.
_MAX_ITEMS = 1000
_MAX_PARAMS = 100  # and as many tags


class Delivery:
    """Delivers one journal to one store.

    Args:
        journal: Open, and so locked by this process.
        uri: The tracking URI, with its password if it has one.
    """

    def __init__(self, journal: Journal, uri: str) -> None:
        self.journal = journal
        self.run = RemoteRun(journal.folder, journal.state, uri)
        self._next_checkpoint = 0.0
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
        self.run.connect()
        state = self.journal.state
        if retry_refused:
            state.deferred.update(state.refused)
            state.refused.clear()
        if state.run_id is None:
            state.bind(self.journal.header.open(self.run))
            state.position = 0
            self.journal.save_state()
        deferred = sorted(state.deferred, key=int)
        while state.position < len(self.journal.records):
            self._deliver_next()
            self.journal.save_state()
        for number in deferred:
            del state.deferred[number]
            self._deliver_record(int(number))
            self.journal.save_state()

    def _deliver_next(self) -> None:
        """Deliver the record at the position, and all batches that follow it in one request."""
        records, state = self.journal.records, self.journal.state
        items: list[Item] = []
        end = state.position
        while end < len(records) and isinstance(record := records[end], Batch):
            more = self._items(end, record)
            if items and not _fit([*items, *more]):
                break
            items += more
            end += 1
        alone = state.position + 1
        if end > alone:
            try:
                self.run.log(items)
            except (StoreRefusedError, StoreFailedError):
                end = alone  # to find the culprit
        if end <= alone:
            self._deliver_record(state.position)
        state.position = max(end, alone)

    def _deliver_record(self, number: int) -> None:
        """Deliver one record; what the store refuses is noted, and so are files it cannot take."""
        records = self.journal.records
        record = records[number]
        if isinstance(record, RunStart):
            # A run that was joined, or created before it was heard of, has no tags yet.
            record = Batch(tags=record.tags)
        if isinstance(record, Batch):
            self._bisect(number, self._items(number, record))
        elif not any(each.TYPE == record.SUPERSEDED_BY for each in records[number + 1 :]):
            self._deliver_request(number, record)

    def _deliver_request(self, number: int, record: Request) -> None:
        deferred = self.journal.state.deferred
        is_checkpoint = isinstance(record, Checkpoint)
        # Another one comes each epoch.
        if is_checkpoint and not self.final and time.monotonic() < self._next_checkpoint:
            deferred[str(number)] = "checkpoints are stored once a minute"
            return
        try:
            with self.run.errors(record.ACTION):
                record.deliver(self.run, number)
        except StoreRefusedError as error:
            self.run.check()
            self.journal.state.refused[str(number)] = str(error)
        except StoreUnavailableError as error:
            if not record.HAS_FILES or isinstance(error, StoreDeniedError):
                raise
            # Where the tracking server answers, it is the artifact store that does not.
            self.run.heartbeat()
            deferred[str(number)] = str(error)
        else:
            if is_checkpoint:
                self._next_checkpoint = time.monotonic() + _CHECKPOINT_SECONDS

    def _items(self, number: int, record: Batch) -> list[Item]:
        state = self.journal.state
        return record.items(state.run_id, state.model_before(number))

    def _bisect(self, number: int, items: list[Item]) -> None:
        """Log what the store takes, and note what it refuses."""
        if not items:
            return
        chunk = items if _fit(items) else items[:_MAX_PARAMS]
        try:
            self.run.log(chunk)
        except (StoreRefusedError, StoreFailedError) as error:
            if isinstance(error, StoreFailedError):
                self.run.heartbeat()  # it is well otherwise: then it is this very request
            self.run.check()
            if len(chunk) > 1:
                self._bisect(number, chunk[: len(chunk) // 2])
                self._bisect(number, chunk[len(chunk) // 2 :])
            elif not self.run.has(chunk[0]):
                refused = self.journal.state.refused
                reason = f"{chunk[0].key}: {error}"
                refused[str(number)] = "; ".join(filter(None, [refused.get(str(number)), reason]))
        self._bisect(number, items[len(chunk) :])


def what_is_pending(delivery: Delivery, reason: TrackingError | None) -> str:
    """Say in one line what of a journal the store does not have, why, and what to do."""
    journal, state = delivery.journal, delivery.journal.state
    texts = []
    if delivery.pending:
        why = str(reason) if reason else next(iter(state.deferred.values()), "no time was left")
        texts.append(
            f"{delivery.pending} records of run {state.run_id or journal.journal_id} are not in "
            f"the store yet; `{sync_command()}` delivers them from {journal.folder} ({why})"
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


def _fit(items: list[Item]) -> bool:
    """Tell whether a store takes them in one request, and keeps what came last."""
    names = [[param.key for param in only(items, Param)], [tag.key for tag in only(items, RunTag)]]
    return len(items) <= _MAX_ITEMS and all(
        # Of one tag set twice, the store might keep the earlier value.
        len(each) <= _MAX_PARAMS and len(set(each)) == len(each)
        for each in names
    )
