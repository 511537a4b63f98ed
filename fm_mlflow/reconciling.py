"""Close the runs that the store calls RUNNING and whose process is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fm_mlflow.config import ReconcileConfig, parse

if TYPE_CHECKING:
    from fm_mlflow.tracking.recovery import Delivered
    from fm_mlflow.tracking.running import RunningRun


@dataclass(frozen=True)
class ReconcileResult:
    """What a reconciliation came to.

    Attributes:
        delivered: Journals of dead runs on this machine, which were delivered first.
        closed: Runs that were closed as KILLED, or would be (`dry_run`).
        running: Runs that do run.
        unknown: Runs of which nothing certain is known; they are left alone.
    """

    delivered: list[Delivered]
    closed: list[RunningRun]
    running: list[RunningRun]
    unknown: list[RunningRun]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        return {
            "delivered": [vars(each) for each in self.delivered],
            **{
                name: [
                    {**vars(each), "verdict": each.verdict.value} for each in getattr(self, name)
                ]
                for name in ("closed", "running", "unknown")
            },
        }


def reconcile(*, dry_run: bool = False, **settings: Any) -> ReconcileResult:
    """Give every run whose process is gone the status that is true.

    On this host the process itself is looked for. A run of another host is closed only when it has
    not shown for `dead_after` seconds that it lives; a living run is never touched.

    Args:
        dry_run: Say what would be done, and do nothing.
        **settings: The fields of `ReconcileConfig`: dead_after.

    Raises:
        TrackingError: The store refuses or does not answer.
    """
    from fm_mlflow.tracking.running import Verdict, close, running_runs

    config = parse(ReconcileConfig, settings)
    delivered = [] if dry_run else _deliver_the_dead()
    runs = running_runs(config.dead_after)
    dead = [run for run in runs if run.verdict is Verdict.DEAD]
    return ReconcileResult(
        delivered=delivered,
        closed=[run for run in dead if dry_run or close(run)],
        running=[run for run in runs if run.verdict is Verdict.RUNNING],
        unknown=[run for run in runs if run.verdict is Verdict.UNKNOWN],
    )


def _deliver_the_dead() -> list[Delivered]:
    """Deliver the journals of dead runs: they know more than the store of how these ended."""
    from fm_mlflow.tracking.journal import Journal, journals
    from fm_mlflow.tracking.locks import LockedError
    from fm_mlflow.tracking.recovery import deliver_journal

    delivered = []
    for folder in journals():
        try:
            journal = Journal.open(folder)
        except (LockedError, FileNotFoundError):
            continue
        delivered.append(deliver_journal(journal))
    return delivered
