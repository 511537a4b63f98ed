"""Which runs a comparison finds in real stores, and what it says of the others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import mlflow
import numpy as np
import pytest

from fm_mlflow import InputError, TrackingError, keys
from fm_mlflow.process.identity import _OLD_TAGS, ProcessIdentity
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking.find_runs import FoundRuns, _config, find_runs
from fm_mlflow.tracking.run_details import load_details
from tests.processes import free_port
from tests.simulated import Simulated, log_run
from tests.stores import Store


def found(store: Store, *runs: Simulated, **choice: str) -> FoundRuns:
    for run in runs:
        log_run(store.client, run)
    return find_runs(Choice(**choice))


def names(runs: Iterable[object]) -> list[str]:
    return [run.name for run in runs]  # type: ignore[attr-defined]


def test_a_run_becomes_a_record(store: Store) -> None:
    (run,) = found(store, Simulated("cnn", seed=3, accuracy=0.91)).runs
    assert (run.model, run.seed, run.jobs, run.version) == ("cnn", 3, 1, "0.1.0")
    assert run.metrics[keys.TEST_ACCURACY] == pytest.approx(0.91)
    assert run.config == {
        "model.filters": "16,32",  # what models without arguments had
        "model.dense": "64",
        "batch_size": "64",
        "dataset": "fashion_mnist",
        "epochs": "5",
        "learning_rate": "0.001",
        "loss": "sparse_categorical_crossentropy",
        "optimizer": "adam",
        "validation_split": "0",
    }
    assert run.machine["cpu"] == "Test CPU"


@pytest.mark.parametrize(
    ("params", "config"),
    [
        ({"learning_rate": "1e-3"}, {"learning_rate": "0.001"}),
        ({"learning_rate": "'1e-3'"}, {"learning_rate": "0.001"}),
        ({"epochs": "5.0"}, {"epochs": "5"}),
        ({"optimizer": "adam", "compiled/optimizer": "sgd"}, {"optimizer": "sgd"}),
        ({"note": "it's"}, {"note": "it's"}),
        ({"measure": "none", "data_dir": "''"}, {}),
        ({"fit_loop": "keras"}, {"fit_loop": "keras"}),
        ({"precision": "mixed_bfloat16"}, {"precision": "mixed_bfloat16"}),
    ],
)
def test_spellings_of_a_setting_are_one(
    store: Store, params: dict[str, str], config: dict[str, str]
) -> None:
    (run,) = found(store, Simulated(params=params)).runs
    assert run.config.items() >= config.items()
    assert not {"measure", "data_dir", "model", "seed", "compiled/optimizer"} & set(run.config)


def test_what_mlflows_callback_says_of_an_optimizer_is_read_as_ours() -> None:
    logged = {
        "optimizer_name": "adam_3",
        "optimizer_learning_rate": "0.0010000000474974513",
        "optimizer_beta_1": "0.9",
    }
    assert _config(logged, {}) == {"optimizer": "adam", "learning_rate": "0.001"}
    scheduled = {"opt_name": "Adam", "opt_learning_rate": "{'decay': 1}", "epochs": "2"}
    assert _config(scheduled, {}) == {"optimizer": "adam", "epochs": "2"}


def test_a_setting_at_its_later_default_is_that_of_older_runs(store: Store) -> None:
    later = {"fit_loop": "auto", "precision": "float32", "model.hidden": "256,128"}
    old, new = found(store, Simulated("mlp"), Simulated("mlp", params=later, seed=1)).runs
    assert old.config == new.config


@pytest.mark.parametrize(
    ("data_set", "models"),
    [("digits", ["b"]), ("fashion_mnist", ["a"]), ("e" * 8, ["b"]), ("", ["a", "b"])],
)
def test_runs_on_one_data_set(store: Store, data_set: str, models: list[str]) -> None:
    digits = Simulated("b", tags={keys.DATASET_DIGEST: "e" * 64}, params={"dataset": "digits"})
    runs = found(store, Simulated("a"), digits, dataset=data_set).runs
    assert [run.model for run in runs] == models


@pytest.mark.parametrize("data_set", ["cifar", "e" * 7])
def test_a_data_set_that_no_run_is_on(store: Store, data_set: str) -> None:
    digits = Simulated("b", tags={keys.DATASET_DIGEST: "e" * 64}, params={"dataset": "digits"})
    with pytest.raises(InputError, match="accepted: a data set of these runs: digits, fashion_mni"):
        found(store, Simulated("a"), digits, dataset=data_set)


def test_what_is_skipped_says_why(store: Store) -> None:
    store.client.create_run("0", run_name="of others")
    foreign = store.client.create_run("0", run_name="finished, of others")
    store.client.set_terminated(foreign.info.run_id)
    for kind in (keys.KIND_COMPARISON, keys.KIND_BENCHMARK):
        store.client.create_run("0", tags={keys.KIND: kind})
    incomplete = store.client.create_run(
        "0", run_name="incomplete", tags={keys.KIND: keys.KIND_TRAINING}
    )
    store.client.set_terminated(incomplete.info.run_id)
    result = found(
        store,
        Simulated(name="good"),
        Simulated(name="running", status="RUNNING"),
        Simulated(name="failed", status="FAILED", tags={keys.ERROR: "loss became NaN"}),
        Simulated(name="killed", status="KILLED"),
    )
    assert names(result.runs) == ["good"]
    assert {run.name: run.reason for run in result.skipped} == {
        "of others": "it has not ended: RUNNING",
        "finished, of others": "logged by others; naming it (runs) includes it",
        "incomplete": "incomplete: it has no test_accuracy",
        "running": "it has not ended: RUNNING",
        "failed": "it ended as FAILED: loss became NaN",
        "killed": "it ended as KILLED: no cause is recorded",
    }


def test_what_is_no_finite_number_counts_as_not_measured(store: Store) -> None:
    ids = [log_run(store.client, Simulated(seed=seed)) for seed in range(2)]
    store.client.log_metric(ids[0], keys.FIT_SECONDS, float("inf"), timestamp=5000)
    store.client.log_metric(ids[0], keys.LATENCY_P50, float("nan"), timestamp=5000)
    store.client.log_metric(ids[1], keys.TEST_ACCURACY, float("inf"), timestamp=5000)
    both = find_runs(Choice())
    (run,) = both.runs
    assert run.metrics.keys().isdisjoint({keys.FIT_SECONDS, keys.LATENCY_P50})
    (skipped,) = both.skipped
    assert skipped.reason == "incomplete: its test_accuracy is not a finite number"


def test_runs_of_others_are_included_by_naming_them(store: Store) -> None:
    with mlflow.start_run(run_name="theirs") as theirs:
        for step in range(3):
            mlflow.log_metric("val_accuracy", 0.5 + step / 10, step=step)
        mlflow.log_param("epochs", 3)
    (run,) = find_runs(Choice(runs=theirs.info.run_id)).runs
    assert (run.model, run.seed, run.version) == ("theirs", None, None)
    details = load_details([run])[run.run_id]
    assert [step for step, _ in details.curves["val_accuracy"]] == [1, 2, 3]
    assert details.predictions is None
    assert not details.problems


def test_named_runs_that_were_deleted_are_skipped(store: Store) -> None:
    run_id = log_run(store.client, Simulated())
    store.client.delete_run(run_id)
    result = find_runs(Choice(runs=run_id))
    assert [run.reason for run in result.skipped] == ["it was deleted"]


def test_models_and_filters_narrow_the_search(store: Store) -> None:
    hostile = "a'b\"c"
    result = found(store, *(Simulated(model) for model in ("mlp", "cnn", hostile)))
    assert len(result.runs) == 3
    assert [run.model for run in find_runs(Choice(models="cnn")).runs] == ["cnn"]
    assert [run.model for run in find_runs(Choice(models=hostile)).runs] == [hostile]
    assert [run.model for run in find_runs(Choice(models="mlp, cnn")).runs] == ["mlp", "cnn"]
    assert find_runs(Choice(filter="params.epochs = '7'")).runs == []
    narrowed = find_runs(Choice(filter="params.epochs = '5'", models="mlp"))
    assert [run.model for run in narrowed.runs] == ["mlp"]


def test_many_runs_come_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fm_mlflow.tracking.store._PAGE", 2)
    result = found(store, *(Simulated(seed=seed, predictions=False) for seed in range(5)))
    assert [run.seed for run in result.runs] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"experiment": "none"}, "such as Default"),
        ({"runs": "0" * 32}, "ids of runs in the store"),
        ({"runs": "../x"}, "ids of runs in the store"),
        ({"filter": "nonsense"}, "a filter that MLflow reads"),
        ({"filter": "params.a = 'b'", "runs": "0" * 32}, "nothing where runs are named"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(
    store: Store, choice: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        find_runs(Choice(**choice))


def test_the_machine_and_the_process_in_a_tag_each_or_in_many(store: Store) -> None:
    process = ProcessIdentity("here; there", 7, "a-boot 4026", "99")
    new: dict[str, str] = {keys.MACHINE: json.dumps({"cpu": "new", "load": "1"}), **process.tags()}
    old: dict[str, str] = dict(zip(_OLD_TAGS, ("here", "7", "a-boot 4026", "99"), strict=True))
    deep: dict[str, str] = {keys.MACHINE: "[" * 10_000}
    number: dict[str, str] = {keys.MACHINE: '{"cpu": 1}'}
    for tags in (new, old, deep, number):
        log_run(store.client, Simulated(tags=tags))
    found = find_runs(Choice()).runs
    assert [run.host for run in found] == ["here; there", "here", "", ""]
    assert [run.machine.get("cpu") for run in found] == ["new", "Test CPU", None, None]
    assert ProcessIdentity.from_tags(new) == process
    assert ProcessIdentity.from_tags(old) == replace(process, host="here")
    assert ProcessIdentity.from_tags({keys.PROCESS: "here; x; b; 1"}) is None
    assert ProcessIdentity.from_tags({keys.PROCESS: "here"}) is None


def test_the_experiment_is_the_active_one_or_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = store.client.create_experiment("other")
    log_run(store.client, Simulated(), other)
    assert find_runs(Choice()).runs == []
    assert len(find_runs(Choice(experiment="other")).runs) == 1
    assert len(find_runs(Choice(experiment=other)).runs) == 1
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    assert find_runs(Choice()).experiment == "other"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "not there")
    with pytest.raises(InputError, match="not there"):
        find_runs(Choice())
    assert store.client.get_experiment_by_name("not there") is None


def test_a_store_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
    try:
        with pytest.raises(TrackingError, match="does not answer"):
            find_runs(Choice())
    finally:
        mlflow.set_tracking_uri(before)


def test_details_of_a_run(store: Store) -> None:
    (run,) = found(store, Simulated(accuracy=0.8)).runs
    details = load_details([run])[run.run_id]
    assert details.predictions is not None
    assert np.mean(details.predictions.correct) == pytest.approx(0.8)
    epoch, reached = details.curves[keys.VAL_ACCURACY][-1]
    assert epoch == 5
    assert reached == pytest.approx(0.8)
    assert details.measurements[keys.LATENCY_P50]["method"] == "chosen"
    assert details.layer_types == ("Dense",)
    assert not details.problems


@pytest.mark.parametrize(
    "damage", ["deleted", "empty", "truncated", "flipped", "another file", "no labels"]
)
def test_predictions_that_cannot_be_read_are_a_problem_in_words(store: Store, damage: str) -> None:
    (run,) = found(store, Simulated()).runs
    (file,) = store.folder.rglob("test.npz")
    if damage == "deleted":
        file.unlink()
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "flipped":
        content = file.read_bytes()
        file.write_bytes(content[:200] + bytes(50) + content[250:])
    elif damage == "another file":
        np.savez(file, label=np.zeros(3), probability=np.zeros(4))
    else:
        np.savez(file, label=np.full(3, -1), probability=np.zeros((3, 4)))
    details = load_details([run])[run.run_id]
    assert details.predictions is None
    (problem,) = details.problems
    why = "it has no {}, so" if damage == "deleted" else "its {} cannot be read: "
    assert problem.startswith(why.format(keys.PREDICTIONS_FILE))
    assert len(details.curves) == 5


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"measurements": [3]}', '{"measurements": 3}', "{}"]
)
def test_measurements_that_cannot_be_read_are_a_problem_in_words(
    store: Store, content: str
) -> None:
    (run,) = found(store, Simulated()).runs
    (file,) = store.folder.rglob("measurements.json")
    file.write_text(content)
    details = load_details([run])[run.run_id]
    assert details.measurements == {}
    (problem,) = details.problems
    assert problem.startswith("its measurements.json cannot be read: ")


def test_through_a_server(server: Store) -> None:
    experiment = server.client.create_experiment("query")
    log_run(server.client, Simulated(), experiment)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.uri)
    try:
        (run,) = find_runs(Choice(experiment="query")).runs
        details = load_details([run])[run.run_id]
    finally:
        mlflow.set_tracking_uri(before)
    assert details.predictions is not None
    assert not details.problems
