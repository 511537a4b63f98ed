"""What every test shares: a clean environment, and fixtures that import MLflow when they are used.

Neither this file nor what it imports loads MLflow or TensorFlow: `pytest -m fast` needs neither.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from fm_mlflow.data import fashion_mnist
from fm_mlflow.data.dataset import Dataset, load_dataset
from fm_mlflow.process.file_lock import FileLock
from fm_mlflow.training import user_source
from fm_mlflow.training.read_back import ReadBack
from fm_mlflow.training.user_source import UserSource
from tests.selection import is_fast, only_fast
from tests.undrawn import undrawn

pytest_plugins = ["tests.selection"]

if TYPE_CHECKING:
    from tests.stores import Store
    from tests.trained import Finished


SHARED = "FM_MLFLOW_TESTS_FOLDER"
"""Names the folder of what all workers of pytest-xdist share: a migrated store, a server.

It has a pipe, `alive`, that the process that starts the workers holds open until it ends, however
it ends.
"""

IN_DEFAULT = "0"
"""The experiment of tests, MLflow's default; `tracking/test_experiment.py` has those of others."""


def pytest_configure(config: pytest.Config) -> None:
    """Hear SIGINT, in the processes that tests start too.

    A shell starts its background jobs with SIGINT ignored; the command respects that, as every
    program should, but tests of Ctrl-C could then show nothing.
    """
    if not hasattr(config, "workerinput"):  # it is not a worker, but starts them
        folder = tempfile.mkdtemp(prefix="fm_mlflow-tests-")
        os.environ[SHARED] = folder
        os.mkfifo(f"{folder}/alive")
        alive = os.open(f"{folder}/alive", os.O_RDWR)
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        config.add_cleanup(lambda: os.close(alive))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.set_threshold(50_000, 20, 100)  # TensorFlow's and MLflow's objects are many, and stay
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # for the fixtures of a whole session
    os.environ["MLFLOW_EXPERIMENT_ID"] = IN_DEFAULT
    # As the command sets it. JAX, where it is installed, sets another level when it is imported,
    # which commands that tests start would take for the user's.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # No test trains for long: XLA is to compile in little time, rather than well.
    fast_to_compile = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    in_one_part = "--xla_cpu_parallel_codegen_split_count=1"
    given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{fast_to_compile} {in_one_part} {given}"
    os.environ["FM_MLFLOW_JOURNAL_DIR"] = tempfile.mkdtemp(prefix="fm_mlflow-journals-")


def pytest_unconfigure() -> None:
    """Leave no journals behind."""
    shutil.rmtree(os.environ["FM_MLFLOW_JOURNAL_DIR"], ignore_errors=True)


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what the test files have imported."""
    gc.freeze()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let processes start as copies of this one, with the libraries, before any test file is."""
    config = session.config
    starts_workers = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    places = (Path(each.partition("::")[0]).absolute() for each in config.args)
    if not (only_fast(config) or starts_workers or all(map(is_fast, places))):
        from tests import forked

        forked.import_libraries()
        forked.prepare()


@pytest.fixture(autouse=True, scope="module")
def _garbage_of_a_file_is_collected_once() -> None:
    """Have what the files before have left collected, and not looked at again.

    Each profile of a model looks for its own garbage: among a million other objects for 0.6 s.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own MLflow reaches a test, and no test reaches it."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", IN_DEFAULT)


@pytest.fixture(autouse=True, scope="module")
def _own_models_are_not_read_back() -> Iterator[None]:
    """Save trainings in this process the seconds in which another one imports TensorFlow.

    Real processes do it: `training/test_read_back.py` and the tests of the command line. As this
    holds for a module, it holds for the trainings that its tests share.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReadBack, "_start", lambda _self: None)
        yield


@pytest.fixture(autouse=True, scope="module")
def _plots_are_not_drawn() -> Iterator[None]:
    """Save trainings in this process the half second in which matplotlib lays out two figures.

    The fixture `finished`, real processes and `report/test_plots.py` draw them.
    """
    with undrawn():
        yield


@pytest.fixture(autouse=True, scope="module")
def _tests_are_no_source_of_models() -> Iterator[None]:
    """Save models that tests define from being logged with all files of the tests.

    A user's source lies in files of its own: `training/test_user_source.py` and others write some.
    """
    source_of_module = user_source._source_of_module

    def source_of(module: ModuleType) -> UserSource:
        is_test = module.__name__.partition(".")[0] == "tests"
        return UserSource() if is_test else source_of_module(module)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_source, "_source_of_module", source_of)
        yield


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
def shared_folder() -> Path:
    return Path(os.environ[SHARED])


@pytest.fixture(scope="session")
def store_template(shared_folder: Path) -> Path:
    """An empty, migrated store."""
    from tests.stores import make_template

    with FileLock(shared_folder / "template.lock"):
        return make_template(shared_folder)


@pytest.fixture
def store(store_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A fresh SQLite store, active in this process; its folder is the working directory."""
    from tests.stores import active_store, make_store

    monkeypatch.chdir(tmp_path)
    with active_store(make_store(store_template, tmp_path)) as made:
        yield made


@pytest.fixture(scope="session")
def server(store_template: Path, shared_folder: Path) -> Store:
    """A real MLflow tracking server, one for all workers."""
    from tests.stores import tracking_server

    with FileLock(shared_folder / "server.lock"):
        return tracking_server(store_template, shared_folder)


@pytest.fixture
def copied_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the Python programs that this process starts begin as copies, with all imported."""
    from tests import forked

    monkeypatch.setattr(subprocess, "Popen", forked.Popen)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session", params=["mlp", "cnn"])
def finished(request: pytest.FixtureRequest, store_template: Path, shared_folder: Path) -> Finished:
    """A training of each built-in model, in a SQLite store, one for all workers."""
    from tests.trained import finished_training

    return finished_training(request.param, store_template, shared_folder)


@pytest.fixture
def fashion_mnist_folder() -> Path:
    """The real data, where this machine has them (FM_MLFLOW_DATA_DIR names their folder)."""
    folder = next(
        (place for place in fashion_mnist.search_path() if not fashion_mnist.missing(place)), None
    )
    if folder is None:
        pytest.skip("Fashion-MNIST is not on this machine: set FM_MLFLOW_DATA_DIR to its folder")
    return folder
