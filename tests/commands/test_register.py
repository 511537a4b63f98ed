"""Registering as its users meet it: real models, a fresh process, real tampering."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import mlflow
import numpy as np
import pytest

from fm_mlflow import (
    GateError,
    TrainResult,
    keys,
    list_versions,
    predict,
    register,
    rollback,
    train,
)
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.errors import DataError, InputError
from fm_mlflow.process.quiet import THREADS
from fm_mlflow.registration import ahead, checks
from fm_mlflow.tracking.model_files import ModelChangedError
from tests.data.test_dataset import small_files, write
from tests.processes import command_in_this_process, is_running
from tests.quick_costs import quick_costs as quick_costs  # a fixture
from tests.stores import Store, active_store, copy_store
from tests.trained import DIGITS, SMALL, finished_training
from tests.verified import (
    in_this_process as in_this_process,  # a fixture
    run_in_this_process,
)

SHORT = {**DIGITS, "epochs": 1}
CUSTOM = """
import atexit, os, subprocess, sys
from pathlib import Path
import keras
import numpy as np

if Path.cwd().name == "work":  # where it is verified
    assert "MLFLOW_TRACKING_TOKEN" not in os.environ
    assert os.environ["TF_OVERRIDE_GLOBAL_THREADPOOL"] == "1"  # as in its training
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    def forge():
        for descriptor in range(1, 20):
            try:
                os.write(descriptor, b"{}\\n")
            except OSError:
                pass
    atexit.register(forge)
    np.array_equal = lambda *_, **__: True
    Path("../model/MLmodel").write_text("another model")
    print("x" * 2**20)
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path("PID").write_text(str(child.pid))

@keras.saving.register_keras_serializable("mine")
class Twice(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs
def build():
    return keras.Sequential(
        [keras.Input((28, 28)), keras.layers.Flatten(), Twice(), keras.layers.Dense(10)]
    )
"""


@pytest.fixture(scope="module")
def two_runs(
    store_template: Path, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Store, str, str]]:
    """An accurate, dear model and a poor, cheap one; nothing is registered."""
    cnn = finished_training("cnn", store_template, shared_folder)
    with active_store(copy_store(cnn.store, tmp_path_factory.mktemp("two"))) as store:
        settings = {**SHORT, "measure": "flops", "learning_rate": 0.0001}
        poor = train(SMALL, **settings)
        yield store, cnn.result.run_id, poor.run_id


@pytest.fixture(scope="module")
def one_run(store_template: Path, shared_folder: Path) -> tuple[Store, TrainResult]:
    done = finished_training("mlp", store_template, shared_folder)
    return done.store, done.result


@pytest.fixture
def run(one_run: tuple[Store, TrainResult]) -> TrainResult:
    """A training whose model is in the copied store of the test."""
    return one_run[1]


@pytest.fixture
def copied(
    one_run: tuple[Store, TrainResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """A store with one run that a test may damage."""
    monkeypatch.chdir(tmp_path)
    with active_store(copy_store(one_run[0], tmp_path)) as made:
        yield made


def registered(store: Store) -> dict[str, int]:
    """The aliases of every registered model."""
    return {
        f"{model.name}@{alias}": int(version)
        for model in store.client.search_registered_models()
        for alias, version in model.aliases.items()
    }


@pytest.mark.usefixtures("in_this_process")
def test_from_the_first_champion_to_the_rollback(
    two_runs: tuple[Store, str, str], tmp_path: Path
) -> None:
    store, cnn, mlp = two_runs
    first = register(run_id=mlp)
    assert (first.name, first.dataset) == ("digits-classifier", "digits")
    assert (first.outcome, first.champion, first.previous) == ("registered", 1, None)
    best = register()  # chosen as compare does
    assert best.run_id == cnn
    assert (best.outcome, best.version, best.champion, best.previous) == ("registered", 2, 2, 1)
    assert {gate.name: gate.passed for gate in best.gates} == {
        "accuracy v version 1": True,
        "gain over version 1": True,
    }
    again = register(run_id=cnn, junit=str(tmp_path / "good.xml"))
    assert ElementTree.parse(tmp_path / "good.xml").getroot().get("failures") == "0"
    assert (again.outcome, again.version) == ("unchanged", 2)

    with pytest.raises(GateError, match=r"; accuracy v version 2: -\d+\.\d\d points") as refused:
        register(run_id=mlp, min_accuracy=0.999, max_flops=1000, junit=str(tmp_path / "gates.xml"))
    assert refused.value.exit_code == 3
    suite = ElementTree.parse(tmp_path / "gates.xml").getroot()
    assert {
        case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None
    } == {
        "--min-accuracy",
        "--max-flops",
        "accuracy v version 2",
    }
    assert suite.get("failures") == "3"
    assert refused.value.registration is not None
    assert {gate.name: gate.passed for gate in refused.value.registration.gates} == {
        "--min-accuracy": False,
        "--max-flops": False,
        "accuracy v version 2": False,
        "gain over version 2": True,
    }
    with pytest.raises(InputError, match=r"junit: received .* a file in an existing folder"):
        register(junit="no/folder.xml")
    moved = register(run_id=mlp, tolerance=1)
    assert (moved.outcome, moved.version, moved.previous) == ("moved", 1, 2)
    back = rollback()
    assert (back.champion, back.previous, back.run_id) == (2, 1, cnn)
    assert (back.name, back.dataset) == (first.name, "digits")
    name = "digits-classifier"
    assert registered(store) == {f"{name}@champion": 2, f"{name}@previous": 1}

    two, one = list_versions().versions
    run = store.client.get_run(cnn)
    assert two.aliases == ("champion",)
    assert two.figure(keys.TEST_ACCURACY) == run.data.metrics["test_accuracy"]
    assert two.figure(keys.FLOPS_INFERENCE) == 1_442_332
    digest = run.data.tags[keys.DATASET_DIGEST]
    for tags in (two.tags, store.client.get_registered_model(name).tags):
        assert (tags[keys.DATASET], tags[keys.DATASET_DIGEST]) == ("digits", digest)
    assert one.tags[keys.MODEL] == "mlp"
    card = str(store.client.get_model_version(name, "2").description)
    assert card.startswith("cnn on scikit-learn's digits: test accuracy 0.")
    assert "| 9 | 9 |" in card
    assert "repeat it with `fm-mlflow train --model cnn --epochs 2 --dataset digits" in card
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    assert model.metadata.metadata["class_names"] == list("0123456789")


@pytest.mark.usefixtures("in_this_process", "two_runs")
def test_if_no_model_keeps_the_bounds_the_best_shows_why() -> None:
    with pytest.raises(GateError, match=r"required: at most 10; no other run keeps"):
        register(max_parameters=10, name="another")


def test_a_registered_model_of_another_data_set_is_refused_before_anything_is_run(
    copied: Store, run: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(checks, "run_confined")
    name = "digits-classifier"
    tags = {str(keys.DATASET): "digits", str(keys.DATASET_DIGEST): "f" * 64}
    copied.client.create_registered_model(name, tags=tags)
    opened = copied.client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)  # by `mlflow run . -e register`
    cause = f"{name} belongs to another data set: digits, data ffffffff; this model is of digits"
    with pytest.raises(GateError, match=f"{cause}, data {run.dataset_digest[:8]}") as refused:
        register()
    assert refused.value.exit_code == 3
    assert registered(copied) == {}
    assert dict(copied.client.get_registered_model(name).tags) == tags
    ended = copied.client.get_run(opened)
    assert (ended.info.run_name, ended.info.status) == (f"registration of {name}", "FAILED")
    assert cause in ended.data.tags[keys.ERROR]


@pytest.mark.usefixtures("in_this_process")
class TestTampering:
    def refused(self, store: Store, run_id: str) -> str:
        with pytest.raises(GateError) as refused:
            register(run_id=run_id)
        assert refused.value.exit_code == 3
        assert registered(store) == {}
        assert store.client.search_registered_models() == []
        return str(refused.value)

    def test_a_forged_accuracy(self, copied: Store, run: TrainResult) -> None:
        copied.client.log_metric(run.run_id, "test_accuracy", 0.99, step=1)
        message = self.refused(copied, run.run_id)
        found = f"test_accuracy: logged 0.99, found {run.test_accuracy}, required: equal"
        assert message == f"not promoted: {found}"

    def test_one_weight_that_no_prediction_depends_on(
        self, copied: Store, run: TrainResult
    ) -> None:
        forget_saved_files(copied, run)
        (model,) = copied.folder.rglob("model.keras")
        # The first pixel of each digit is border: always 0.
        change_weight(model, row=0, by=1.0)
        message = self.refused(copied, run.run_id)
        assert message.startswith("not promoted: weights digest: logged ")
        assert "predictions" not in message

    def test_one_weight_that_matters(self, copied: Store, run: TrainResult) -> None:
        forget_saved_files(copied, run)
        copied.client.delete_tag(run.run_id, keys.WEIGHTS_DIGEST)
        (model,) = copied.folder.rglob("model.keras")
        change_weight(model, row=28 * 14 + 14, by=0.01)
        message = self.refused(copied, run.run_id)
        assert "predictions/test.npz: logged 360 x 10, found up to " in message

    def test_any_file_of_the_model(
        self, copied: Store, run: TrainResult, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(checks, "run_confined")  # nothing of it is run
        (model,) = copied.folder.rglob("model.keras")
        model.with_name("custom_objects.cloudpickle").write_bytes(b"cos\nsystem\n")
        message = self.refused(copied, run.run_id)
        assert re.fullmatch(
            f"not promoted: the files of {run.model_uri} are not those that its training saved: "
            r"digest \w{12}, it saved \w{12}",
            message,
        )

    def test_missing_predictions(self, copied: Store, run: TrainResult) -> None:
        (copied.folder / "mlruns/0" / run.run_id / "artifacts/predictions/test.npz").unlink()
        assert "predictions/test.npz is missing or cannot be read" in self.refused(
            copied, run.run_id
        )


def forget_saved_files(store: Store, run: TrainResult) -> None:
    """Make a run one of the time before a logged model had the digest of its files."""
    model_id = run.model_uri.removeprefix("models:/")
    store.client.delete_logged_model_tag(model_id, keys.SAVED_DIGEST)


def change_weight(path: Path, *, row: int, by: float) -> None:
    """Change one weight of the first layer in a .keras file, and leave everything else as it is."""
    folder = path.with_suffix(".unpacked")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    with h5py.File(folder / "model.weights.h5", "r+") as weights:
        weights["layers/dense/vars/0"][row, 0] += by
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    shutil.rmtree(folder)


class TestFilesThatChangeLater:
    @pytest.fixture
    def change(self, copied: Store) -> Callable[[], None]:
        """Write into the model's folder in the store, as whoever may write there can."""
        (model,) = copied.folder.rglob("model.keras")
        return model.with_name("another").touch

    def test_before_the_alias(
        self,
        copied: Store,
        run: TrainResult,
        monkeypatch: pytest.MonkeyPatch,
        change: Callable[[], None],
    ) -> None:
        def run_then_change(*arguments: Any) -> bytes:
            message = run_in_this_process(*arguments)
            change()
            return message

        monkeypatch.setattr(checks, "run_confined", run_then_change)
        with pytest.raises(GateError, match=r"of version 1 of .* are not those that were verified"):
            register(run_id=run.run_id)
        assert registered(copied) == {}
        assert list_versions().versions == ()

    @pytest.mark.usefixtures("in_this_process")
    def test_after_it(
        self, copied: Store, run: TrainResult, digits: Dataset, change: Callable[[], None]
    ) -> None:
        assert register(run_id=run.run_id).outcome == "registered"
        images = str(copied.folder / "images.npy")
        np.save(images, digits.test.inputs[:5])
        champion = "models:/digits-classifier@champion"
        done = predict(input=images)  # no other model is registered
        assert (done.images, done.model_uri) == (5, champion)
        change()
        with pytest.raises(ModelChangedError, match=r"have the digest .{12}, not .{12}; `fm-mlf"):
            predict(model=champion, input=images)
        assert predict(model=run.run_id, input=images).images == 5  # nobody vouches for it
        copied.client.set_registered_model_alias("digits-classifier", "previous", "1")
        copied.client.create_model_version("digits-classifier", run.model_uri)
        copied.client.set_registered_model_alias("digits-classifier", "champion", "2")
        with pytest.raises(GateError, match=r"of version 1 of .* are not those that were verified"):
            rollback()


@pytest.mark.usefixtures("in_this_process")
def test_a_missing_model_file(copied: Store, run: TrainResult) -> None:
    forget_saved_files(copied, run)
    (model,) = copied.folder.rglob("model.keras")
    model.unlink()
    with pytest.raises(GateError, match=r"cannot be loaded and run by a fresh process: .*model"):
        register(run_id=run.run_id)
    assert copied.client.search_registered_models() == []


def test_a_users_own_model_loads_without_its_source_and_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a command: its process imports the libraries while the run is looked for."""
    source, pid = store.folder / "mine.py", store.folder / "pid"
    source.write_text(CUSTOM.replace("PID", str(pid)))
    run = train("mine.py:build", **SHORT)
    source.unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-secret")
    monkeypatch.setattr(ahead, "is_new_command", lambda: True)
    monkeypatch.setattr(ahead, "usable_cores", lambda: 2)
    for name in (*THREADS, "KERAS_BACKEND"):  # a command that imports no TensorFlow sets none
        monkeypatch.delenv(name, raising=False)
    done = register(run_id=run.run_id)
    assert not is_running(int(pid.read_text()))
    assert done.outcome == "registered"
    assert done.same_machine
    card = str(store.client.get_model_version(done.name, "1").description)
    assert "The outputs are logits; a softmax makes them probabilities" in card


@pytest.mark.usefixtures("in_this_process")
def test_the_test_set_is_found_again_and_known_by_its_contents(store: Store) -> None:
    folder = write(store.folder / "data", small_files(), compressed=False)
    run_id = train(SMALL, **{**SHORT, "dataset": "idx", "data_dir": str(folder)}).run_id
    planned = register(run_id=run_id, dry_run=True)
    assert planned.name == f"idx-{planned.dataset_digest[:8]}-classifier"
    assert (planned.outcome, planned.version) == ("dry run", None)
    assert store.client.search_registered_models() == []

    elsewhere = folder.rename(store.folder / "elsewhere")
    with pytest.raises(DataError, match=r"which is not here; name the folder .* --data-dir"):
        register(run_id=run_id)
    assert register(run_id=run_id, data_dir=str(elsewhere)).outcome == "registered"

    (path,) = elsewhere.glob("t10k-images*")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"are not those of run .*: digest \w{12}, the run's is"):
        register(run_id=run_id, data_dir=str(elsewhere))


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("run_id", ["0" * 32, "none"])
def test_a_run_that_is_not_there(run_id: str) -> None:
    with pytest.raises(InputError, match=f"^run_id: received '{run_id}', accepted: the id of a"):
        register(run_id=run_id)


def test_a_run_that_failed(store: Store) -> None:
    run = store.client.create_run("0", tags={keys.KIND: "training"})
    store.client.set_terminated(run.info.run_id, "FAILED")
    with pytest.raises(InputError, match="a finished training run: it ended as FAILED"):
        register(run_id=run.info.run_id)


def test_an_empty_store_is_one_line(store: Store) -> None:
    # A process of its own: tests/commands/test_serving.py.
    code, _, err = command_in_this_process("register", "--min-accuracy", "0.8")
    assert code == 1
    assert "fm-mlflow: nothing to compare: 'Default' has no finished training run" in err
    assert store.client.search_registered_models() == []
