"""What every test shares: a clean environment, and fixtures that import MLflow when they are used.

Neither this file nor what it imports loads MLflow or TensorFlow: `pytest -m fast` needs neither.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fm_mlflow.data import fashion_mnist
from fm_mlflow.data.dataset import Dataset, load_dataset

pytest_plugins = ["tests.selection"]

if TYPE_CHECKING:
    from tests.stores import Store
    from tests.trained import Finished


def pytest_configure() -> None:
    """Hear SIGINT, in the processes that tests start too.

    A shell starts its background jobs with SIGINT ignored; the command respects that, as every
    program should, but tests of Ctrl-C could then show nothing.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["FM_MLFLOW_JOURNAL_DIR"] = tempfile.mkdtemp(prefix="fm_mlflow-journals-")


def pytest_unconfigure() -> None:
    """Leave no journals behind."""
    shutil.rmtree(os.environ["FM_MLFLOW_JOURNAL_DIR"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own MLflow reaches a test, and no test reaches it."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(autouse=True)
def _no_open_run() -> Iterator[None]:
    """Fail a test that leaves a run open: the next one would join it."""
    yield
    mlflow = sys.modules.get("mlflow")
    left = mlflow and mlflow.active_run()
    if mlflow and left:
        while mlflow.active_run() is not None:
            mlflow.end_run()
        pytest.fail(f"the test left run {left.info.run_id} open")


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty, migrated store."""
    from tests.stores import make_template

    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def store(store_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A fresh SQLite store, active in this process; its folder is the working directory."""
    from tests.stores import active_store, make_store

    monkeypatch.chdir(tmp_path)
    with active_store(make_store(store_template, tmp_path)) as made:
        yield made


@pytest.fixture(scope="session")
def server(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A real MLflow tracking server."""
    from tests.stores import tracking_server

    with tracking_server(store_template, tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session", params=["mlp", "cnn"])
def finished(
    request: pytest.FixtureRequest, store_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """A training of each built-in model, in a SQLite store."""
    from fm_mlflow import train
    from tests.stores import active_store, make_store
    from tests.trained import MEASURED, Finished

    store = make_store(store_template, tmp_path_factory.mktemp(request.param))
    with active_store(store):
        return Finished(store, train(request.param, **MEASURED))


@pytest.fixture
def fashion_mnist_folder() -> Path:
    """The real data, where this machine has them (FM_MLFLOW_DATA_DIR names their folder)."""
    folder = next(
        (place for place in fashion_mnist.search_path() if not fashion_mnist.missing(place)), None
    )
    if folder is None:
        pytest.skip("Fashion-MNIST is not on this machine: set FM_MLFLOW_DATA_DIR to its folder")
    return folder
