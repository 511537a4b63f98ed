"""Close the runs that the store calls RUNNING and whose process is gone."""

from __future__ import annotations

from typing import Any

from fm_mlflow.commands.sync import sync
from fm_mlflow.results.recovery import ReconcileResult, Verdict
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.config import ReconcileConfig


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
    from fm_mlflow.tracking.running import close, running_runs

    config = parse(ReconcileConfig, settings)
    # The journals of dead runs know more than the store of how these ended.
    delivered = [] if dry_run else sync().journals
    runs = running_runs(config.dead_after)
    dead = [run for run in runs if run.verdict is Verdict.DEAD]
    return ReconcileResult(
        delivered=delivered,
        closed=[run for run in dead if dry_run or close(run)],
        running=[run for run in runs if run.verdict is Verdict.RUNNING],
        unknown=[run for run in runs if run.verdict is Verdict.UNKNOWN],
    )
