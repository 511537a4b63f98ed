"""A tracked training from the outside: what is in the store afterwards, and that it is true."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from PIL import Image

from fm_mlflow import InputError, Interrupted, TrainingError, keys, sync, train
from fm_mlflow.analysis.examples import match_examples
from fm_mlflow.analysis.grouping import group_runs
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking.candidate import find_training_run
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.tracking.run_details import load_details
from tests.outages import Line, Way
from tests.stores import Store, active_store
from tests.trained import DIGITS, MEASURED, SMALL, Finished, Settings

SHORT: Settings = {**DIGITS, "epochs": 1}

# Parameter counts, sizes and estimates of the reference notebook.
REFERENCE = {
    "mlp": {
        "parameters/trainable": 235_146,
        "parameters/non_trainable": 0,
        "estimate/inference_flops": 469_504,
        "estimate/training_flops": 1_408_512,
        "estimate/training_memory_mib": pytest.approx(2.69, abs=0.005),
        "size/h5_mib": pytest.approx(2.72, abs=0.005),
        "flops/inference": 469_948,
        "flops/training_core": 1_007_104,
    },
    "cnn": {
        "parameters/trainable": 56_714,
        "parameters/non_trainable": 0,
        "estimate/inference_flops": 113_184,
        "estimate/training_flops": 339_552,
        "estimate/training_memory_mib": pytest.approx(0.65, abs=0.005),
        "size/h5_mib": pytest.approx(0.69, abs=0.005),
        "flops/inference": 1_442_332,
        "flops/training_core": 4_045_824,
    },
}


def test_the_figures_of_the_reference(finished: Finished) -> None:
    expected = REFERENCE[finished.result.config.model]
    logged = finished.run.data.metrics
    assert {name: logged[name] for name in expected} == expected
    assert {name: finished.result.metrics[name] for name in expected} == expected


def test_status_name_tags_and_params(finished: Finished, digits: Dataset) -> None:
    run, model = finished.run, finished.result.config.model
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"{model}, 2 epochs, seed 0"
    assert run.data.tags["fm_mlflow.kind"] == "training"
    assert run.data.tags["fm_mlflow.model"] == model
    assert run.data.tags["fm_mlflow.dataset_digest"] == digits.digest
    assert "fm_mlflow.error" not in run.data.tags
    arguments = {
        "mlp": {"model.hidden": "256,128"},
        "cnn": {"model.filters": "16,32", "model.dense": "64"},
    }
    assert run.data.params == {
        "model": model,
        **arguments[model],
        "epochs": "2",
        "batch_size": "64",
        "learning_rate": "0.001",
        "optimizer": "adam",
        "loss": "sparse_categorical_crossentropy",
        "seed": "0",
        "validation_split": "0.0",
        "dataset": "digits",
        "fit_loop": "auto",
        "precision": "float32",
    }


def test_description_reads_well(finished: Finished) -> None:
    note = finished.run.data.tags["mlflow.note.content"]
    assert "scikit-learn's digits (8x8, enlarged to 28x28): 1,437 training images, 2 epochs" in note
    assert f"| test accuracy | {finished.result.test_accuracy:.4f} |" in note
    model = finished.result.config.model
    assert f"fm-mlflow train --model {model} --epochs 2 --dataset digits" in note


@pytest.mark.parametrize(
    "name", ["loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "epoch_seconds"]
)
def test_one_point_an_epoch(finished: Finished, name: str) -> None:
    points = finished.store.client.get_metric_history(finished.result.run_id, name)
    assert [point.step for point in points] == [1, 2]
    assert [point.value for point in points] == finished.result.history[name]
    assert all(point.value > 0 for point in points)


def test_it_learns(finished: Finished) -> None:
    assert finished.result.history["loss"][1] < finished.result.history["loss"][0]
    assert finished.result.metrics["test_accuracy"] > 0.7
    # The test set is the validation set here, and no weight changed since.
    assert finished.result.history["val_accuracy"][-1] == pytest.approx(
        finished.result.test_accuracy
    )
    assert finished.result.history["val_loss"][-1] == pytest.approx(
        finished.result.test_loss, rel=1e-5
    )


def test_predictions_repeat_the_logged_accuracy_and_loss(
    finished: Finished, digits: Dataset
) -> None:
    predictions = finished.predictions()
    np.testing.assert_array_equal(predictions["label"], digits.test.targets)
    probability = predictions["probability"]
    assert probability.shape == (360, 10)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-5)
    logged = finished.run.data.metrics
    assert np.mean(probability.argmax(axis=1) == predictions["label"]) == logged["test_accuracy"]
    chosen = probability[np.arange(360), predictions["label"]]
    assert -np.log(chosen).mean() == pytest.approx(logged["test_loss"], rel=1e-4)


@pytest.mark.parametrize("metric", ["test_loss", "val_accuracy", "test_accuracy"])
def test_its_metrics_are_compared_image_by_image(finished: Finished, metric: str) -> None:
    objective = Objective.of(Choice(metric=metric))
    with active_store(finished.store):
        run = find_training_run(finished.result.run_id, metric)
        details = load_details([run], objective)
    examples = match_examples(group_runs([run], 2).groups, details, objective)
    assert (examples.count, examples.inconsistent) == (360, ())


@pytest.mark.parametrize("flavor", ["pyfunc", "tensorflow"])
def test_the_loaded_model_repeats_the_logged_accuracy(
    finished: Finished, digits: Dataset, flavor: str
) -> None:
    with active_store(finished.store):
        loaded = getattr(mlflow, flavor).load_model(finished.result.model_uri)
    images = digits.test.inputs.astype(np.float32) / 255
    if finished.result.config.model == "cnn":
        images = images[..., np.newaxis]
    outputs = loaded.predict(images)
    accuracy = np.mean(outputs.argmax(axis=1) == digits.test.targets)
    assert accuracy == finished.run.data.metrics["test_accuracy"]


def test_the_logged_model_is_complete(finished: Finished) -> None:
    with active_store(finished.store):
        info = mlflow.models.get_model_info(finished.result.model_uri)
        logged = finished.store.client.get_logged_model(info.model_id)
        example = mlflow.pyfunc.load_model(finished.result.model_uri).input_example
    assert logged.name == "model"
    assert logged.source_run_id == finished.result.run_id
    shape = (-1, 28, 28) if finished.result.config.model == "mlp" else (-1, 28, 28, 1)
    (inputs,), (outputs,) = info.signature.inputs.inputs, info.signature.outputs.inputs
    assert (inputs.shape, inputs.type) == (shape, np.float32)
    assert (outputs.shape, outputs.type) == ((-1, 10), np.float32)
    assert example is not None
    assert example.shape == (2, *shape[1:])
    names = list("0123456789")
    takes = {"class_names": names, "inputs": "images", "outputs": "probabilities"}
    assert info.metadata == takes
    # Linked metrics are what the Models tab shows.
    metrics = {metric.key: metric for metric in logged.metrics or []}
    assert metrics["test_accuracy"].value == finished.result.test_accuracy
    assert metrics["test_accuracy"].dataset_name == "digits"
    assert metrics["size/h5_mib"].value == finished.result.metrics["size/h5_mib"]


def test_requirements_are_exact(finished: Finished) -> None:
    with active_store(finished.store):
        path = mlflow.pyfunc.get_model_dependencies(finished.result.model_uri)
    lines = Path(path).read_text().splitlines()
    assert f"keras=={keras.__version__}" in lines
    assert {line.split("==")[0] for line in lines} == {"mlflow", "tensorflow", "keras", "numpy"}


def test_data_sets_are_inputs(finished: Finished, digits: Dataset) -> None:
    inputs = finished.run.inputs
    assert inputs is not None
    found = {entry.tags[0].value: entry.dataset for entry in inputs.dataset_inputs}
    assert set(found) == {"training", "test"}
    assert found["training"].digest == digits.train.digest[:36]
    assert found["test"].digest == digits.test.digest[:36]
    assert {dataset.name for dataset in found.values()} == {"digits"}


def test_every_artifact_is_there(finished: Finished) -> None:
    for key in keys.all_keys():
        if key.group == "Artifacts":
            assert finished.artifact(key).stat().st_size > 0
    summary = finished.artifact("model_summary.txt").read_text()
    trainable = REFERENCE[finished.result.config.model]["parameters/trainable"]
    assert f"Trainable params: {trainable:,}" in summary
    assert "Param #" in summary  # no column is cut off
    for plot in ("plots/learning_curve.png", "plots/confusion_matrix.png"):
        with Image.open(finished.artifact(plot)) as image:
            assert min(image.size) > 400
            assert len(image.convert("RGB").getcolors(maxcolors=1 << 24) or []) > 20


def test_measurements_explain_every_cost(finished: Finished) -> None:
    document = json.loads(finished.artifact("measurements.json").read_text())
    logged = finished.run.data.metrics
    by_name = {entry["name"]: entry for entry in document["measurements"]}
    costs = {str(key) for key in keys.all_keys() if key.group == keys.FIT_SECONDS.group}
    assert set(by_name) == costs - {"test_loss", "test_accuracy", "test_mae"}
    for name, entry in by_name.items():
        assert entry["unit"]
        assert entry["method"]
        if entry["value"] is None:
            assert entry["reason"]
            assert name not in logged  # never as 0
        else:
            assert entry["value"] == logged[name]
    assert {name for name in by_name if name not in logged} <= {
        "energy/training_joules",
        "energy/inference_joules_per_1000",
        "energy/gpu_training_joules",
        "energy/gpu_inference_joules_per_1000",
        "memory/allocator_peak_mib",
        "memory/device_peak_mib",
        "latency/p99_ms",
    }
    assert by_name["time/fit_seconds"]["spread"] is None  # one reading shows no spread
    assert by_name["parameters/trainable"]["spread"] == 0
    assert by_name["flops/training"]["details"]["coverage"] == 1
    assert document["machine"]["logical_cores"] == os.cpu_count()


def test_memory_is_told_by_phase(finished: Finished) -> None:
    document = json.loads(finished.artifact("measurements.json").read_text())
    by_name = {entry["name"]: entry for entry in document["measurements"]}
    phases = by_name["memory/peak_rss_mib"]["details"]["phases"]
    names = ["data and libraries", "model", "first step", "training", "evaluation"]
    assert [phase["name"] for phase in phases] == names
    logged = finished.run.data.metrics
    of = {phase["name"]: phase for phase in phases}
    peak = max(of[name]["peak_rss_mib"] for name in ("first step", "training"))
    above = peak - of["model"]["start_rss_mib"]
    assert logged["memory/training_rss_mib"] == pytest.approx(above)
    assert logged["memory/baseline_rss_mib"] < logged["memory/peak_rss_mib"]
    points = finished.store.client.get_metric_history(finished.result.run_id, "memory/rss_mib")
    assert [point.step for point in points] == [1, 2]


def test_the_table_by_layer_adds_up(finished: Finished) -> None:
    with finished.artifact("flops/layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    logged = finished.run.data.metrics
    for column, name in (
        ("training_flops", "flops/training"),
        ("training_core_flops", "flops/training_core"),
        ("parameters", "parameters/trainable"),
    ):
        assert sum(float(row[column] or 0) for row in rows) == pytest.approx(logged[name])


def test_every_logged_metric_has_a_key(finished: Finished) -> None:
    assert set(finished.run.data.metrics) <= set(keys.all_keys())


@pytest.fixture(scope="module")
def on_server(server: Store) -> Finished:
    """The settings of the finished MLP once more, on a server, with the FLOPs alone measured."""
    with active_store(server):
        return Finished(server, train("mlp", **{**MEASURED, "measure": "flops"}))


def test_same_seed_same_run_bit_for_bit(
    finished: Finished, store: Store, request: pytest.FixtureRequest
) -> None:
    if finished.result.config.model == "mlp":
        again: Finished = request.getfixturevalue("on_server")
    else:
        again = Finished(store, train("cnn", **DIGITS))
    timed = "epoch_seconds"
    first = {name: v for name, v in finished.result.history.items() if name != timed}
    assert {name: v for name, v in again.result.history.items() if name != timed} == first
    assert again.result.test_loss == finished.result.test_loss
    assert again.predictions()["probability"].tobytes() == (
        finished.predictions()["probability"].tobytes()
    )


def test_held_out_images_the_optimizer_and_users_own_logging(store: Store, digits: Dataset) -> None:
    class Logs(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
            mlflow.log_metric("mine", 42)

    settings = {**SHORT, "validation_split": 0.25, "optimizer": "sgd"}
    result = train(SMALL, learning_rate=0.02, callbacks=[Logs()], **settings)
    held = digits.hold_out(0.25).validation
    assert held is not None
    inputs = store.client.get_run(result.run_id).inputs
    assert inputs is not None
    found = {entry.tags[0].value: entry.dataset.digest for entry in inputs.dataset_inputs}
    assert found["validation"] == held.digest[:36]
    model = mlflow.tensorflow.load_model(result.model_uri)
    predicted = model.predict(held.inputs.astype(np.float32) / 255, verbose=0).argmax(axis=1)
    assert result.history["val_accuracy"] == [pytest.approx(np.mean(predicted == held.targets))]
    assert result.history["learning_rate"] == [0.02]
    run = store.only_run()
    assert (run.data.params["optimizer"], run.data.params["learning_rate"]) == ("sgd", "0.02")
    assert run.data.metrics["mine"] == 42
    assert isinstance(model.optimizer, keras.optimizers.SGD)


def test_parts_can_be_left_out(on_server: Finished) -> None:
    groups = {name.partition("/")[0] for name in on_server.run.data.metrics}
    assert {"flops", "size", "time"} <= groups
    assert groups.isdisjoint({"latency", "memory", "utilization"})
    document = json.loads(on_server.artifact("measurements.json").read_text())
    left_out = {entry["name"] for entry in document["measurements"] if entry["value"] is None}
    assert {"latency/p50_ms", "memory/peak_rss_mib"} <= left_out
    for entry in document["measurements"]:
        assert entry["value"] is not None or entry["reason"] == "left out by --measure"


@pytest.mark.parametrize("finished", ["mlp"], indirect=True)
def test_on_a_server_as_in_a_file(finished: Finished, on_server: Finished) -> None:
    local, remote = finished.run.data, on_server.run.data
    assert on_server.run.info.status == "FINISHED"
    assert remote.params == local.params
    # One store or the other makes no difference to latency and memory, which take long.
    left_out = ("latency/", "memory/", "throughput/inference", "utilization/")
    assert set(remote.metrics) == {n for n in local.metrics if not n.startswith(left_out)}
    assert remote.metrics["test_loss"] == local.metrics["test_loss"]
    assert on_server.artifact("measurements.json").stat().st_size > 0
    assert on_server.artifact("plots/confusion_matrix.png").stat().st_size > 0
    test_the_logged_model_is_complete(on_server)


class TestEnds:
    """How a run ends that does not go well."""

    def test_a_failing_callback(self, store: Store) -> None:
        class Breaks(keras.callbacks.Callback):  # type: ignore[misc]
            def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
                if epoch == 1:
                    raise RuntimeError("no more\nsecond line")

        with pytest.raises(RuntimeError, match="no more"):
            train(SMALL, dataset="digits", callbacks=[Breaks()], epochs=3)
        run = store.only_run()
        assert run.info.status == "FAILED"
        assert run.info.end_time
        assert run.data.tags["fm_mlflow.error"] == "RuntimeError: no more second line"
        # What was logged before stays.
        assert len(store.client.get_metric_history(run.info.run_id, "loss")) == 1
        assert store.client.download_artifacts(run.info.run_id, "model_summary.txt")

    def test_ctrl_c(self, store: Store) -> None:
        class Stops(keras.callbacks.Callback):  # type: ignore[misc]
            def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(SMALL, callbacks=[Stops()], **DIGITS)
        run = store.only_run()
        assert run.info.status == "KILLED"
        assert run.data.tags["fm_mlflow.error"] == "KeyboardInterrupt"

    def test_a_loss_that_is_no_number(self, store: Store) -> None:
        with pytest.raises(TrainingError, match=r"loss became (nan|inf) at epoch 1"):
            train(SMALL, learning_rate=1e30, **DIGITS)
        run = store.only_run()
        assert run.info.status == "FAILED"
        assert "at epoch 1; try a smaller" in run.data.tags["fm_mlflow.error"]

    def test_only_the_validation_loss_is_no_number(self, store: Store) -> None:
        with pytest.raises(TrainingError, match="val_loss became nan at epoch 1"):
            train(SMALL, learning_rate=1e30, batch_size=5000, **DIGITS)
        assert store.only_run().info.status == "FAILED"

    @pytest.mark.parametrize("ends_it", [False, True], ids=["nested run", "ended run"])
    def test_a_callback_that_meddles_with_runs(self, store: Store, ends_it: bool) -> None:
        class Meddles(keras.callbacks.Callback):  # type: ignore[misc]
            def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
                if ends_it:
                    mlflow.end_run()
                else:
                    mlflow.start_run(nested=True)
                raise RuntimeError("boom")

        with pytest.raises(RuntimeError, match="boom"):
            train(SMALL, callbacks=[Meddles()], **DIGITS)
        assert mlflow.active_run() is None
        runs = store.client.search_runs(["0"])
        assert len(runs) == (1 if ends_it else 2)
        assert {run.info.status for run in runs} == {"FAILED"}

    def test_a_signal_while_the_run_is_opened(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start_run = mlflow.start_run

        def interrupted(*args: Any, **settings: Any) -> Any:
            run = start_run(*args, **settings)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            return run

        monkeypatch.setattr(mlflow, "start_run", interrupted)
        with pytest.raises(Interrupted):
            train(SMALL, **DIGITS)
        run = store.only_run()
        assert run.info.status == "KILLED"
        assert run.data.tags["fm_mlflow.error"] == "interrupted by SIGTERM"

    @pytest.mark.parametrize(
        "settings",
        [
            {"model": "nowhere.py:build"},
            {"model": "x" * 300 + ".py:build"},
            {"model": "json:loads"},
            {"dataset": "idx", "data_dir": "nowhere"},
            {"validation_split": 0.00001},
            {"epochs": 0},
        ],
    )
    def test_bad_input_leaves_no_run(self, store: Store, settings: dict[str, Any]) -> None:
        with pytest.raises(InputError):
            train(**{"dataset": "digits", **settings})
        assert store.client.search_runs(["0"]) == []

    def test_without_a_server(
        self, server: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path))
        line = Line(server)
        line.set(Way.CUT)
        with active_store(Store(line.uri, tmp_path)):
            result = train("mlp", flush_timeout=0, **{**MEASURED, "measure": "flops,memory"})
            assert "`fm-mlflow sync` delivers them" in result.pending
            model = mlflow.tensorflow.load_model(result.model_uri)  # the saved one
            assert result.run_id.startswith("j-")
            line.set(Way.OPEN)
            (delivered,) = sync([result.run_id]).journals
        line.close()
        assert delivered.pending == ""
        (logged,) = server.client.search_logged_models(
            ["0"], f"source_run_id = '{delivered.run_id}'"
        )
        uri = f"models:/{logged.model_id}"
        result = dataclasses.replace(result, run_id=delivered.run_id, model_uri=uri)
        done = Finished(server, result)
        test_the_logged_model_is_complete(done)
        assert done.run.info.status == "FINISHED"
        for key in keys.all_keys():
            if key.group == "Artifacts":
                assert done.artifact(key).stat().st_size > 0
        with active_store(server):
            loaded = mlflow.tensorflow.load_model(uri)
        for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


class TestRunsOfOthers:
    """Joining a run that the caller opened."""

    @pytest.mark.parametrize("finished", ["mlp"], indirect=True)
    def test_the_callers_run_is_joined_and_left_open(
        self, store: Store, finished: Finished
    ) -> None:
        with mlflow.start_run(run_name="my study") as mine:
            result = train("mlp", seed=1, **SHORT)
            assert mlflow.active_run() is not None
            mlflow.log_metric("afterwards", 1)
        run = store.only_run()
        assert run.info.run_id == mine.info.run_id == result.run_id
        assert run.info.status == "FINISHED"
        assert run.info.run_name == result.run_name == "my study"
        assert run.data.tags["fm_mlflow.kind"] == "training"
        assert {"afterwards", "test_accuracy"} <= set(run.data.metrics)
        assert result.history["loss"][0] != finished.result.history["loss"][0]  # another seed

    def test_a_second_training_in_one_run_is_refused(self, store: Store) -> None:
        with mlflow.start_run():
            mlflow.set_tag("fm_mlflow.kind", "training")
            with pytest.raises(InputError, match="nested=True"):
                train(SMALL, **DIGITS)
        run = store.only_run()
        assert run.info.status == "FINISHED"  # the caller caught it
        assert "fm_mlflow.error" not in run.data.tags  # and the first training was fine

    def test_a_run_that_has_ended_is_left_alone(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_id = store.client.create_run("0").info.run_id
        store.client.set_terminated(run_id, "FINISHED")
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        with pytest.raises(InputError, match="a run that has not ended; it is FINISHED"):
            train(SMALL, **DIGITS)
        run = store.only_run()
        assert run.info.status == "FINISHED"
        assert run.data.tags.keys().isdisjoint({"fm_mlflow.error", "fm_mlflow.kind"})

    def test_a_name_that_looks_generated_is_kept(self, store: Store) -> None:
        with mlflow.start_run(run_name="cnn-baseline-1"), TrackedRun("training", "ours") as run:
            assert run.name == "cnn-baseline-1"
        assert store.only_run().info.run_name == "cnn-baseline-1"

    def test_a_compiled_model_within_mlflow_run_and_other_spellings_of_parameters(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = store.client.create_run("0")
        defaults = {"learning_rate": "1e-3", "optimizer": "adam"}  # the project's
        for name, value in {**defaults, "epochs": "02", "data_dir": "''"}.items():
            store.client.log_param(run.info.run_id, name, value)
        monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)

        def build() -> keras.Model:
            flat = [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)]
            model = keras.Sequential([*flat, keras.layers.Softmax()])
            model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
            return model

        result = train(build, learning_rate=0.001, **DIGITS)
        assert result.run_id == run.info.run_id
        joined = store.only_run()
        assert joined.info.status == "FINISHED"  # handed over, so it is ours to close
        params = joined.data.params
        assert (params["compiled/optimizer"], params["compiled/learning_rate"]) == ("sgd", "0.05")
        assert (params["learning_rate"], params["epochs"]) == ("1e-3", "02")
        assert params["batch_size"] == "64"

    def test_nested_runs(self, store: Store) -> None:
        with mlflow.start_run() as parent, mlflow.start_run(nested=True):
            with TrackedRun("training", "ours") as run:
                pass
        child = store.client.get_run(run.run_id)
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.info.run_name == "ours"

    @pytest.mark.usefixtures("store")
    def test_another_value_of_a_parameter_is_refused(self) -> None:
        with mlflow.start_run():
            mlflow.log_param("epochs", 7)
            with pytest.raises(InputError, match=r"^epochs: received '2', accepted: 7, which run"):
                train(SMALL, **DIGITS)


def test_secrets_stay_out_of_the_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    message = "403 for wJalrXUtnFEMI at postgresql://ann:hunter22@db/mlflow"

    class Leaks(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
            raise RuntimeError(message)

    with pytest.raises(RuntimeError):
        train(SMALL, callbacks=[Leaks()], **DIGITS)
    stored = (store.folder / "mlflow.db").read_bytes()
    assert b"403 for *** at postgresql://ann:***@db/mlflow" in stored
    assert b"wJalrXUtnFEMI" not in stored
    assert b"hunter22" not in stored


def test_the_real_data(fashion_mnist_folder: Any, store: Store) -> None:
    # It learns from a fifth; XLA's programs, compiled in little time, run long.
    settings: Settings = {"epochs": 1, "validation_split": 0.8, "measure": "none"}
    result = train("mlp", data_dir=str(fashion_mnist_folder), **settings)
    assert 0.75 < result.metrics["test_accuracy"] < 0.85
    model = mlflow.pyfunc.load_model(result.model_uri)
    from fm_mlflow.data.dataset import load_dataset

    test = load_dataset("fashion_mnist", str(fashion_mnist_folder)).test
    outputs = model.predict(test.inputs.astype(np.float32) / 255)
    assert np.mean(outputs.argmax(axis=1) == test.targets) == result.test_accuracy
    assert model.metadata.metadata["class_names"][9] == "Ankle boot"
