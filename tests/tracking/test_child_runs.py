"""Runs that one part of a command opens for another one to join."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fm_mlflow import keys, reconcile
from fm_mlflow.tracking import child_runs
from fm_mlflow.tracking.child_runs import StoreProbe, create_child, log_output, open_run, read_child
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.tracking.store import StoreRefusedError
from fm_mlflow.tracking.trial_runs import create_trial
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


def test_a_trial_that_was_created_and_not_described_is_taken_up(store: Store) -> None:
    with TrackedRun(keys.KIND_SWEEP, "a sweep") as sweep:
        # What a sweep that is killed between two requests leaves.
        tags = {str(keys.TRIAL): "0"}
        begun = create_child(sweep, "trial 0", "mlp", 1, f"{sweep.run_id}/0", tags)
        params = {"model": "mlp", "seed": "1"}
        assert create_trial(sweep, 0, "trial 0", params, "mlp", 1) == begun
        other = create_trial(sweep, 1, "trial 1", params, "mlp", 1)
    assert other != begun
    assert store.client.get_run(begun).data.params == params
    assert len(store.client.search_runs(["0"])) == 3


def test_what_a_process_wrote_is_kept_with_its_run_and_secrets_are_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_PASSWORD", "sesame-sesame")
    run_id = store.client.create_run("0").info.run_id
    log_output(read_child(run_id), "é: opens with sesame-sesame\n")
    path = store.client.download_artifacts(run_id, keys.OUTPUT_FILE, str(store.folder))
    assert Path(path).read_text(encoding="utf-8") == "é: opens with ***\n"


def test_a_store_that_answered_is_not_looked_at_again_within_a_moment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []
    monkeypatch.setattr(child_runs, "check_reachable", lambda: looks.append(True))
    run_id = store.client.create_run("0").info.run_id
    probe = StoreProbe()
    for _ in range(3):
        read_child(run_id, probe)
    assert len(looks) == 1
    probe.forget()  # it was waited for something else
    read_child(run_id, probe)
    assert len(looks) == 2
    with pytest.raises(StoreRefusedError):
        read_child("none", probe)
    read_child(run_id, probe)
    assert len(looks) == 3  # after a failure
    monkeypatch.setattr(child_runs, "_ANSWER_HOLDS_SECONDS", 0.0)
    read_child(run_id, probe)
    read_child(run_id)
    assert len(looks) == 5
