"""Names that are made of foreign text."""

from __future__ import annotations

import pytest

from fm_mlflow.naming import registered_model_name
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.settings.registered import REGISTERED_MODEL, RegisterConfig
from tests.hostile import HOSTILE

DIGEST = "09a54ac4" * 8


@pytest.mark.parametrize(
    ("dataset", "digest", "name"),
    [
        ("fashion_mnist", DIGEST, "fashion-mnist-classifier"),
        ("fashion_mnist", None, "fashion-mnist-classifier"),
        ("digits", DIGEST, "digits-classifier"),
        ("My Cats/2024:a", DIGEST, "my-cats-2024-a-classifier"),
        ("idx", DIGEST, "idx-09a54ac4-classifier"),  # what it is called says nothing
        ("数字", DIGEST, "idx-09a54ac4-classifier"),
        ("../..", DIGEST, "idx-09a54ac4-classifier"),
        ("", None, "idx-classifier"),
        ("", "/:\x1b", "idx-classifier"),
        ("a" * 6000, DIGEST, "a" * 100 + "-classifier"),
    ],
)
def test_a_registered_model_is_named_by_its_data_set(
    dataset: str, digest: str | None, name: str
) -> None:
    assert registered_model_name(dataset, digest) == name


def test_whatever_a_data_set_is_called_the_name_is_accepted() -> None:
    name = registered_model_name(HOSTILE, HOSTILE)
    assert parse(RegisterConfig, {"name": name}).name == name


def test_predict_takes_the_champion_of_the_data_set_that_train_takes() -> None:
    default = TrainConfig.model_fields["dataset"].default
    assert registered_model_name(default, None) == REGISTERED_MODEL
