"""Deliver the journals of runs that their tracking stores do not have in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fm_mlflow.errors import InputError
from fm_mlflow.results.recovery import Delivered, SyncResult
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.config import SyncConfig


def sync(run_ids: Sequence[str] = (), **settings: Any) -> SyncResult:
    """Deliver pending journals into their runs: nothing lost, nothing doubled.

    A run whose process is gone is closed as KILLED or FAILED, with the cause where it is known.
    Of other stores than the active one, or than `store`, and of folders that are not this user's
    alone, the result only says what is pending and which command delivers it.

    Args:
        run_ids: Ids of runs, or of journals (`j-…`); by default every journal of this user.
        **settings: The fields of `SyncConfig`: store.

    Raises:
        InputError: There is no journal of such a run; or $FM_MLFLOW_JOURNAL_DIR names a folder
            that is not this user's alone.
        LockedError: One of `run_ids` is still going on, or another process delivers it.
    """
    from fm_mlflow.process.file_lock import LockedError
    from fm_mlflow.tracking.outbox.journal import clear_remains, journals, stored_run_id
    from fm_mlflow.tracking.outbox.roots import candidates
    from fm_mlflow.tracking.recovery import deliver_journal

    config = parse(SyncConfig, settings)
    clear_remains()
    problems = {folder: problem for folder, problem in candidates() if problem}
    found = {folder: {folder.name, stored_run_id(folder)} for folder in journals()}
    found.update((folder, {folder.name}) for folder in problems)
    for run_id in run_ids:
        if not any(run_id in names for names in found.values()):
            here = ", ".join(folder.name for folder in found) or "there is none, all is delivered"
            raise InputError("run", run_id, f"a run with a journal here: {here}")
    delivered, in_use = [], []
    for folder, names in found.items():
        if run_ids and names.isdisjoint(run_ids):
            continue
        if problem := problems.get(folder):
            pending = f"the journal {folder} is left alone: it {problem}"
            delivered.append(Delivered(folder.name, "", "", 0, pending))
            continue
        try:
            delivered.append(deliver_journal(folder, config.store, is_named=bool(run_ids)))
        except LockedError:
            if run_ids:
                raise
            in_use.append(folder.name)
        except FileNotFoundError:
            continue  # another process has just delivered it
    return SyncResult(delivered, in_use)
