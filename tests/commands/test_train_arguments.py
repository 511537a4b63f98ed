"""Models with arguments: trained, resumed, told apart in a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fm_mlflow import InputError, TrackingError, compare, resume, train
from tests.commands.test_resume import StopsAt
from tests.stores import Store

QUICK: dict[str, Any] = {"dataset": "digits", "epochs": 1, "measure": "none", "batch_size": 256}

SOURCE = """
import keras

def keyed(token: str, width: int = 8) -> keras.Model:
    return build(width)

def build(width: int = 8, name: str = "plain") -> keras.Model:
    return keras.Sequential([
        keras.Input((28, 28)), keras.layers.Flatten(),
        keras.layers.Dense(width, "relu"), keras.layers.Dense(10, "softmax")])
"""


def test_arguments_are_logged_resumed_and_compared(store: Store, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(SOURCE)
    given = train(f"{tmp_path}/nets.py:build?width=12", **QUICK)
    train(f"{tmp_path}/nets.py:build", model_args={"width": 16}, **QUICK)

    params = store.client.get_run(given.run_id).data.params
    assert params["model"] == f"{tmp_path}/nets.py:build?width=12"
    assert (params["model.width"], params["model.name"]) == ("12", "plain")
    assert given.metrics["parameters/trainable"] == 785 * 12 + 13 * 10
    assert given.run_name == "nets.py:build?width=12, 1 epoch, seed 0"

    extended = resume(given.run_id, epochs=2)
    assert extended.metrics["parameters/trainable"] == given.metrics["parameters/trainable"]

    groups = compare(top=2).comparison.groups
    assert {group.config["model.width"] for group in groups} == {"12", "16"}
    assert all("width" in group.name and "model.width" not in group.name for group in groups)


def test_an_argument_that_is_a_secret_reaches_nothing_of_the_store(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "keyed_nets.py").write_text(SOURCE)
    result = train(f"{tmp_path}/keyed_nets.py:keyed?token=abc-123-def", **QUICK)
    assert store.only_run().data.params["model.token"] == "***"
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    assert [path for path in files if b"abc-123-def" in path.read_bytes()] == []
    assert any("checkpoint" in str(path) for path in files)
    with pytest.raises(TrackingError, match="looks like a secret"):
        resume(result.run_id, epochs=2)


def test_functions_take_arguments_from_python(store: Store) -> None:
    with pytest.raises(InputError, match="each given once"):
        train("mlp?hidden=8", model_args={"hidden": (8,)}, **QUICK)
    with pytest.raises(InputError, match="is no number, text"):
        train("mlp", model_args={"hidden": object()}, **QUICK)
    with pytest.raises(KeyboardInterrupt):
        train("mlp", model_args={"hidden": (8,)}, progress=StopsAt(1), **QUICK)
    params = store.only_run().data.params
    assert (params["model"], params["model.hidden"]) == ("mlp?hidden=8", "8")
