"""Trainings that are interrupted and go on: what comes out is what would have come out."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest

from fm_mlflow import InputError, TrackingError, TrainResult, fitting, keys, resume, sync, train
from fm_mlflow.fitting import Ahead
from fm_mlflow.listeners import ProgressListener
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking.find_runs import find_runs
from fm_mlflow.training.checkpoint import Checkpoint, CheckpointWriter, Progress, newest
from tests import forked
from tests.limits import largest_file
from tests.processes import START_SECONDS, wait_for
from tests.stores import Store, active_store, make_store
from tests.trained import DIGITS, Settings

FOUR: Settings = {**DIGITS, "epochs": 4}


def build() -> keras.Model:
    """A model that has all kinds of state: dropout, running means, momenta."""
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(10),
        ]
    )


def smaller() -> keras.Model:
    return keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])


class StopsAt(ProgressListener):
    """Interrupts within an epoch, as Ctrl-C does."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def batch(self, epoch: int, epochs: int, done: int, total: int) -> None:
        if epoch == self._epoch:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "journals"
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def whole(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What four epochs without an interruption come to."""
    store = make_store(store_template, tmp_path_factory.mktemp("whole"))
    with active_store(store):
        return outcome(store, train(build, **FOUR))


def outcome(store: Store, result: TrainResult) -> dict[str, Any]:
    """Everything of a run that does not depend on time, exactly."""
    client = store.client
    run = client.get_run(result.run_id)
    points = {
        key: [(each.step, each.value) for each in client.get_metric_history(result.run_id, key)]
        for key in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
    }
    for key in ("epoch_seconds", "time/fit_seconds", "time/total_seconds"):
        points[key] = [(each.step, 0.0) for each in client.get_metric_history(result.run_id, key)]
    with np.load(client.download_artifacts(result.run_id, "predictions/test.npz")) as file:
        predictions = file["probability"].tobytes()
    summary = Path(client.download_artifacts(result.run_id, "model_summary.txt"))
    model = mlflow.tensorflow.load_model(result.model_uri)
    variables = [*model.weights, *model.optimizer.variables]
    return {
        "status": run.info.status,
        "params": {**run.data.params, "model": ""},
        "points": points,
        "test": (result.test_loss, result.test_accuracy),
        "history": {key: result.history[key] for key in ("loss", "val_loss", "accuracy")},
        "predictions": predictions,
        "weights": [variable.numpy().tobytes() for variable in variables],
        "error": run.data.tags.get(keys.ERROR),
        "compiler": run.data.tags[keys.COMPILER],
        # Names of layers count those of the models before.
        "summary": [line for line in summary.read_text().splitlines() if "params" in line],
    }


def interrupted(store: Store, epoch: int, **settings: Any) -> str:
    """Train until an epoch begins; return the run."""
    with pytest.raises(KeyboardInterrupt):
        train(build, progress=StopsAt(epoch), **{**FOUR, **settings})
    return str(store.client.search_runs(["0"])[0].info.run_id)


def test_the_fit_loop_is_that_of_the_run(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(smaller, progress=StopsAt(2), **{**FOUR, "epochs": 2, "fit_loop": "keras"})
    resume(store.only_run().info.run_id, model=smaller)
    run = store.only_run()
    assert run.data.params["fit_loop"] == "keras"
    assert run.data.tags[keys.COMPILER] == "keras"


def test_from_the_artifacts_of_an_interrupted_run(
    store: Store, whole: dict[str, Any], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*arguments: Any) -> Ahead:
        ahead = compile_ahead(*arguments)
        assert ahead is not None
        return replace(ahead, seconds=1000.0)

    compile_ahead = fitting.compile_ahead
    monkeypatch.setattr(fitting, "compile_ahead", slowly)
    run_id = interrupted(store, 3, measure="memory")
    with pytest.raises(InputError, match="the model that the run began with"):
        resume(run_id, model=smaller)
    with pytest.raises(InputError, match="epochs: received 1, accepted: from 4"):
        resume(run_id, model=build, epochs=1)
    assert store.only_run().info.status == "KILLED"  # as it was
    assert not list(root.glob("j-*"))  # nothing of it is left here: as on another machine
    result = resume(run_id, model=build)
    assert result.run_id == run_id
    assert outcome(store, result) == whole
    assert len(store.client.search_runs(["0"])) == 1
    assert len(store.client.search_logged_models(["0"])) == 1
    assert store.only_run().data.tags[keys.PARTS] == "2"
    assert mlflow.active_run() is None
    path = store.client.download_artifacts(run_id, "measurements.json")
    entries = {each["name"]: each for each in json.loads(Path(path).read_text())["measurements"]}
    for name in ("memory/peak_rss_mib", "time/fit_seconds", "throughput/training_per_second"):
        assert "of 2 processes" in entries[name]["method"] or "over 2" in entries[name]["method"]
    assert "processes" not in entries["size/h5_mib"]["method"]
    seconds = store.client.get_metric_history(run_id, "epoch_seconds")
    fit_seconds = result.metrics["time/fit_seconds"] - 2 * 1000  # to compile, in both parts
    assert fit_seconds > sum(each.value for each in seconds) * 0.5


class Killed(keras.callbacks.Callback):  # type: ignore[misc]
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed() -> None:
    train(build, callbacks=[Killed()], **FOUR)


def test_killed_and_resumed_from_its_journal(
    store: Store, whole: dict[str, Any], root: Path
) -> None:
    log = store.folder / "log"
    died = forked.start(train_until_killed, environment=store.environment(), output=log)
    died.wait(START_SECONDS)
    assert died.returncode == -signal.SIGKILL, log.read_text()
    assert store.only_run().info.status == "RUNNING"
    result = resume(store.only_run().info.run_id, model=build)
    assert outcome(store, result) == whole
    assert not list(root.glob("j-*"))


class StopsAfterTheLast(keras.callbacks.Callback):  # type: ignore[misc]
    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        raise KeyboardInterrupt


def test_interrupted_after_its_last_epoch(
    store: Store, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left to train, and so nothing that would tell how it was compiled."""
    with pytest.raises(KeyboardInterrupt):
        train(build, callbacks=[StopsAfterTheLast()], **FOUR)
    monkeypatch.setattr(fitting, "compile_ahead", lambda *_: pytest.fail("it is compiled"))
    result = resume(store.only_run().info.run_id, model=build)
    assert outcome(store, result) == whole
    assert whole["compiler"] not in ("", "tensorflow")  # what a fit without steps would say


class Resumes(keras.callbacks.Callback):  # type: ignore[misc]
    """Tries to resume the run that is being trained."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[str] = []

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        run = mlflow.active_run()
        assert run is not None
        with pytest.raises(TrackingError) as refused:
            resume(run.info.run_id)
        self.refusals.append(str(refused.value))


def test_a_running_run_is_left_alone_and_more_epochs_extend_a_finished_one(
    store: Store, whole: dict[str, Any]
) -> None:
    resumes = Resumes()
    first = train(build, callbacks=[resumes], **{**FOUR, "epochs": 2})
    (refusal,) = resumes.refusals
    assert f"is in use: process {os.getpid()} holds" in refusal
    assert store.only_run().info.status == "FINISHED"
    with pytest.raises(InputError, match=r"more than 2, by --epochs: the run is fin"):
        resume(first.run_id, model=build)
    result = resume(first.run_id, model=build, epochs=4)
    found = outcome(store, result)
    assert found["params"].pop("epochs") == "2"  # parameters stay
    expected = {**whole, "params": {**whole["params"]}}
    del expected["params"]["epochs"]
    expected["points"] = whole["points"].copy()
    # Results of the whole run are there for both goals; the later ones count.
    for key in ("time/fit_seconds", "time/total_seconds"):
        assert found["points"].pop(key) == [(0, 0.0), (0, 0.0)]
        del expected["points"][key]
    assert found == expected
    logged = store.only_run().data
    assert logged.metrics["test_loss"] == result.test_loss
    assert logged.tags[keys.EXTENDED_EPOCHS] == "4"
    assert len(store.client.search_logged_models(["0"])) == 2
    (compared,) = find_runs(Choice()).runs
    assert (compared.config["epochs"], compared.model_uri) == ("4", result.model_uri)
    assert compared.name.endswith("build, 4 epochs, seed 0")


def test_what_cannot_be_resumed(store: Store) -> None:
    with pytest.raises(InputError, match="the id of a training run"):
        resume("0" * 32)
    other = store.client.create_run("0").info.run_id
    with pytest.raises(InputError, match="the id of a training run of fm_mlflow"):
        resume(other)


def test_a_full_disk_keeps_the_checkpoint_before_and_sync_delivers_it(
    store: Store,
    whole: dict[str, Any],
    root: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fm_mlflow.tracking.run._FLUSH_SECONDS_INTERRUPTED", 0)

    class FillsUp(keras.callbacks.Callback):  # type: ignore[misc]
        """From the second epoch on there is no room for a checkpoint, and the third is the last."""

        def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            if epoch == 1:
                wait_for(lambda: any(root.glob("j-*/checkpoint/odd.npz")), "a checkpoint", 10)
                self.full = largest_file(30_000)
                self.full.__enter__()
            if epoch == 3:
                self.full.__exit__(None, None, None)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(build, callbacks=[FillsUp()], **FOUR)
    assert "cannot be written (File too large); the one before is kept" in caplog.text
    assert sync().complete
    run_id = store.only_run().info.run_id
    assert store.only_run().info.status == "KILLED"
    assert len(store.client.get_metric_history(run_id, "loss")) == 3
    result = resume(run_id, model=build)
    found = outcome(store, result)
    assert found == whole  # the epochs that were trained again are not logged again


class TestCheckpoint:
    """The file itself."""

    def make(self, epoch: int) -> Checkpoint:
        model = build()
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.optimizer.build(model.trainable_variables)
        history = {"loss": [float(number) for number in range(epoch)]}
        return Checkpoint.of(model, {"epochs": 9}, "digest", Progress(epoch, history, 1.5, 1.0, 2))

    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        checkpoint = self.make(3)
        half = np.array(
            [1.5, -2.25], keras.ops.convert_to_numpy(keras.ops.ones(1, "bfloat16")).dtype
        )
        checkpoint.variables.append(half)
        checkpoint.write(tmp_path / "odd.npz")
        read = Checkpoint.read(tmp_path / "odd.npz")
        assert read.progress == checkpoint.progress
        assert (read.settings, read.dataset_digest) == ({"epochs": 9}, "digest")
        for ours, theirs in zip(
            [*checkpoint.variables, *checkpoint.optimizer],
            [*read.variables, *read.optimizer],
            strict=True,
        ):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        expected = np.random.random(3)
        read.restore_random_state()
        np.testing.assert_array_equal(np.random.random(3), expected)

    def test_a_damaged_file_gives_way_to_the_one_before(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert newest([tmp_path]) is None
        self.make(3).write(tmp_path / "odd.npz")
        self.make(4).write(tmp_path / "even.npz")
        found = newest([tmp_path])
        assert found is not None
        assert found.progress.epoch == 4
        whole = (tmp_path / "even.npz").read_bytes()
        for damage in (whole[: len(whole) // 2], whole[:5000] + b"\x00\x01" + whole[5002:], b""):
            (tmp_path / "even.npz").write_bytes(damage)
            found = newest([tmp_path])
            assert found is not None
            assert found.progress.epoch == 3
        assert "even.npz is damaged and left out" in caplog.text

    def test_of_checkpoints_that_come_too_fast_the_last_is_written(self, tmp_path: Path) -> None:
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / ".even.7.part.npz").write_bytes(b"killed as it wrote")
        written: list[Path] = []
        writer = CheckpointWriter(tmp_path / "new", written.append)
        checkpoints = [self.make(epoch) for epoch in range(8)]
        for checkpoint in checkpoints:
            writer.write(checkpoint)
        writer.close()
        found = newest([tmp_path / "new"])
        assert found is not None
        assert found.progress.epoch == 7
        assert len(written) <= 8
        assert {path.name for path in (tmp_path / "new").iterdir()} <= {"even.npz", "odd.npz"}
