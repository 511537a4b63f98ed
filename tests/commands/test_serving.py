"""A champion on a server: registered by the command, served and asked by HTTP, run in batches."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import requests
from mlflow.pyfunc import PyFuncModel
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from fm_mlflow import InputError, predict, train
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.errors import DataError
from fm_mlflow.listeners import ProgressListener
from tests import forked
from tests.processes import command_in_this_process, free_port, wait_until_it_answers
from tests.stores import Store, active_store, fm_mlflow
from tests.trained import DIGITS

CHAMPION = "models:/served@champion"


MINE = """
import keras
from helper_of_my_net import UNITS

@keras.saving.register_keras_serializable("mine")
class Halve(keras.layers.Layer):
    def call(self, inputs):
        return inputs / 2

def build():
    model = keras.Sequential([
        keras.Input((28, 28, 1)), Halve(), keras.layers.Flatten(),
        keras.layers.Dense(UNITS, activation="softmax"),
    ])
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model
"""


@pytest.fixture(scope="module")
def champion(server: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the command said, in a process of its own, when it registered a model on the server.

    It is a user's own, with a layer of its own and no accuracy metric. Its source is gone: who
    loads it has what is logged and nothing else.
    """
    folder = tmp_path_factory.mktemp("mine")
    (folder / "my_net.py").write_text(MINE)
    (folder / "helper_of_my_net.py").write_text("UNITS = 10\n")
    with active_store(server):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            run = train("my_net.py:build", **DIGITS)
        assert run.config.model == "my_net.py:build"
        assert "accuracy" not in run.history
        assert run.metrics["test_accuracy"] > 0.5
        shutil.rmtree(folder)
        command = ("register", "--run-id", run.run_id, "--name", "served", "--json")
        done = fm_mlflow(*command, store=server, cwd=tmp_path_factory.getbasetemp())
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert result["run_id"] == run.run_id
        yield result


@pytest.fixture(scope="module")
def local(champion: dict[str, Any]) -> PyFuncModel:
    loaded: PyFuncModel = mlflow.pyfunc.load_model(CHAMPION)
    return loaded


def test_the_command_registered_on_a_server(champion: dict[str, Any], server: Store) -> None:
    assert (champion["outcome"], champion["version"]) == ("registered", 1)
    assert champion["same_machine"]
    assert {check["figure"] for check in champion["checks"] if check["passed"]} >= {
        *("test_accuracy", "test_loss", "predictions/test.npz", "weights digest"),
        *("parameters/trainable", "size/inference_mib", "size/mlflow_model_mib", "signature"),
    }
    version = server.client.get_model_version_by_alias("served", "champion")
    assert version.run_id == champion["run_id"]
    code, listed, _ = command_in_this_process("register", "--list", "--name", "served")
    assert code == 0
    assert re.search(r"\n  1  champion  0\.\d{4}  .*\n +my_net\.py:build\n", listed)
    assert all(len(line) <= 80 for line in listed.splitlines())


def test_served_over_http_and_by_mlflow_models_predict(
    local: PyFuncModel,
    digits: Dataset,
    server: Store,
    tmp_path: Path,
) -> None:
    port = free_port()
    # The servers that MLflow starts look for their programs on the PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    log = tmp_path / "log"
    with log.open("w") as output:
        served = forked.Popen(
            [
                *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", CHAMPION),
                *("--env-manager", "local", "--port", str(port), "--workers", "1"),
            ],
            cwd=tmp_path,
            env=server.environment(PATH=path),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        folder = mlflow.artifacts.download_artifacts(CHAMPION, dst_path=str(tmp_path / "model"))
        example = f"{folder}/serving_input_example.json"
        out = tmp_path / "out.json"
        # What `mlflow models predict` calls.
        mlflow.models.predict(  # type: ignore[no-untyped-call]
            CHAMPION, input_path=example, output_path=str(out), env_manager="local"
        )
        predicted = json.loads(out.read_text())["predictions"]
        expected = np.asarray(local.predict(digits.test.scaled[:2, ..., None]))
        assert np.array_equal(np.array(predicted, np.float32), expected)

        wait_until_it_answers(f"http://127.0.0.1:{port}/ping", served, log)
        images = digits.test.scaled[:50, ..., None]
        answer = requests.post(
            f"http://127.0.0.1:{port}/invocations", json={"inputs": images.tolist()}, timeout=60
        )
        assert answer.ok, answer.text
        outputs = np.array(answer.json()["predictions"], np.float32)
        assert np.array_equal(outputs, np.asarray(local.predict(images)))
        names = (local.metadata.metadata or {})["class_names"]
        assert names[outputs[0].argmax()] == str(digits.test.targets[0])
    finally:
        os.killpg(served.pid, 15)
        served.wait(timeout=30)


def saved(path: Path, array: NDArray[Any]) -> str:
    np.save(path, array)
    return str(path)


@pytest.mark.usefixtures("champion")
class TestPredict:
    @pytest.fixture
    def expected(self, local: PyFuncModel, digits: Dataset) -> NDArray[np.float32]:
        outputs: NDArray[np.float32] = np.asarray(local.predict(digits.test.scaled[..., None]))
        return outputs

    @pytest.mark.parametrize("form", ["idx.gz", "uint8", "float32", "channel"])
    def test_is_what_the_model_says(
        self, tmp_path: Path, digits: Dataset, expected: NDArray[np.float32], form: str
    ) -> None:
        grey = digits.test.inputs
        if form == "idx.gz":
            header = b"\x00\x00\x08\x03" + np.array(grey.shape, ">u4").tobytes()
            (tmp_path / form).write_bytes(gzip.compress(header + grey.tobytes()))
            images = str(tmp_path / form)
        else:
            arrays: dict[str, NDArray[Any]] = {
                "uint8": grey,
                "float32": digits.test.scaled,
                "channel": digits.test.scaled[..., None].astype(np.float64),
            }
            images = saved(tmp_path / "images.npy", arrays[form])
        output = tmp_path / "out.parquet"
        result = predict(model=CHAMPION, input=images, output=str(output))
        table = parquet.read_table(output)
        probabilities = np.column_stack([table[f"probability_{n}"] for n in range(10)])
        # In batches of another size, whose products some processors round differently.
        np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-7)
        assert table["label"].to_pylist() == expected.argmax(axis=1).tolist()
        assert result.images == len(grey) == sum(result.counts.values())
        assert result.counts["3"] == table["class_name"].to_pylist().count("3")

    def test_by_run_id_and_as_a_command(
        self, champion: dict[str, Any], tmp_path: Path, digits: Dataset
    ) -> None:
        images, output = saved(tmp_path / "images.npy", digits.test.inputs), tmp_path / "p.csv"
        code, out, err = command_in_this_process(
            *("predict", "--model", champion["run_id"], "--input", images, "--output", str(output))
        )
        assert code == 0, err
        assert err.splitlines() == ["loading the model", "360 of 360 images"]
        assert "360 images classified" in out
        assert output.read_text().count("\n") == 361

    def test_pictures_are_classified_by_name(
        self, tmp_path: Path, digits: Dataset, expected: NDArray[np.float32]
    ) -> None:
        names = ["a.png", "b.png", "c.png"]
        for name, pixels in zip(names, digits.test.inputs, strict=False):
            Image.fromarray(pixels).convert("RGB").save(tmp_path / name)
        given, output = str(tmp_path), str(tmp_path / "p.csv")
        (tmp_path / "notes.txt").touch()
        notices: list[str] = []

        class Hears(ProgressListener):
            def notice(self, text: str) -> None:
                notices.append(text)

        result = predict(model=CHAMPION, input=given, output=output, progress=Hears())
        assert notices == [
            "1 file of the folder left out: no .png, .jpg, .jpeg, .bmp, .webp",
            "3 of 3 pictures are brought to 28 x 28 pixels, grey, as the model takes it",
        ]
        assert [each.file for each in result.first_files] == names
        said = [str(label) for label in expected[:3].argmax(axis=1)]
        assert [each.class_name for each in result.first_files] == said
        chances = [each.probability for each in result.first_files]
        np.testing.assert_allclose(chances, expected[:3].max(axis=1), rtol=1e-4)
        code, out, _ = command_in_this_process(
            *("predict", "--model", CHAMPION, "--input", f"{given}/a.png", "--output", output)
        )
        assert code == 0
        assert f"  by {CHAMPION}\n" in out
        assert "1 image classified" in out
        assert re.search(rf"a\.png +{said[0]} +(1\.00|0\.\d\d)\n", out)

    def test_interrupted_it_leaves_nothing(self, tmp_path: Path, digits: Dataset) -> None:
        class Interrupts(ProgressListener):
            def images(self, done: int, total: int) -> None:
                raise KeyboardInterrupt

        images = saved(tmp_path / "images.npy", digits.test.inputs)
        with pytest.raises(KeyboardInterrupt):
            predict(
                model=CHAMPION,
                input=images,
                output=str(tmp_path / "out.csv"),
                progress=Interrupts(),
            )
        assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]

    def test_floating_point_images_must_be_scaled(self, tmp_path: Path, digits: Dataset) -> None:
        images = saved(tmp_path / "images.npy", digits.test.inputs.astype(np.float32))
        with pytest.raises(DataError, match="values from 0 to 255; floating-point images are"):
            predict(model=CHAMPION, input=images, output=str(tmp_path / "out.csv"))
        assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]

    def test_images_of_another_size(self, tmp_path: Path, digits: Dataset) -> None:
        images = saved(tmp_path / "images.npy", digits.test.inputs[:, :14])
        with pytest.raises(InputError, match=r"images of shape \(14, 28\)', accepted: images of"):
            predict(model=CHAMPION, input=images)

    @pytest.mark.parametrize("model", ["models:/served@nobody", "models:/none/1", "0" * 32, "x"])
    def test_a_model_that_is_not_there(self, tmp_path: Path, digits: Dataset, model: str) -> None:
        images = saved(tmp_path / "images.npy", digits.test.inputs[:1])
        with pytest.raises(InputError, match=f"^model: received '{model}', accepted: a model's"):
            predict(model=model, input=images)
