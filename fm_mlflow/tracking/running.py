"""Runs that the store calls RUNNING: which of them are."""

from __future__ import annotations

import math
from datetime import datetime, timezone

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.process.identity import Presence, ProcessIdentity
from fm_mlflow.results.recovery import RunningRun, Verdict
from fm_mlflow.settings.config import ReconcileConfig
from fm_mlflow.tracking.outbox.journal import is_in_use
from fm_mlflow.tracking.recovery import cause_of_death
from fm_mlflow.tracking.store import check_reachable, pages, store_errors

_REBOOT_SECONDS = 300
"""How long a run of a rebooted host must have been silent: two hosts may have the same name."""

DEAD_AFTER_SECONDS = float(ReconcileConfig.model_fields["dead_after"].default)
"""Without a sign of life for so long, another host's run counts as dead."""


def running_runs(dead_after: float) -> list[RunningRun]:
    """Return the runs of fm_mlflow that the active store calls RUNNING, with what they are.

    Args:
        dead_after: Seconds without a sign of life after which another host's run counts as dead.

    Raises:
        TrackingError: The store refuses or does not answer.
    """
    check_reachable()
    with store_errors("search for running runs"):
        client = MlflowClient()
        experiments = [each.experiment_id for each in pages(client.search_experiments)]
        text = f"attributes.status = '{keys.RUNNING}' and tags.`{keys.KIND}` LIKE '%'"
        return [judge(run, dead_after) for run in pages(client.search_runs, experiments, text)]


def close(run: RunningRun) -> bool:
    """Close a dead run as KILLED, as of when it last lived; False if it has since lived.

    Raises:
        TrackingError: The store refuses or does not answer.
    """
    with store_errors("close a run"):
        client = MlflowClient()
        now = client.get_run(run.run_id)
        if now.info.status != keys.RUNNING or _last_seen(now) != run.last_seen:
            return False
        client.set_tag(run.run_id, keys.ERROR, run.reason)
        client.set_terminated(run.run_id, keys.KILLED, run.last_seen)
    return True


def close_if_dead(run_id: str) -> None:
    """Close a run whose process is gone, where its journal does not: it was just being reopened.

    Raises:
        TrackingError: The store refuses or does not answer.
    """
    check_reachable()
    with store_errors("read a run"):
        run = MlflowClient().get_run(run_id)
    if run.info.status == keys.RUNNING and keys.KIND in run.data.tags:
        judged = judge(run, DEAD_AFTER_SECONDS)
        if judged.verdict is Verdict.DEAD:
            close(judged)


def judge(run: Run, dead_after: float, *, ask_journals: bool = True) -> RunningRun:
    """Tell whether a run that the store calls RUNNING is.

    Args:
        run: As the store knows it.
        dead_after: Seconds without a sign of life after which another host's run counts as dead.
        ask_journals: Whether a journal that is in use shows that it lives.
    """
    last_seen = _last_seen(run)
    silent = datetime.now(timezone.utc).timestamp() - last_seen / 1000
    process = ProcessIdentity.from_tags(run.data.tags)
    if process is None:
        verdict, reason = Verdict.UNKNOWN, "it does not say which process it is in"
    else:
        verdict, reason = _of_process(process, silent, dead_after)
    if ask_journals and verdict is Verdict.DEAD and is_in_use(run.info.run_id):
        verdict, reason = Verdict.RUNNING, "a process of this host has its journal open"
    return RunningRun(run.info.run_id, run.info.run_name, verdict, reason, last_seen)


def _of_process(process: ProcessIdentity, silent: float, dead_after: float) -> tuple[Verdict, str]:
    presence = process.presence()
    where = f"process {process.pid} on {process.host}"
    since = f"no sign of life for {_duration(silent)}"
    if presence is Presence.ALIVE:
        return Verdict.RUNNING, f"{where} is alive"
    if presence is Presence.GONE or (presence is Presence.REBOOTED and silent > _REBOOT_SECONDS):
        return Verdict.DEAD, cause_of_death(process, presence)
    if silent > dead_after:
        return Verdict.DEAD, f"{since} from {where}"
    return Verdict.UNKNOWN, f"{since} from {where}, which cannot be seen from here"


def _last_seen(run: Run) -> int:
    try:
        seen = datetime.fromisoformat(run.data.tags[keys.HEARTBEAT]).timestamp() * 1000
    except (KeyError, ValueError, OverflowError):
        seen = 0
    return max(int(seen), int(run.info.start_time or 0))


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{math.floor(seconds / length)} {unit}"
    return f"{max(seconds, 0):.0f} seconds"
