"""Sweeps: the search in the store, bounds before training, the proof, resuming after a kill."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from fm_mlflow import FmMlflowError, InputError, SweepResult, compare, keys, sweep
from fm_mlflow.jobs.executors import Job, JobEnd
from fm_mlflow.listeners import SweepListener
from tests import forked
from tests.cluster import Cluster
from tests.inline import InlineExecutor
from tests.processes import PROJECT, wait_for
from tests.simulated_trials import SimulatedTrials
from tests.stores import Store, active_store, make_store

SETTINGS: dict[str, Any] = {
    "model": "mlp?hidden=16,8",
    "space": "learning_rate=3e-4:3e-2:log; batch_size=32,64",
    "dataset": "digits",
    "epochs": 2,
    "measure": "none",
    "seed": 1,
}
BOUNDED: dict[str, Any] = {
    "model": "mlp",
    "space": "hidden=4:64:log,8:16",
    "dataset": "digits",
    "epochs": 2,
    "trials": 4,
    "max_parameters": 20_000,
    "finalists": 1,
    "seeds": 1,
    "measure": "none",
}
SIMULATED = """
import json, sys
from fm_mlflow import sweep
from tests.simulated_trials import SimulatedTrials
sweep(executor=SimulatedTrials(0.1), **json.loads(sys.argv[1]))
"""


HEAVY = {keys.TEST_ACCURACY, keys.LATENCY_P50, keys.MEMORY_PEAK}
"""What a trial neither looks at nor measures."""


def children(store: Store, result: SweepResult, kind: str) -> list[Run]:
    text = f"tags.`mlflow.parentRunId` = '{result.run_id}' and tags.`{keys.KIND}` = '{kind}'"
    runs = list(store.client.search_runs(["0"], text))
    return sorted(runs, key=lambda run: int(run.data.tags.get(keys.TRIAL, "0")))


def proposals(store: Store, result: SweepResult) -> list[tuple[str, ...]]:
    names = ("model", "learning_rate", "batch_size", "seed")
    trials = children(store, result, keys.KIND_TRIAL)
    return [tuple(run.data.params[name] for name in names) for run in trials]


def curves(store: Store, result: SweepResult) -> list[list[tuple[int, float]]]:
    """Return each trial's validation accuracies as they were logged: doubled ones are seen."""
    return [
        [
            (point.step, point.value)
            for point in store.client.get_metric_history(run.info.run_id, keys.VAL_ACCURACY)
        ]
        for run in children(store, result, keys.KIND_TRIAL)
    ]


@pytest.fixture(scope="module")
def bounded(
    store_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Store, SweepResult]]:
    """A whole sweep over the built-in model's own annotations, the proof included."""
    folder = tmp_path_factory.mktemp("sweep")
    before = Path.cwd()
    os.chdir(folder)
    try:
        with active_store(make_store(store_template, folder)) as store:
            yield store, sweep(executor=InlineExecutor(), **BOUNDED)
    finally:
        os.chdir(before)


def test_bounded_out_trials_are_runs_without_training(
    bounded: tuple[Store, SweepResult],
) -> None:
    store, result = bounded
    by_status = {status: [] for status in ("bounded out", "stopped", "trained", "failed")}  # type: ignore[var-annotated]
    for trial in result.trials:
        by_status[trial.status].append(trial)
    assert by_status["failed"] == []
    assert by_status["bounded out"]
    for trial in result.trials:
        run = store.client.get_run(trial.run_id)
        over = trial.costs[keys.PARAMETERS_TRAINABLE] > 20_000
        assert (trial.status == "bounded out") == over
        assert run.info.status == "FINISHED"
        assert (keys.LOSS in run.data.metrics) == (not over)
        assert (keys.BOUNDED_OUT in run.data.tags) == over
        assert (
            not {keys.TEST_ACCURACY, keys.LATENCY_P50, keys.MEMORY_PEAK} & run.data.metrics.keys()
        )
        assert run.data.params["model"].startswith("mlp?hidden=")
    assert result.spent.bounded_out == len(by_status["bounded out"])
    assert result.spent.epochs == sum(trial.epochs for trial in result.trials)
    assert {len(trial.curve) for trial in result.trials} <= {0, 1, 2}


def test_trials_say_that_their_memory_is_not_measured(bounded: tuple[Store, SweepResult]) -> None:
    store, result = bounded
    trial = result.front[0]
    path = store.client.download_artifacts(trial.run_id, keys.MEASUREMENTS_FILE)
    text = Path(path).read_text()
    assert "several trials share a process" in text
    assert [each.path for each in store.client.list_artifacts(trial.run_id, "plots")] == []


def test_finalists_are_proven_with_fresh_seeds_on_all_images(
    bounded: tuple[Store, SweepResult],
) -> None:
    store, result = bounded
    default, *others = result.finalists
    # It exceeds the bound, and is still what all are measured by.
    assert (default.entry, default.is_default) == ("mlp?hidden=256,128", True)
    assert others
    (benchmark,) = children(store, result, keys.KIND_BENCHMARK)
    text = f"tags.`mlflow.parentRunId` = '{benchmark.info.run_id}'"
    trainings = [
        run
        for run in store.client.search_runs(["0"], text)
        if run.data.tags[keys.KIND] == keys.KIND_TRAINING
    ]
    assert len(trainings) == len(result.finalists)
    searched = {run.data.params["seed"] for run in children(store, result, keys.KIND_TRIAL)}
    assert {run.data.params["seed"] for run in trainings} == {"0"}
    assert "0" not in searched
    assert {run.data.params["validation_split"] for run in trainings} == {"0.0"}
    for each in result.finalists:
        assert each.proven is not None
        assert each.group.startswith("mlp (hidden ")
    assert "the default exceeds a bound (trainable parameters 235,146" in result.reason
    assert result.recommended == others[0].entry


def test_the_report_says_all_and_compare_takes_no_trial(
    bounded: tuple[Store, SweepResult],
) -> None:
    store, result = bounded
    rows = list(csv.DictReader(io.StringIO(Path(result.files[keys.TRIALS_CSV_FILE]).read_text())))
    assert [row["status"] for row in rows] == [trial.status for trial in result.trials]
    values = json.loads(Path(result.files[keys.SWEEP_JSON_FILE]).read_text())
    assert values["recommended"] == result.recommended
    page = Path(result.files[keys.SWEEP_HTML_FILE]).read_text()
    assert "Recommended: " in page
    assert "<script" not in page
    logged = {each.path for each in store.client.list_artifacts(result.run_id)}
    assert {keys.SWEEP_HTML_FILE, keys.SWEEP_JSON_FILE, keys.TRIALS_CSV_FILE} <= logged
    compared = compare(top=2).comparison
    assert sum(len(group.runs) for group in compared.groups) == len(result.finalists)
    assert compared.skipped == ()


def test_a_finished_sweep_is_resumed_without_training_anything(
    bounded: tuple[Store, SweepResult],
) -> None:
    store, result = bounded
    place = InlineExecutor()
    before = curves(store, result)
    again = sweep(executor=place, resume=result.run_id, finalists=1, seeds=1, measure="none")
    assert place.jobs == []
    assert again.trials == result.trials
    assert again.recommended == result.recommended
    assert curves(store, again) == before
    for name in (keys.SEARCH_TRIALS, keys.COMPARED_TRAININGS):  # nor is anything logged twice
        points = store.client.get_metric_history(result.run_id, name)
        assert len(points) == len({point.step for point in points}), name
    with pytest.raises(InputError, match="as sweep"):
        sweep(resume=result.run_id, trials=9)
    given: dict[str, Any] = {"seeds": "auto", "max_seeds": 3, "margin": 0.2, "measure": "none"}
    # A proof that was killed as it began: its run has no settings.
    tags = {keys.MLFLOW_PARENT_RUN_ID: result.run_id, keys.KIND: keys.KIND_BENCHMARK}
    begun = store.client.create_run("0", tags=tags).info.run_id
    store.client.set_terminated(begun, "KILLED")
    cluster = Cluster(accuracies=defaultdict(lambda: 0.9))
    decided = sweep(executor=cluster, resume=result.run_id, finalists=1, **given)
    assert len(cluster.jobs) == 3 * len(decided.finalists) == 6
    assert store.client.get_run(begun).info.status == "KILLED"
    assert decided.comparison is not None
    verdict = decided.comparison.comparison.verdicts[0]
    assert verdict.looked_at_seeds == 3
    page = Path(decided.files[keys.SWEEP_HTML_FILE]).read_text()
    assert "proof, up to 3 seeds" in page


def test_a_killed_sweep_continues_with_the_same_proposals(
    store: Store, store_template: Path, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "trials": 6, "finalists": 0}
    process = forked.Popen(
        [sys.executable, "-c", SIMULATED, json.dumps(settings)],
        env=store.environment(PYTHONPATH=str(PROJECT)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def trials() -> list[Run]:
        return list(store.client.search_runs(["0"], f"tags.`{keys.KIND}` = '{keys.KIND_TRIAL}'"))

    wait_for(lambda: len(trials()) > 2, "trials")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    (parent,) = store.client.search_runs(["0"], f"tags.`{keys.KIND}` = '{keys.KIND_SWEEP}'")
    place = SimulatedTrials()
    resumed = sweep(executor=place, resume=parent.info.run_id, finalists=0)
    found = proposals(store, resumed), curves(store, resumed)
    assert store.client.get_run(parent.info.run_id).info.status == "FINISHED"
    assert {run.info.status for run in trials()} == {"FINISHED"}
    assert all(keys.ERROR not in run.data.tags for run in trials())

    other = tmp_path / "undisturbed"
    other.mkdir()
    with active_store(make_store(store_template, other)) as quiet:
        whole = SimulatedTrials()
        undisturbed = sweep(executor=whole, **settings)
        assert found == (proposals(quiet, undisturbed), curves(quiet, undisturbed))
    assert place.epochs < whole.epochs == undisturbed.spent.epochs


class Notices(SweepListener):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


class Failing(SimulatedTrials):
    """Has processes that end before they come to a trial, the first ones or all."""

    def __init__(self, failures: float) -> None:
        super().__init__()
        self._left = failures

    def submit(self, job: Job) -> None:
        self._left -= 1
        if self._left < 0:
            super().submit(job)
        else:
            self._events.append(JobEnd(job, "the machine is gone", ""))


def test_processes_that_end_early_are_tried_once_more(store: Store) -> None:
    settings = {**SETTINGS, "trials": 1, "epochs": 1, "finalists": 0}
    with pytest.raises(FmMlflowError, match="trials cannot be run: the machine is gone"):
        sweep(executor=Failing(2), **settings)
    (parent,) = store.client.search_runs(["0"], f"tags.`{keys.KIND}` = '{keys.KIND_SWEEP}'")
    assert parent.info.status == "FAILED"
    place = Failing(1)
    result = sweep(executor=place, resume=parent.info.run_id, finalists=0)
    assert [trial.status for trial in result.trials] == ["trained"]
    assert len(place.jobs) == 1
    assert len(children(store, result, keys.KIND_TRIAL)) == 1


class Losing(SimulatedTrials):
    """Loses the machines of its first trial, in turn before that begins and within it."""

    def __init__(self, store: Store, losses: int) -> None:
        super().__init__()
        self._store = store
        self._left = losses

    def submit(self, job: Job) -> None:
        if not self._left or job.key != (self.jobs or [job])[0].key:
            super().submit(job)
            return
        self.jobs.append(job)
        self._left -= 1
        if self._left % 2:
            thread = threading.Thread(target=self._train, args=(job.key, 1))
            thread.start()
            thread.join()
            self._store.client.update_run(job.key, status="RUNNING")
        self._events.append(JobEnd(job, "its machine is gone", "", is_lost=True))


@pytest.mark.parametrize(("retries", "status"), [(3, "trained"), (2, "failed")])
def test_a_trial_that_is_lost_is_resumed_as_often_as_was_asked(
    store: Store, retries: int, status: str
) -> None:
    told = Notices()
    place = Losing(store, 3)
    settings = {**SETTINGS, "trials": 2, "min_epochs": 2, "finalists": 0, "warm": False}
    result = sweep(executor=place, retries=retries, progress=told, **settings)
    assert [trial.status for trial in result.trials] == [status, "trained"]
    assert len(place.jobs) == 4 + (status == "trained")
    first = store.client.get_run(result.trials[0].run_id)
    if status == "failed":
        assert told.texts[-1].endswith("was lost 3 times; it is given up")
        assert (first.info.status, first.data.tags[keys.ERROR]) == ("FAILED", "its machine is gone")
    else:
        assert told.texts[-1].endswith("was lost (its machine is gone); it is resumed: 3 of 3")
        assert curves(store, result)[0] == sorted(curves(store, result)[0])
        assert len(curves(store, result)[0]) == 2


def test_settings_that_cannot_be_searched_are_refused_before_anything_starts(
    store: Store,
) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"space": "width=1:2"}, "the arguments hidden"),
        ({"space": "hidden=1:2"}, "a range for each element"),
        ({"space": "optimizer=adam,best"}, "adam, adamw"),
        ({"space": "learning_rate=0:1"}, "a number above 0"),
        ({"space": "batch_size=1.5:3"}, "whole numbers for batch_size"),
        ({"model": "mlp?hidden=8", "space": "hidden=8:16,8:16"}, "what the model does not fix"),
        ({"model": "mlp?hidden=8"}, "a range or choices for a setting"),
        ({"space": "hidden=8:16,8:16", "cpus": 2}, "nothing with the executor local"),
        ({"space": "hidden=8:16,8:16", "executor": "none"}, "one of local, ray, slurm"),
    ]
    for settings, said in refused:
        with pytest.raises(InputError, match=said):
            sweep(**{"dataset": "digits", **settings})
    assert list(store.client.search_runs(["0"])) == []
