"""Settings: defaults, conversion, and one clear line for whatever is refused."""

from __future__ import annotations

import pytest

from fm_mlflow.errors import InputError
from fm_mlflow.settings.base import Settings, check_id, parse, resumed
from fm_mlflow.settings.config import BenchmarkConfig, SyncConfig, TrainConfig
from fm_mlflow.settings.registered import PredictConfig, RegisterConfig
from fm_mlflow.settings.selection import CompareConfig


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
        "measure": "flops,latency,memory,energy",
        "fit_loop": "auto",
        "precision": "float32",
        "flush_timeout": 60.0,
        "checkpoint_seconds": 60.0,
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
        (
            "measure",
            "flops,speed",
            "any of flops, latency, memory, energy, separated by commas; or none",
        ),
        ("momentum", "momentum", "one of the parameters model, seed, epochs, "),
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


def test_a_refusal_is_of_bounded_length_whatever_it_quotes() -> None:
    long = "x" * 1_000_000
    for refusal in (InputError(long, 1, "a"), InputError("a", long, "a"), InputError("a", 1, long)):
        assert len(str(refusal)) < 3_000


@pytest.mark.parametrize(
    "settings", [{"dataset": "idx"}, {"dataset": "digits", "data_dir": "somewhere"}]
)
def test_data_dir_and_dataset_must_fit(settings: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"^data_dir: received"):
        parse(TrainConfig, settings)


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (BenchmarkConfig, {"seeds": "1000000000"}),
        (BenchmarkConfig, {"jobs": "1000000000"}),
        (BenchmarkConfig, {"order_seed": "9" * 4400}),
        (TrainConfig, {"epochs": "99999999999999999999"}),
        (TrainConfig, {"batch_size": str(2**63)}),
        (TrainConfig, {"seed": str(2**64)}),
        (TrainConfig, {"flush_timeout": "1e300"}),
        (CompareConfig, {"top": str(2**63)}),
        (RegisterConfig, {"run_id": " "}),
        (RegisterConfig, {"name": "\t"}),
        (CompareConfig, {"experiment": " "}),
        (CompareConfig, {"runs": " , "}),
        (CompareConfig, {"models": ","}),
        (CompareConfig, {"output": "nul\0"}),
        (PredictConfig, {"input": " "}),
        (PredictConfig, {"input": "a", "model": "\n"}),
        (SyncConfig, {"store": " "}),
        (BenchmarkConfig, {"resume": "\u2003"}),
        (TrainConfig, {"data_dir": "half a character: \udcff"}),
    ],
)
def test_what_is_too_much_or_no_text_is_refused(
    config: type[Settings], settings: dict[str, str]
) -> None:
    with pytest.raises(InputError) as refusal:
        parse(config, settings)
    message = str(refusal.value)
    assert message.startswith(f"{[*settings][-1]}: received ")
    assert len(message) < 1500


@pytest.mark.parametrize("given", ["", " ", "../run", "a/b", "nul\0", "x" * 300, "a\n"])
def test_what_can_be_no_id_is_refused(given: str) -> None:
    with pytest.raises(InputError, match=r"^run: received .*accepted: the id of a run"):
        check_id("run", given)
    check_id("run", "0" * 32)
    check_id("run", "j-0123")


def test_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(TrainConfig, {}).epochs = 3  # type: ignore[misc]


def test_a_run_that_was_killed_before_it_had_settings_is_not_resumed_with_the_defaults() -> None:
    given = parse(BenchmarkConfig, {"resume": "0123"})
    for params in ({"dataset_digest": "x"}, {"epochs": "2"}):  # the data set is logged last
        with pytest.raises(
            InputError, match=r"resume: received '?0123'?, .*benchmark 0123 ended before"
        ):
            resumed(given, params, {"jobs", "resume"}, "benchmark 0123")
    settings = {"epochs": "2", "dataset": "digits"}
    assert resumed(given, settings, {"jobs", "resume"}, "benchmark 0123").epochs == 2
    hidden = {**settings, "models": "a.py:f?token=***"}
    with pytest.raises(InputError, match="of benchmark 0123 it hides models: a part"):
        resumed(given, hidden, {"jobs", "resume"}, "benchmark 0123")
