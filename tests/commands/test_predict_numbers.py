"""Tables, sequences and tokens to predict: numbers, and classes of what is no image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import mlflow.tensorflow
import numpy as np
import pandas as pd
import pytest
from keras import layers
from mlflow.models import ModelSignature
from mlflow.types.schema import Schema, TensorSpec
from PIL import Image

import fm_mlflow
from fm_mlflow import DataError, InputError, predict
from tests.scripts.nets import X, regression, two_by_two
from tests.stores import Store

TOKENS = np.random.default_rng(0).integers(0, 50, (20, 5))


def logged(model: keras.Model, example: Any) -> str:
    with fm_mlflow.track("numbers", measure="none", quiet=True) as run:
        run.log_model(model, example)
        return run.run_id


def write(path: Path, x: Any) -> Path:
    if path.name == "headed.csv":
        pd.DataFrame(x, columns=[f"column {n}" for n in range(x.shape[1])]).to_csv(
            path, index=False
        )
    elif path.suffix == ".csv":
        np.savetxt(path, x, delimiter=",", fmt="%.9g")
    elif path.name == "named.npz":
        np.savez(path, y_test=x[:, 0], x_test=x)
    elif path.suffix == ".npz":
        np.savez_compressed(path, x)
    else:
        np.save(path, x)
    return path


def test_numbers_are_predicted_of_tables_in_any_file(store: Store) -> None:
    model = regression()
    run_id = logged(model, X[:2])
    expected = model.predict(X, verbose=0)[:, 0]
    for name in ("a.npy", "a.npz", "named.npz", "plain.csv", "headed.csv"):
        output = store.folder / ("out.csv" if name == "a.npz" else "out.parquet")
        result = predict(model=run_id, input=str(write(store.folder / name, X)), output=str(output))
        table = pd.read_csv(output) if output.suffix == ".csv" else pd.read_parquet(output)
        assert list(table.columns) == ["row", "prediction"]
        assert (result.images, result.counts) == (100, {})
        np.testing.assert_allclose(table["prediction"], expected, rtol=1e-4, err_msg=name)

    def refused(x: Any, name: str = "b.npy") -> None:
        file = str(write(store.folder / name, x))
        predict(model=run_id, input=file, output=str(store.folder / "none.csv"))

    with pytest.raises(InputError, match=rf"no model is registered yet; .*--model {run_id};"):
        predict(input=str(store.folder / "a.npy"), output=str(store.folder / "none.csv"))
    store.client.create_registered_model("by-hand")
    with pytest.raises(InputError, match=r"no data set is recorded of .* registered: by-hand$"):
        predict(input=str(store.folder / "a.npy"), output=str(store.folder / "none.csv"))
    with pytest.raises(InputError, match=r"examples of shape \(11,\).*, accepted: .*\(12,\)"):
        refused(X[:, 1:])
    with pytest.raises(DataError, match="no finite numbers"):
        refused(np.where(X > 0.5, np.nan, X), "b.csv")
    with pytest.raises(InputError, match="values of shape"):
        refused(np.array(["a", "b"]))
    for text, error in (("a,b\n1,x\n", DataError), ("a,b\n1,2\n3\n", DataError), ("", InputError)):
        (store.folder / "c.csv").write_text(text)
        with pytest.raises(error, match="csv"):
            predict(model=run_id, input=str(store.folder / "c.csv"), output="none.csv")
    assert not (store.folder / "none.csv").exists()


def test_classes_of_tokens_and_of_one_unit(store: Store) -> None:
    stack = [layers.Embedding(50, 4), layers.GlobalAveragePooling1D()]
    binary = keras.Sequential([keras.Input((5,), dtype="int32"), *stack, layers.Dense(1)])
    binary.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    run_id = logged(binary, TOKENS[:2].astype(np.int32))
    output = store.folder / "classes.parquet"

    result = predict(
        model=run_id, input=str(write(store.folder / "t.npy", TOKENS)), output=str(output)
    )

    logits = binary.predict(TOKENS, verbose=0)[:, 0]
    table = pd.read_parquet(output)
    np.testing.assert_allclose(table["probability_1"], 1 / (1 + np.exp(-logits)), rtol=1e-4)
    assert result.counts == {"0": int((logits <= 0).sum()), "1": int((logits > 0).sum())}
    halves = write(store.folder / "h.npy", TOKENS + 0.5)
    with pytest.raises(DataError, match="whole numbers"):
        predict(model=run_id, input=str(halves), output=str(output))


def test_pictures_of_any_size_for_a_model_that_takes_them(store: Store) -> None:
    stack = [keras.Input((None, None, 1)), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([*stack, layers.Dense(3, "softmax")])
    inputs = Schema([TensorSpec(np.dtype("float32"), (-1, -1, -1, 1))])
    signature = ModelSignature(inputs, Schema([TensorSpec(np.dtype("float32"), (-1, 3))]))
    folder = str(store.folder / "model")
    mlflow.tensorflow.save_model(model, folder, signature=signature, pip_requirements=[])
    pixels = np.arange(30 * 20, dtype=np.uint8).reshape(30, 20)
    Image.fromarray(pixels).save(store.folder / "a.png")
    result = predict(
        model=folder, input=str(store.folder / "a.png"), output=str(store.folder / "p.csv")
    )
    (shown,) = result.first_files
    expected = model.predict(pixels[None, ..., None] / np.float32(255), verbose=0)[0].max()
    assert shown.probability == pytest.approx(float(expected), rel=1e-4)


def test_a_model_of_several_inputs_is_refused_for_that_reason(store: Store) -> None:
    model, inputs, _ = two_by_two()
    run_id = logged(model, {name: part[:2] for name, part in inputs.items()})
    file = str(write(store.folder / "a.npy", X))
    with pytest.raises(InputError, match="a model of one input and one output"):
        predict(model=run_id, input=file, output=str(store.folder / "none.csv"))
