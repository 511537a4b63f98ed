"""Models as text: names, arguments, lists of them, settings of their own."""

from __future__ import annotations

import pytest

from fm_mlflow.errors import InputError
from fm_mlflow.naming import model_name, training_config
from fm_mlflow.settings.config import BenchmarkConfig, TrainConfig
from fm_mlflow.settings.model_reference import (
    ModelReference,
    joined_settings,
    split_models,
    split_settings,
)


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("cnn", "cnn", {}),
        ("cnn?filters=8,16&dense=32", "cnn", {"filters": "8,16", "dense": "32"}),
        ("a/b.py:build?width=52", "a/b.py:build", {"width": "52"}),
        ("wh?t/b.py:build?name=a%26b%3Fc", "wh?t/b.py:build", {"name": "a&b?c"}),
        ("pkg.mod:Class.make?x=", "pkg.mod:Class.make", {"x": ""}),
    ],
)
def test_references_are_read_and_written(text: str, name: str, arguments: dict[str, str]) -> None:
    reference = ModelReference.parse(text)
    assert (reference.name, reference.arguments) == (name, arguments)
    assert ModelReference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text", ["", "nets", "cnn?", "cnn?dense", "cnn?dense=1&dense=2", "cnn?a b=1"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^model: "):
        ModelReference.parse(text)


def test_values_of_any_text_survive_in_lists_of_models() -> None:
    values = ["64,32", "1,cnn", "a,b.py:f,c", "x&y=z", "ä #1", "%2C"]
    models = [str(ModelReference("a.py:f", {"v": value})) for value in values]
    assert split_models(",".join(["cnn", *models, "mlp"])) == ("cnn", *models, "mlp")
    assert [ModelReference.parse(model).arguments["v"] for model in models] == values


@pytest.mark.parametrize(
    "models",
    [
        ("x.py:f?sizes=64,32&init=keras:zeros", "cnn"),
        ("wh?t/b.py:build", "x#1/c.py:f"),
        ("cnn?filters=8,16", "wh?t/b.py:build?width=3", "mlp"),
        ("a.py:f#learning_rate=0.1", "b.py:g?x=2,3", "c.py:f"),
    ],
)
def test_lists_of_models_are_split_between_models_only(models: tuple[str, ...]) -> None:
    assert split_models(",".join(models)) == models


def test_a_benchmark_gives_models_settings_of_their_own() -> None:
    entry = joined_settings("cnn?filters=8,16", {"learning_rate": 0.003, "batch_size": 32})
    config = BenchmarkConfig(models=f"cnn,{entry}", seeds=1, batch_size=128)
    plain, own = config.trainings()
    assert (plain.model, plain.learning_rate, plain.batch_size) == ("cnn", 0.001, 128)
    assert (own.model, own.learning_rate, own.batch_size) == ("cnn?filters=8,16", 0.003, 32)
    assert own.entry == entry
    assert split_settings("a#b/c.py:f") == ("a#b/c.py:f", {})


@pytest.mark.parametrize("models", ["cnn#epochs=3", "cnn#learning_rate=", "cnn#learning_rate=-1"])
def test_settings_that_no_model_may_have_alone_are_refused(models: str) -> None:
    with pytest.raises(InputError):
        BenchmarkConfig(models=models)


def test_the_settings_of_a_run_are_read_from_its_parameters() -> None:
    logged = {"dataset": "digits", "epochs": "3", "model.width": "52", "model.kind": "a,b"}
    assert training_config("a.py:f", logged) == TrainConfig(
        model="a.py:f?width=52&kind=a,b", epochs=3, dataset="digits"
    )
    defaults = {"dataset": "fashion_mnist", "model.hidden": "256,128"}
    assert training_config("mlp", defaults) == TrainConfig()
    assert model_name("nets/a.py:f?path=x/y") == "a.py:f?path=x/y"
