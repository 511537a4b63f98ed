"""The trainings of a benchmark: one process each, one run each, whatever becomes of them."""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from signal import SIGTERM

from fm_mlflow import keys
from fm_mlflow.analysis.seed_design import SeedDesign
from fm_mlflow.errors import Interrupted, TrackingError
from fm_mlflow.jobs.executors import Executor, Job, JobEnd, JobProgress
from fm_mlflow.jobs.losses import Losses
from fm_mlflow.jobs.outcomes import End, as_told, outcome_of, to_json
from fm_mlflow.jobs.places import Places
from fm_mlflow.jobs.training_jobs import first_job, next_job
from fm_mlflow.listeners import BenchmarkListener
from fm_mlflow.naming import run_name, training_name
from fm_mlflow.process.absent import known_absent
from fm_mlflow.process.redaction import one_line, redact
from fm_mlflow.process.signals import shield
from fm_mlflow.report.describe import describe_benchmark
from fm_mlflow.results.benchmark import BenchmarkTraining
from fm_mlflow.settings.config import BenchmarkConfig, TrainConfig
from fm_mlflow.settings.model_reference import split_settings
from fm_mlflow.tracking.child_runs import (
    StoredRun,
    StoreProbe,
    close_child,
    create_child,
    log_output,
    note_jobs,
    read_child,
)
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.tracking.store import StoreRefusedError, StoreUnavailableError

_log = logging.getLogger(__name__)

_LISTEN_SECONDS = 0.5
_RETRY_SECONDS = 2.0
_PATIENCE_SECONDS = 600.0
"""How long a training that is to start waits for the store while no other one runs."""

_ORPHANED = "its benchmark ended before it, and could not say so"


@dataclass(frozen=True)
class _Waiting:
    """A training that is to start, or to be continued.

    Attributes:
        lost: The end of the job that was lost; None of one that has not started.
    """

    training: TrainConfig
    lost: JobEnd | None = None


class Trainings:
    """The trainings of a benchmark: which are to do, which are on, what came of each.

    A store that does not answer stops none of them: the next ones wait for it, and of those that
    end meanwhile their own word is taken until `settle` can ask the store.

    Args:
        run: The parent run.
        executor: Where they run.
        progress: Hears how they go on.
        before: Runs of an earlier call: what is finished there is not repeated.
        design: Of a benchmark with as many seeds as needed; its runs say so.
    """

    def __init__(
        self,
        run: TrackedRun,
        config: BenchmarkConfig,
        executor: Executor,
        progress: BenchmarkListener,
        before: Sequence[StoredRun],
        design: SeedDesign | None = None,
    ) -> None:
        self._run = run
        self._config = config
        self._executor = executor
        self._progress = progress
        self.run_ids = [stored.run_id for stored in before]
        """The runs of all trainings, those of earlier calls first."""
        self.outcomes: list[BenchmarkTraining] = []
        """What came of those that are over; of earlier calls, those that finished."""
        self._has_rounds = design is not None
        self._tags = {} if design is None else {str(keys.DESIGN): design.model_dump_json()}
        self._own: dict[str, list[str]] = {}
        for model, own in map(split_settings, config.model_names):
            self._own[model] = sorted({*self._own.get(model, ()), *own})
        self._finished = self._finished_before(before)
        self._random = random.Random(config.order_seed)
        self._pending: deque[_Waiting] = deque()
        self._jobs = 0
        self._running: dict[str, TrainConfig] = {}
        self._losses = Losses(config.retries, progress.notice)
        self._places = Places()
        self._probe = StoreProbe()
        self._told: dict[str, float | None] = {}
        self._unsettled: dict[str, End] = {}
        self._away_since: float | None = None
        self._next_try = 0.0
        self._identity = uuid.uuid4().hex

    @property
    def finished_ids(self) -> list[str]:
        """The runs of the trainings that finished, in earlier calls or now."""
        before = [stored.run_id for stored in self._finished.values()]
        now = [outcome.run_id for outcome in self.outcomes if outcome.error is None]
        return list(dict.fromkeys([*before, *now]))

    @property
    def metric(self) -> str:
        """What the models are compared by: if nobody said it, by whether they predict classes."""
        before = (stored.test_accuracy for stored in self._finished.values())
        now = (outcome.test_accuracy for outcome in self.outcomes)
        are_classes = any(accuracy is not None for accuracy in (*before, *now))
        return self._config.metric or (keys.TEST_ACCURACY if are_classes else keys.TEST_MAE)

    def _identify(self, values: Mapping[str, object]) -> tuple[str, ...]:
        """Tell trainings apart: by model, seed, and what some of that model have alone."""
        model = str(values.get("model", ""))
        return model, *(str(values.get(name, "")) for name in ("seed", *self._own.get(model, ())))

    def _finished_before(self, before: Sequence[StoredRun]) -> dict[tuple[str, ...], StoredRun]:
        """Return what is finished, by identity; of the rest, what still runs is closed."""
        for stored in before:
            if not stored.ended:
                close_child(stored, _ORPHANED, killed=True)
        return {self._identify(stored.params): stored for stored in before if stored.finished}

    @known_absent()
    def run_all(self, trainings: Sequence[TrainConfig]) -> None:
        """Run these trainings, in random order; what came of those that are over stays.

        Args:
            trainings: Those that are finished are not repeated.

        Raises:
            Interrupted: Asked to stop; the trainings have been stopped. Says how to go on.
        """
        over = {(outcome.model, outcome.seed) for outcome in self.outcomes}
        to_do = [each for each in trainings if (each.entry, each.seed) not in over]
        self._random.shuffle(to_do)
        for training in to_do:
            done = self._finished.get(self._identify(training.model_dump()))
            if done is None:
                self._pending.append(_Waiting(training))
            else:
                self.outcomes.append(outcome_of(training, done, None))
        self._jobs = min(self._executor.jobs_per_machine, len(self._pending))
        if self._pending or not self._has_rounds:
            left = [waiting.training for waiting in self._pending]
            self._progress.planned(left, list(self.outcomes), min(self._executor.slots, len(left)))
        try:
            while self._pending or self._running:
                slots = self._executor.slots  # machines come and go
                while self._pending and len(self._running) < slots and self._start():
                    pass
                self._probe.forget()  # the store may go away meanwhile
                for event in self._executor.events(_LISTEN_SECONDS):
                    if isinstance(event, JobProgress):
                        self._hear(event)
                        continue
                    with shield():  # it happens once, and is to be noted whole
                        self._places.leave(event.job.key)
                        if event.is_lost and self._may_continue(event):
                            continue
                        self._end(event.job.key, event.cause, event.output, killed=False)
        except BaseException as error:
            with shield(forget=True):
                self._stop(error)
            raise
        self._record()

    def settle(self, deliver: Callable[[str], None], seconds: float) -> int:
        """Ask the store for what came of those that ended while it did not answer.

        Args:
            deliver: Delivers what this machine still has of a run, by its id, as far as it can.
            seconds: How long to wait for the store at most.

        Returns:
            Of how many trainings the store does not know the end.
        """
        if not self._unsettled:
            return 0
        deadline = time.monotonic() + seconds
        for at, outcome in enumerate(self.outcomes):
            while (end := self._unsettled.get(outcome.run_id)) is not None:
                try:
                    deliver(outcome.run_id)
                    with shield():
                        self.outcomes[at], _ = self._ask(outcome.run_id, end)
                        del self._unsettled[outcome.run_id]
                except StoreUnavailableError:
                    if time.monotonic() >= deadline:
                        return len(self._unsettled)
                    time.sleep(_RETRY_SECONDS)
        self._record()
        return 0

    def _hear(self, event: JobProgress) -> None:
        if event.progress.event == "result":
            self._told[event.job.key] = event.progress.metrics.get(keys.TEST_ACCURACY)
        self._places.enter(event.job.key, event.place)
        self._progress.told(self._running[event.job.key], event.progress)

    def _start(self) -> bool:
        """Start the next training; tell whether the store let us."""
        if time.monotonic() < self._next_try:
            return False
        waiting, training = self._pending[0], self._pending[0].training
        # A signal between the creation of the run and its start would leave it open for ever.
        with shield():
            try:
                job = self._again(training, waiting.lost) if waiting.lost else self._first(training)
            except StoreUnavailableError as failure:
                self._wait(failure)
                return False
            self._away_since = None
            self._pending.popleft()
            if job is None:
                return True
            self._running[job.key] = training
            self._executor.submit(job)
        if not waiting.lost:
            self._progress.started(training)
        return True

    def _first(self, training: TrainConfig) -> Job:
        """Create the run of a training; return the job that trains it."""
        name = training_name(training.entry, training.seed)
        own = {str(keys.DESIGN_MODEL): redact(training.entry)} if self._has_rounds else {}
        run_id = create_child(
            *(self._run, run_name(training), training.model, self._jobs),
            f"{self._identity}/{name}",
            {**self._tags, **own},
            is_repeated=self._away_since is not None,
            probe=self._probe,
        )
        self.run_ids.append(run_id)
        return first_job(training, run_id, self._run.experiment_id)

    def _again(self, training: TrainConfig, lost: JobEnd) -> Job | None:
        """Return the job that continues a training; None where the store says that it is over."""
        run_id = lost.job.key
        try:
            stored = read_child(run_id, self._probe)
            if stored.status not in (keys.FINISHED, keys.FAILED):
                return next_job(training, stored)
        except StoreRefusedError as failure:  # it was deleted, say
            _log.warning("run %s: it cannot be continued: %s", run_id, failure)
        # It ended, and its place was lost before it could say so.
        self._running[run_id] = training
        self._end(run_id, lost.cause, lost.output, killed=False)
        return None

    def _may_continue(self, end: JobEnd) -> bool:
        """Have a lost training continued elsewhere, unless that has been tried often enough."""
        run_id = end.job.key
        if not self._losses.may_continue(run_id, end.job.name, end.cause):
            return False
        self._pending.appendleft(_Waiting(self._running.pop(run_id), end))
        return True

    def _wait(self, failure: StoreUnavailableError) -> None:
        """Have the next training wait for the store, while others run or patience lasts."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._progress.notice(f"{failure}; the next training waits for it")
        if self._running:
            self._away_since = now
        elif now - self._away_since > _PATIENCE_SECONDS:
            raise failure
        self._next_try = now + _RETRY_SECONDS

    def _end(self, run_id: str, cause: str | None, output: str, *, killed: bool) -> None:
        """Note the end of a training, in its run too where its process could not."""
        end = End(self._running.pop(run_id), cause, output, killed, self._told.pop(run_id, None))
        try:
            outcome, settled = self._ask(run_id, end)
        except StoreUnavailableError as failure:
            self._progress.notice(f"{failure}; for now the training's own word counts")
            outcome, settled = as_told(run_id, end), False
        if not settled:
            self._unsettled[run_id] = end
        self.outcomes.append(outcome)
        self._progress.ended(outcome)

    def _ask(self, run_id: str, end: End) -> tuple[BenchmarkTraining, bool]:
        """Return what the store says of a training that has ended, and whether it knows the end."""
        try:
            stored = read_child(run_id, self._probe)
            self._keep_output(stored, end.output)
            if end.cause is not None and not stored.finished:
                stored = close_child(stored, end.cause, killed=end.killed)
            if (jobs := self._places.most(run_id)) and stored.tags.get(keys.JOBS) != str(jobs):
                note_jobs(run_id, jobs)
        except StoreRefusedError as failure:  # it was deleted, say
            return replace(as_told(run_id, end), error=str(failure)), True
        return outcome_of(end.training, stored, end.cause), stored.ended

    def _keep_output(self, run: StoredRun, output: str) -> None:
        try:
            log_output(run, output)
        except TrackingError as failure:  # it explains, no more
            self._probe.forget()
            _log.warning("run %s: what its process wrote is not kept: %s", run.run_id, failure)

    def _stop(self, error: BaseException) -> None:
        """Stop what runs, and say truthfully in the store what came of it."""
        ends = self._executor.stop(error.signum if isinstance(error, Interrupted) else SIGTERM)
        killed = isinstance(error, KeyboardInterrupt)
        # The store may be what failed: that must not hide the first error.
        try:
            for end in ends:
                self._end(end.job.key, end.cause, end.output, killed=killed)
            for waiting in self._pending:
                if waiting.lost:  # what it has logged is kept, and `resume` can continue it
                    self._running[waiting.lost.job.key] = waiting.training
            for run_id in list(self._running):  # the error came before the process
                self._end(run_id, one_line(error), "", killed=killed)
            self._record()
        except TrackingError as failure:
            _log.warning("benchmark %s: not all is recorded: %s", self._run.run_id, failure)
        if self._unsettled:
            left = ", ".join(self._unsettled)
            _log.warning(
                "the store has not heard of the end of %s: `fm-mlflow sync` tells it", left
            )

    def _record(self) -> None:
        self._run.describe(describe_benchmark(self._config, self.outcomes))
        with self._run.artifacts() as folder:
            (folder / keys.TRAININGS_FILE).write_text(to_json(self.outcomes), encoding="utf-8")
