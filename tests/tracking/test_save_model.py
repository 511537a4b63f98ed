"""What the files of a saved model hold."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from fm_mlflow.tracking.save_model import save_model


@keras.saving.register_keras_serializable(package="test_saved_model")
class Twice(keras.layers.Layer):  # type: ignore[misc]
    def call(self, inputs: object) -> object:
        return 2 * inputs  # type: ignore[operator]


@pytest.mark.parametrize("own", [False, True], ids=["of another model", "of this one"])
def test_custom_objects_travel_with_their_model_only(tmp_path: Path, own: bool) -> None:
    layers = [keras.layers.Flatten(), *([Twice()] if own else []), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((2, 2)), *layers])
    inputs = np.zeros((2, 2, 2), np.float32)
    save_model(
        model,
        tmp_path / "model",
        input_example=inputs,
        output_example=np.zeros((2, 3), np.float32),
        gives_logits=False,
        class_names=("a", "b", "c"),
        code_folder=tmp_path,
        code_files=(),
        requirements=(),
    )
    pickled = b"".join(path.read_bytes() for path in tmp_path.rglob("*.cloudpickle"))
    assert (b"Twice" in pickled) == own
    assert "test_saved_model>Twice" in keras.saving.get_custom_objects()
