"""The rounds of a sweep: trials as jobs of an executor, and what the store says of them."""

from __future__ import annotations

import logging
import math
import shlex
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from signal import SIGTERM
from typing import TypeVar

from fm_mlflow import keys
from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.words import counted, number
from fm_mlflow.errors import FmMlflowError, Interrupted, TrackingError
from fm_mlflow.jobs.executors import Executor, Job, JobEnd, JobProgress
from fm_mlflow.jobs.losses import Losses
from fm_mlflow.listeners import SweepListener
from fm_mlflow.naming import command_line
from fm_mlflow.process.redaction import one_line
from fm_mlflow.process.signals import shield
from fm_mlflow.search.trials import Piece, Trial
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.model_reference import ModelReference
from fm_mlflow.settings.placement import Placement
from fm_mlflow.settings.selection import Choice
from fm_mlflow.settings.space import TRAINING_SETTINGS
from fm_mlflow.settings.sweep import SweepConfig, TrialsConfig
from fm_mlflow.tracking.child_runs import environment_to_join
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.tracking.store import StoreUnavailableError
from fm_mlflow.tracking.trial_runs import (
    TrialRun,
    create_trial,
    fail_trial,
    finish_trial,
    read_trial,
    trials_of,
)

_log = logging.getLogger(__name__)

T = TypeVar("T")

_LISTEN_SECONDS = 0.5
_RETRY_SECONDS = 2.0
_PATIENCE_SECONDS = 600.0
"""How long a store that does not answer is waited for."""

_LONGEST_WAIT_SECONDS = 60.0
"""How long the processes of a sweep that was killed may take to notice it."""

_MOST_ATTEMPTS = 2
"""A trial that so many processes left without a result, by themselves, may be the cause."""

_FIRST_SEED = 1_000_000
"""Seeds of trials begin here, so that the finalists' are fresh."""


def trial_params(config: SweepConfig, settings: Mapping[str, str], trial: int) -> dict[str, str]:
    """Return what a trial's run says of it before it is trained: all that it alone has."""
    reference = ModelReference.parse(config.model)
    arguments = {name: text for name, text in settings.items() if name not in TRAINING_SETTINGS}
    return {
        "model": str(ModelReference(reference.name, {**reference.arguments, **arguments})),
        "seed": str(_FIRST_SEED + trial),
        **{name: settings.get(name, str(getattr(config, name))) for name in TRAINING_SETTINGS},
    }


def trial_name(trial: int, settings: Mapping[str, str]) -> str:
    """Name a trial by its number and its settings."""
    return f"trial {trial}: " + ", ".join(f"{name} {text}" for name, text in settings.items())


def trials_before(sweep: str, metric: str, deliver: Callable[[str], None]) -> dict[int, TrialRun]:
    """Return the trials of earlier calls by number, once the processes of these are gone.

    Args:
        sweep: Id of the sweep's run.
        metric: The compared metric.
        deliver: Delivers what this machine still has of a run, by its id, as far as it can.

    Raises:
        TrackingError: A trial is still running.
    """
    deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
    while True:
        stored = trials_of(sweep, metric)
        running = [each for each in stored.values() if each.is_begun and not each.ended]
        if not running:
            return stored
        if time.monotonic() > deadline:
            raise TrackingError(
                f"trial {running[0].number} (run {running[0].run_id}) is still running; where its "
                "process is gone, `fm-mlflow reconcile` closes it"
            )
        for each in running:
            deliver(each.run_id)
        time.sleep(_RETRY_SECONDS)


class TrialRounds:
    """Has trials done, by processes that an executor starts, and reads the store for the results.

    What the store knows already is not done again.

    Args:
        run: The run of the sweep.
        config: Its settings.
        executor: Where trials run.
        progress: Hears how they go on.
        stored: Trials of earlier calls, by number.
        deliver: Delivers what this machine still has of a run, by its id, as far as it can.
    """

    def __init__(
        self,
        run: TrackedRun,
        config: SweepConfig,
        executor: Executor,
        progress: SweepListener,
        stored: Mapping[int, TrialRun],
        deliver: Callable[[str], None],
    ) -> None:
        self.stored = dict(stored)
        """What the store knows of each trial, by number."""
        self._run = run
        self._config = config
        self._executor = executor
        self._progress = progress
        self._deliver = deliver
        self._objective = Objective.of(Choice(metric=config.metric))
        self._names: dict[int, str] = {}
        self._attempts: Counter[int] = Counter()
        self._losses = Losses(config.retries, progress.notice)

    def flops(self, trials: Sequence[Trial], images: int) -> float:
        """Return the FLOPs of trials' training so far, as far as they are known.

        Args:
            trials: Each that has begun.
            images: Of an epoch.
        """
        each = (self.stored[one.number].training_flops(one.epochs, images) for one in trials)
        return sum(flops or 0.0 for flops in each)

    def is_done(self, piece: Piece) -> bool:
        """Whether the store has the result already."""
        stored = self.stored.get(piece.number)
        if stored is None:
            return False
        if stored.error or (keys.BOUNDED_OUT in stored.tags and stored.ended):
            return True
        return stored.ended and max(self._reached(stored), default=0) >= piece.epochs

    def run_round(self, turn: int, pieces: Sequence[Piece]) -> list[Trial]:
        """Do what is left of a round; return what it has shown, in the order of the pieces.

        Raises:
            FmMlflowError: The processes fail before they come to their trials; says why.
            Interrupted: Asked to stop; the trials have been stopped.
            TrackingError: The store refused, or did not answer for long.
        """
        self._names = {piece.number: trial_name(piece.number, piece.settings) for piece in pieces}
        left = [piece for piece in pieces if not self.is_done(piece)]
        if left:
            names = [self._names[piece.number] for piece in left]
            self._progress.round(turn, names, min(self._executor.slots, len(left)))
        stuck = 0
        while left:
            for piece in left:
                if "seed" not in getattr(self.stored.get(piece.number), "params", ()):
                    self._create(piece)
            losses = self._losses.total
            cause = self._run_jobs(left)
            remaining = [piece for piece in left if not self.is_done(piece)]
            is_stuck = len(remaining) == len(left) and self._losses.total == losses
            stuck = stuck + 1 if is_stuck else 0
            if stuck == _MOST_ATTEMPTS:
                raise FmMlflowError(f"trials cannot be run: {cause or 'they end without a result'}")
            left = remaining
        return [self._trial(piece) for piece in pieces]

    def close(self) -> None:
        """Have trials that were killed between two rungs say that they did what they should."""
        for stored in list(self.stored.values()):
            if stored.status == keys.KILLED and self._reached(stored):
                self._patiently(partial(finish_trial, stored.run_id))
                self._read(stored.number, stored.run_id)

    def _create(self, piece: Piece) -> None:
        params = trial_params(self._config, piece.settings, piece.number)

        def create() -> str:
            model = ModelReference.parse(params["model"]).name
            with shield():
                return create_trial(
                    *(self._run, piece.number, self._names[piece.number], params, model),
                    self._executor.jobs_per_machine,
                )

        self._read(piece.number, self._patiently(create))

    def _run_jobs(self, pieces: Sequence[Piece]) -> str | None:
        """Run jobs that do these pieces; return why the last one that failed did."""
        waiting = deque(self._shares(pieces))
        running: dict[str, list[Piece]] = {}
        cause = None
        try:
            while waiting or running:
                while waiting and len(running) < self._executor.slots:
                    share = waiting.popleft()
                    job = self._job(share)
                    running[job.key] = share
                    self._executor.submit(job)
                for event in self._executor.events(_LISTEN_SECONDS):
                    if isinstance(event, JobProgress):
                        self._progress.trial_told(event.progress.text, event.progress)
                    elif (ended := running.pop(event.job.key, None)) is not None:
                        cause = event.cause or cause
                        self._settle(ended, event)
        except BaseException as error:
            with shield(forget=True):
                self._stop(error, [piece for share in running.values() for piece in share])
            raise
        return cause

    def _shares(self, pieces: Sequence[Piece]) -> list[list[Piece]]:
        """Divide pieces among processes; the result does not depend on how."""
        if not self._config.is_warm:
            return [[piece] for piece in pieces]
        slots = min(self._executor.slots, len(pieces))
        return [list(pieces[at::slots]) for at in range(slots)]

    def _job(self, share: Sequence[Piece]) -> Job:
        runs = [self.stored[piece.number].run_id for piece in share]
        pieces = [f"{run_id}:{piece.epochs}" for run_id, piece in zip(runs, share, strict=True)]
        own = self._config.model_dump(exclude={*Placement.model_fields}, exclude_none=True)
        call = parse(TrialsConfig, {**own, "runs": ",".join(pieces)})
        words = shlex.split(command_line("trials", call))[1:]
        # It joins one run after the other, by itself.
        environment = environment_to_join("", self._run.experiment_id) | {"MLFLOW_RUN_ID": None}
        return Job(runs[0], self._names[share[0].number], tuple(words), environment)

    def _settle(self, share: Sequence[Piece], end: JobEnd) -> None:
        """Note what came of a job's trials; the one that was under way may be tried again."""
        for piece in share:
            stored = self._settled(piece)
            has_result = self.is_done(piece)
            if not has_result and self._is_given_up(piece, stored, end):
                self._fail(stored, end.cause or _last_line(end.output))
            if self.is_done(piece):
                self._progress.trial_ended(self._names[piece.number], self._outcome(piece))
            if not has_result and end.outcome != "done":
                break  # the process did not come to the others

    def _is_given_up(self, piece: Piece, stored: TrialRun, end: JobEnd) -> bool:
        """Count an attempt without a result; tell whether it was the last one."""
        if end.is_lost:
            name = self._names[piece.number]
            return not self._losses.may_continue(stored.run_id, name, end.cause)
        self._attempts[piece.number] += 1
        return stored.is_begun and self._attempts[piece.number] >= _MOST_ATTEMPTS

    def _settled(self, piece: Piece) -> TrialRun:
        run_id = self.stored[piece.number].run_id
        stored = self._read(piece.number, run_id)
        if stored.is_begun and not self.is_done(piece):
            self._patiently(partial(self._deliver, run_id))
            stored = self._read(piece.number, run_id)
        return stored

    def _fail(self, stored: TrialRun, cause: str) -> None:
        self._patiently(lambda: fail_trial(stored.run_id, cause))
        self._read(stored.number, stored.run_id)

    def _stop(self, error: BaseException, pieces: Sequence[Piece]) -> None:
        """Stop what runs; the trials close their own runs."""
        self._executor.stop(error.signum if isinstance(error, Interrupted) else SIGTERM)
        try:
            for piece in pieces:
                self._deliver(self.stored[piece.number].run_id)
        except TrackingError as failure:  # that must not hide the first error
            _log.warning("sweep %s: not all is recorded: %s", self._run.run_id, one_line(failure))

    def _read(self, trial: int, run_id: str) -> TrialRun:
        stored = self._patiently(lambda: read_trial(run_id, self._config.metric))
        self.stored[trial] = stored
        return stored

    def _patiently(self, ask: Callable[[], T]) -> T:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        has_said = False
        while True:
            try:
                return ask()
            except StoreUnavailableError as failure:
                if time.monotonic() > deadline:
                    raise
                if not has_said:
                    self._progress.notice(f"{failure}; the sweep waits for it")
                    has_said = True
                time.sleep(_RETRY_SECONDS)

    def _reached(self, stored: TrialRun) -> dict[int, float]:
        return {
            epoch: self._objective.gain(value)
            for epoch, value in stored.curve.items()
            if epoch > 0 and math.isfinite(value)
        }

    def _trial(self, piece: Piece) -> Trial:
        stored = self.stored[piece.number]
        trial = Trial(
            piece.number,
            piece.settings,
            cost=stored.metrics.get(self._config.cost),
            values=self._reached(stored),
            bounded=stored.tags.get(keys.BOUNDED_OUT, ""),
            failed=stored.error,
            is_default=piece.is_default,
        )
        return trial.up_to(piece.epochs)

    def _outcome(self, piece: Piece) -> str:
        trial = self._trial(piece)
        if trial.bounded:
            return f"not trained: {trial.bounded}"
        if trial.value is None or trial.failed:
            return f"failed: {trial.failed}"
        value = number(self._config.metric, self._objective.gain(trial.value))
        done = f"{self._config.metric} {value} after {counted(trial.epochs, 'epoch')}"
        if trial.cost is None:
            return done
        return f"{done}; {cost_title(self._config.cost)}: {number(self._config.cost, trial.cost)}"


def _last_line(output: str) -> str:
    """Return the last line that a process wrote."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a result"
