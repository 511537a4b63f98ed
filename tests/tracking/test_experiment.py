"""Which experiment a run goes to, and where comparisons look: chosen by somebody, or not."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import fluent

from fm_mlflow import keys
from fm_mlflow.commands.compare import compare
from fm_mlflow.naming import OWN_EXPERIMENT
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking.child_runs import open_run
from fm_mlflow.tracking.experiment import experiments_of_journal, for_journal
from fm_mlflow.tracking.find_runs import find_runs
from fm_mlflow.tracking.run import TrackedRun
from tests.simulated import Simulated, log_run
from tests.stores import Store


@pytest.fixture(autouse=True)
def _nobody_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    monkeypatch.setattr(fluent, "_active_experiment_id", None)


def experiment_of_a_run(store: Store) -> str:
    """Log a training and return the name of its experiment."""
    with TrackedRun(keys.KIND_TRAINING, "a run") as run:
        pass
    assert run.pending == ""
    found = store.client.get_run(run.run_id).info.experiment_id
    assert run.experiment_id == found
    return str(store.client.get_experiment(found).name)


def test_an_experiment_of_our_own_that_says_how_to_read_it(store: Store) -> None:
    assert experiment_of_a_run(store) == OWN_EXPERIMENT
    assert experiment_of_a_run(store) == OWN_EXPERIMENT
    own = store.client.get_experiment_by_name(OWN_EXPERIMENT)
    assert own is not None
    note = own.tags["mlflow.note.content"]
    assert "tags.fm_mlflow.kind = 'training'" in note
    assert "report.html" in note
    assert f"(#/experiments/{own.experiment_id}/runs?workflowType=machine_learning&view" in note
    view = json.loads(own.tags["mlflow.sharedViewState.fm_mlflow"])
    sections = [each["name"] for each in view["compareRunSections"]]
    of_keys = {key.rpartition("/")[0] for key in keys.all_keys() if key.is_metric} - {""}
    assert of_keys <= set(sections)
    assert (sections[0], sections[-1]) == ("Model metrics", "estimate")
    shown = [each["metricKey"] for each in view["compareRunCharts"]]
    assert shown[:4] == ["accuracy", "val_accuracy", "loss", "val_loss"]
    assert Path(own.artifact_location).is_relative_to(store.folder)


def test_the_one_that_was_chosen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment_of_a_run(store)
    by_id = store.client.create_experiment("by id")
    with monkeypatch.context() as context:
        context.setenv("MLFLOW_EXPERIMENT_ID", by_id)
        assert experiment_of_a_run(store) == find_runs(Choice()).experiment == "by id"
        context.setenv("MLFLOW_EXPERIMENT_ID", "0")  # as `mlflow run` does
        assert experiment_of_a_run(store) == find_runs(Choice()).experiment == "Default"
    with monkeypatch.context() as context:
        context.setenv("MLFLOW_EXPERIMENT_NAME", "by name")
        assert experiment_of_a_run(store) == find_runs(Choice()).experiment == "by name"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")  # so that what MLflow sets is taken back
    mlflow.set_experiment("active")
    assert experiment_of_a_run(store) == find_runs(Choice()).experiment == "active"


def test_a_run_within_another_goes_where_that_is(store: Store) -> None:
    other = store.client.create_experiment("other")
    with mlflow.start_run(experiment_id=other) as outer, open_run(keys.KIND_BENCHMARK):
        inner = mlflow.active_run()
        assert inner is not None
        assert inner.info.run_id != outer.info.run_id
        assert inner.info.experiment_id == other


def test_a_store_from_before_stays_as_it_is(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    earlier = log_run(store.client, Simulated())
    assert experiment_of_a_run(store) == "Default"
    assert store.client.get_experiment_by_name(OWN_EXPERIMENT) is None
    result = compare(output="out")
    assert result.comparison.best.run_id == earlier
    assert result.experiment_id == "0"
    assert not caplog.records


def test_trainings_that_are_not_compared_are_mentioned(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    experiment_of_a_run(store)
    own = store.client.get_experiment_by_name(OWN_EXPERIMENT)
    assert own is not None
    of_ours = log_run(store.client, Simulated(), own.experiment_id)
    of_mlflow_run = log_run(store.client, Simulated())
    assert compare(output="out").comparison.best.run_id == of_ours
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("the experiment Default has trainings, too, which are not among these")
    assert "\n" not in said
    named = compare(output="out", experiment="Default")
    assert named.comparison.best.run_id == of_mlflow_run
    assert len(caplog.records) == 1


def test_an_own_experiment_that_was_deleted(store: Store) -> None:
    experiment_of_a_run(store)
    own = store.client.get_experiment_by_name(OWN_EXPERIMENT)
    assert own is not None
    store.client.delete_experiment(own.experiment_id)
    assert experiment_of_a_run(store) == find_runs(Choice()).experiment == "Default"


def test_where_the_journal_of_a_run_that_began_offline_is_delivered_to(store: Store) -> None:
    client = store.client
    assert experiments_of_journal(client, "7", None) == ["7"]
    assert experiments_of_journal(client, None, None) == ["0"]  # of version 0.1
    named = experiments_of_journal(client, None, "by name")
    assert named == experiments_of_journal(client, None, "by name")
    assert for_journal() == (None, OWN_EXPERIMENT)
    own, default = experiments_of_journal(client, *for_journal())  # where it may be already, too
    assert [client.get_experiment(each).name for each in (*named, own, default)] == [
        "by name",
        OWN_EXPERIMENT,
        "Default",
    ]


def test_of_a_store_from_before_too(store: Store) -> None:
    log_run(store.client, Simulated())
    assert experiments_of_journal(store.client, *for_journal()) == ["0"]


def test_a_journal_says_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "by name")
    assert for_journal() == (None, "by name")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    assert for_journal() == ("7", None)
