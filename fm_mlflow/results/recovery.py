"""What `sync` and `reconcile` return: journals delivered, runs closed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fm_mlflow.results import Result


@dataclass(frozen=True)
class SyncResult(Result):
    """What a synchronisation came to.

    Attributes:
        journals: The journals that were looked at.
        in_use: Ids of those that a living process has open: runs that continue, or another `sync`.
    """

    journals: list[Delivered]
    in_use: list[str]

    @property
    def complete(self) -> bool:
        """Whether nothing is pending, but for runs that continue."""
        return not any(each.pending for each in self.journals)


@dataclass(frozen=True)
class ReconcileResult(Result):
    """What a reconciliation came to.

    Attributes:
        delivered: Journals of dead runs of this user, which were delivered first; of those of
            another store, what delivers them.
        closed: Runs that were closed as KILLED, or would be (`dry_run`).
        running: Runs that do run.
        unknown: Runs of which nothing certain is known; they are left alone.
    """

    delivered: list[Delivered]
    closed: list[RunningRun]
    running: list[RunningRun]
    unknown: list[RunningRun]


@dataclass(frozen=True)
class Delivered:
    """What delivering a journal came to.

    Attributes:
        run_id: Id of the run in the store; empty when there is none yet.
        tracking_uri: The store, any password hidden.
        records: How many records were delivered now.
        pending: What is still pending or refused, why, and what to do, in one line; empty when the
            store has all.
    """

    journal_id: str
    run_id: str
    tracking_uri: str
    records: int
    pending: str


class Verdict(Enum):
    """What a run is that the store calls RUNNING."""

    RUNNING = "running"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class RunningRun:
    """A run that the store calls RUNNING.

    Attributes:
        reason: Why, in one line; the cause of death where it is dead.
        last_seen: When it last showed that it lives, in milliseconds since 1970.
    """

    run_id: str
    name: str
    verdict: Verdict
    reason: str
    last_seen: int
