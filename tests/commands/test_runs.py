"""The training runs of real stores as a data frame."""

from __future__ import annotations

import time

import mlflow
import pytest

from fm_mlflow import InputError, keys, runs
from tests.simulated import Simulated, log_run
from tests.stores import Store

TYPES = {
    "run_name": "string",
    "model": "string",
    "seed": "Int64",
    "experiment": "string",
    "status": "string",
    "error": "string",
    "start_time": "datetime64[ms, UTC]",
    "seconds": "float64",
    "host": "string",
    "jobs": "Int64",
    "parts": "Int64",
    "data_digest": "string",
    "params.epochs": "Int64",
    "params.batch_size": "Int64",
    "params.learning_rate": "float64",
    "params.optimizer": "string",
    "machine.cpu": "string",
    "machine.load": "float64",
    "test_accuracy": "float64",
    "flops/inference": "float64",
    "latency/p99_ms": "float64",
}


def logged(store: Store, *simulated: Simulated) -> list[str]:
    ids = []
    for run in simulated:
        ids.append(log_run(store.client, run))
        time.sleep(0.002)  # they start at different milliseconds
    return ids


def test_a_run_is_a_row_of_typed_columns(store: Store) -> None:
    (run_id,) = logged(store, Simulated("cnn", seed=3, accuracy=0.91, params={"note": "1"}))
    frame = runs()
    assert list(frame.index) == [run_id]
    assert frame.index.name == "run_id"
    assert {name: str(frame[name].dtype) for name in TYPES} == TYPES
    row = frame.loc[run_id]
    info = store.client.get_run(run_id).info
    assert row["start_time"].timestamp() * 1000 == info.start_time
    assert row["seconds"] == (info.end_time - info.start_time) / 1000
    assert row["test_accuracy"] == pytest.approx(0.91)
    expected = {
        **{"run_name": "cnn, seed 3", "model": "cnn", "seed": 3, "experiment": "Default"},
        **{"status": "FINISHED", "jobs": 1, "parts": 1, "data_digest": "d" * 64},
        **{"params.epochs": 5, "params.learning_rate": 0.001, "params.validation_split": 0.0},
        # Simulated runs are as they were before there was a choice of loops.
        **{
            "params.fit_loop": "auto",
            "params.precision": "float32",
            "params.note": "1",
            "machine.cpu": "Test CPU",
            "machine.load": 0.5,
        },
        keys.FLOPS_INFERENCE: 1_442_332.0,
    }
    assert {name: row[name] for name in expected} == expected
    assert frame[["error", "latency/p99_ms", "machine.memory"]].isna().all(axis=None)


def test_an_empty_store_gives_the_typed_columns(store: Store) -> None:
    frame = runs()
    assert len(frame) == 0
    assert {name: str(frame[name].dtype) for name in TYPES} == TYPES


def test_runs_that_did_not_finish_say_so_and_other_kinds_are_left_out(store: Store) -> None:
    store.client.create_run("0", tags={keys.KIND: keys.KIND_COMPARISON})
    store.client.create_run("0", run_name="of others")
    good, failed, killed, running, gone = logged(
        store,
        Simulated(),
        Simulated(status="FAILED", tags={keys.ERROR: "loss became NaN"}),
        Simulated(status="KILLED"),
        Simulated(status="RUNNING"),
        Simulated(),
    )
    store.client.delete_run(gone)
    frame = runs()
    assert list(frame.index) == [good, failed, killed, running]
    assert list(frame["status"]) == ["FINISHED", "FAILED", "KILLED", "RUNNING"]
    assert frame.loc[failed, "error"] == "loss became NaN"
    assert list(frame.index[frame["seconds"].isna()]) == [running]
    assert list(runs(status="FAILED").index) == [failed]
    assert list(runs(status="FINISHED", runs=f"{failed},{good}").index) == [good]


def test_what_is_no_finite_number_is_missing(store: Store) -> None:
    (run_id,) = logged(store, Simulated())
    for name, value in ((keys.FIT_SECONDS, "nan"), (keys.LATENCY_P50, "inf")):
        store.client.log_metric(run_id, name, float(value), timestamp=5000)
    assert runs()[[keys.FIT_SECONDS, keys.LATENCY_P50]].isna().all(axis=None)


def test_parameters_of_another_type_are_missing(store: Store) -> None:
    logged(store, Simulated(params={"epochs": "five", "batch_size": "6.5", "seed": "7"}))
    frame = runs()
    assert frame[["params.epochs", "params.batch_size"]].isna().all(axis=None)
    assert list(frame["seed"]) == [7]


def test_experiment_models_and_filter_choose(store: Store) -> None:
    mlp, cnn = logged(store, Simulated(), Simulated("cnn", params={"epochs": "7"}))
    other = log_run(store.client, Simulated(), store.client.create_experiment("other"))
    assert list(runs().index) == [mlp, cnn]
    assert list(runs(models="cnn").index) == [cnn]
    assert list(runs(filter="params.epochs = '5'").index) == [mlp]
    assert list(runs(experiment="other").index) == [other]
    assert list(runs(runs=f"{other},{mlp}")["experiment"]) == ["Default", "other"]


def test_runs_of_others_are_there_where_they_are_named(store: Store) -> None:
    with mlflow.start_run(run_name="theirs") as theirs:
        mlflow.log_metrics({"seconds": 1.5, "params.size": 2.5, "reward": 3.5})
    assert len(runs()) == 0
    row = runs(runs=theirs.info.run_id).loc[theirs.info.run_id]
    assert (row["run_name"], row["model"]) == ("theirs", "theirs")
    # What is called as another column is not lost.
    assert (row["metrics.seconds"], row["metrics.params.size"], row["reward"]) == (1.5, 2.5, 3.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"status": "DONE"}, "status.*all, FINISHED, FAILED, KILLED, RUNNING"),
        ({"experiment": "none"}, "such as Default"),
        ({"runs": "0" * 32}, "ids of runs in the store"),
        ({"filter": "nonsense"}, "a filter that MLflow reads"),
        ({"cost": "flops/inference"}, "experiment, runs, models, dataset, filter, status"),
    ],
)
def test_bad_input_is_refused(store: Store, settings: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        runs(**settings)
