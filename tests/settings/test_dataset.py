"""The setting `dataset`: names, files and folders, and where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fm_mlflow.errors import InputError
from fm_mlflow.naming import dataset_title, training_command, training_config
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.config import BenchmarkConfig, TrainConfig


@pytest.mark.parametrize(
    ("given", "name", "folder"),
    [
        ({"dataset": "prices.npz"}, "prices.npz", "."),
        ({"dataset": "data/prices.npz"}, "prices.npz", "data"),
        ({"dataset": Path("/data/prices.npz")}, "prices.npz", "/data"),
        ({"dataset": "images/"}, "images", "."),
        ({"dataset": "/images"}, "images", "/"),
        ({"dataset": "../my images//"}, "my images", ".."),
        ({"dataset": "images", "data_dir": "/data"}, "images", "/data"),
        ({"dataset": "idx", "data_dir": "/data"}, "idx", "/data"),
        ({"dataset": "digits"}, "digits", ""),
        ({}, "fashion_mnist", ""),
    ],
)
@pytest.mark.parametrize("settings", [TrainConfig, BenchmarkConfig])
def test_a_path_is_a_name_and_a_folder(
    settings: Any, given: dict[str, Any], name: str, folder: str
) -> None:
    config = parse(settings, given)
    assert (config.dataset, config.data_dir) == (name, folder)
    assert parse(settings, config.model_dump()) == config


@pytest.mark.parametrize(
    "given",
    [
        {"dataset": ""},
        {"dataset": "images"},
        {"dataset": "/"},
        {"dataset": "data/.."},
        {"dataset": "data/digits/"},
        {"dataset": 5},
        {"dataset": "from_python", "data_dir": "/data"},
        {"dataset": "data/prices.npz", "data_dir": "/data"},
    ],
)
def test_what_is_no_data_set_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refusal:
        parse(TrainConfig, given)
    assert refusal.value.parameter == [*given][-1]


def test_a_command_that_repeats_a_run_names_no_folder_of_this_machine() -> None:
    config = parse(TrainConfig, {"dataset": "/home/me/prices.npz", "model": "a:b"})
    text = "fm-mlflow train --model a:b --dataset prices.npz --data-dir FOLDER"
    assert training_command(config) == text
    logged = {"dataset": "/home/me/prices.npz", "epochs": "5"}  # by `mlflow run`
    assert training_command(training_config("a:b", logged)) == text
    assert dataset_title("prices\x1b.npz") == "prices\\x1b.npz"
