"""Close the runs that the store calls RUNNING and whose process is gone."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fm_mlflow.config import ReconcileConfig
from fm_mlflow.results.recovery import ReconcileResult
from fm_mlflow.settings import parse

if TYPE_CHECKING:
    from fm_mlflow.results.recovery import Delivered


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
    from fm_mlflow.results.recovery import Verdict
    from fm_mlflow.tracking.running import close, running_runs

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
    from fm_mlflow.process.file_lock import LockedError
    from fm_mlflow.tracking.outbox.journal import journals
    from fm_mlflow.tracking.recovery import deliver_journal

    delivered = []
    for folder in journals():
        with suppress(LockedError, FileNotFoundError):
            delivered.append(deliver_journal(folder))
    return delivered
