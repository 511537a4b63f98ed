"""Settings: defaults, conversion, and one clear line for whatever is refused."""

from __future__ import annotations

import pytest

from fm_mlflow.config import TrainConfig
from fm_mlflow.errors import InputError
from fm_mlflow.settings import parse


def test_defaults_are_the_reference_protocol() -> None:
    assert parse(TrainConfig, {}).model_dump() == {
        "model": "mlp",
        "epochs": 5,
        "batch_size": 64,
        "learning_rate": 0.001,
        "optimizer": "adam",
        "seed": 0,
        "validation_split": 0.0,
        "dataset": "fashion_mnist",
        "data_dir": "",
        "measure": "flops,latency,memory",
        "fit_loop": "auto",
        "flush_timeout": 60.0,
    }


def test_text_is_converted() -> None:
    config = parse(TrainConfig, {"learning_rate": "1e-3", "epochs": "7", "seed": "4294967295"})
    assert (config.learning_rate, config.epochs, config.seed) == (0.001, 7, 2**32 - 1)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("epochs", "0", "a whole number from 1"),
        ("epochs", "2.5", "a whole number from 1"),
        ("epochs", "", "a whole number from 1"),
        ("batch_size", "-1", "a whole number from 1"),
        ("learning_rate", "0", "a number above 0"),
        ("learning_rate", "nan", "a number above 0"),
        ("learning_rate", "fast", "a number above 0"),
        ("learning_rate", "inf", "a number above 0"),
        ("seed", "-1", "a whole number from 0 to 4294967295"),
        ("seed", "4294967296", "a whole number from 0 to 4294967295"),
        ("validation_split", "1", "a number from 0 below 1"),
        ("validation_split", "-0.1", "a number from 0 below 1"),
        ("optimizer", "adan", "adam, adamw, nadam, rmsprop, sgd, adagrad, lion"),
        ("dataset", "mnist", "fashion_mnist, digits, idx"),
        ("model", "resnet", "mlp, cnn, package.module:function or path/to/file.py:function"),
        ("model", "", "mlp, cnn, package.module:function or path/to/file.py:function"),
        ("measure", "flops,speed", "any of flops, latency, memory, separated by commas; or none"),
        ("momentum", "0.9", "one of the parameters model, seed, epochs, "),
    ],
)
def test_refusal_says_what_was_received_and_what_is_accepted(
    name: str, value: str, accepted: str
) -> None:
    with pytest.raises(InputError) as refusal:
        parse(TrainConfig, {name: value})
    message = str(refusal.value)
    assert message.startswith(f"{name}: received {value!r}, accepted: {accepted}")
    assert "\n" not in message
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    "settings", [{"dataset": "idx"}, {"dataset": "digits", "data_dir": "somewhere"}]
)
def test_data_dir_and_dataset_must_fit(settings: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"^data_dir: received"):
        parse(TrainConfig, settings)


def test_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(TrainConfig, {}).epochs = 3  # type: ignore[misc]
