"""Which experiment a run goes to, and where comparisons look: chosen by somebody, or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.tracking import fluent

from fm_mlflow import BenchmarkError, benchmark, keys, register
from fm_mlflow.commands.compare import choose, compare
from fm_mlflow.errors import ComparisonError
from fm_mlflow.naming import OWN_EXPERIMENT
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking.child_runs import open_run
from fm_mlflow.tracking.experiment import experiments_of_journal, for_journal
from fm_mlflow.tracking.find_runs import find_runs
from fm_mlflow.tracking.run import TrackedRun
from tests.cluster import Cluster
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


def test_mlflow_run_mentions_what_is_in_our_own(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    experiment_of_a_run(store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")  # as `mlflow run` does
    said = f"the experiment {OWN_EXPERIMENT} has trainings, too, which are not among these"
    for command in (compare, register):
        caplog.clear()
        with pytest.raises(ComparisonError, match="nothing to compare: 'Default'"):
            command()
        assert [record.getMessage().startswith(said) for record in caplog.records] == [True]


def test_runs_of_others_are_found_again_and_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    other = store.client.create_run("0").info.run_id
    store.client.log_metric(other, "val_accuracy", 0.9)
    store.client.set_terminated(other)
    for _ in range(2):
        result = compare(metric="val_accuracy", output="out")
        assert result.comparison.best.run_id == other
        assert store.client.get_experiment(result.experiment_id).name == OWN_EXPERIMENT
    assert not caplog.records
    experiment_of_a_run(store)
    with pytest.raises(ComparisonError, match=f"nothing to compare: '{OWN_EXPERIMENT}'"):
        compare(metric="val_accuracy", output="out")
    assert "the experiment Default has trainings, too" in caplog.text


def test_a_benchmark_and_what_it_is_resumed_with_are_together(store: Store) -> None:
    settings: dict[str, Any] = {"models": "mlp", "seeds": 1, "dataset": "digits", "output": "out"}
    with pytest.raises(BenchmarkError) as failed:
        benchmark(**settings, executor=Cluster({("mlp", 0): "fails"}))
    result = benchmark(resume=failed.value.result.run_id, output="out", executor=Cluster())
    own = store.client.get_experiment_by_name(OWN_EXPERIMENT)
    assert own is not None
    assert result.experiment_id == own.experiment_id
    assert len(store.client.search_runs([own.experiment_id])) == 4  # two trainings, the comparison
    assert store.client.search_runs(["0"]) == []
    assert choose(Choice())[0].run_id == result.trainings[0].run_id


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
    assert for_journal() == (None, "")
    own, default = experiments_of_journal(client, *for_journal())  # where it may be already, too
    assert [client.get_experiment(each).name for each in (*named, own, default)] == [
        "by name",
        OWN_EXPERIMENT,
        "Default",
    ]


def test_of_a_store_from_before_too(store: Store) -> None:
    log_run(store.client, Simulated())
    assert experiments_of_journal(store.client, *for_journal()) == ["0"]
    (chosen,) = experiments_of_journal(store.client, None, OWN_EXPERIMENT)
    assert store.client.get_experiment(chosen).name == OWN_EXPERIMENT


def test_a_journal_says_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "by name")
    assert for_journal() == (None, "by name")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    assert for_journal() == ("7", None)
