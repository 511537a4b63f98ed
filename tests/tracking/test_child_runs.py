"""Runs that one part of a command opens for another one to join."""

from __future__ import annotations

import os
import signal

from fm_mlflow import keys, reconcile
from fm_mlflow.tracking.child_runs import open_run
from tests import forked
from tests.processes import START_SECONDS
from tests.stores import Store


def open_and_die() -> None:
    with open_run(keys.KIND_COMPARISON):
        os.kill(os.getpid(), signal.SIGKILL)


def test_one_whose_process_is_killed_before_it_is_joined_is_closed(store: Store) -> None:
    log = store.folder / "log"
    died = forked.start(open_and_die, environment=store.environment(), output=log)
    died.wait(START_SECONDS)
    assert died.returncode == -signal.SIGKILL, log.read_text()
    assert store.only_run().info.status == "RUNNING"
    (closed,) = reconcile().closed
    run = store.only_run()
    assert closed.run_id == run.info.run_id
    assert run.info.status == "KILLED"
    assert "killed by SIGKILL" in run.data.tags[keys.ERROR]
