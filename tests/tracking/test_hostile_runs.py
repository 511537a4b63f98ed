"""Runs whose artifacts and values are damaged or made to hurt: said in words, the rest is read."""

from __future__ import annotations

import os
import random
import tracemalloc
from pathlib import Path

import pytest

from fm_mlflow import InputError, compare, keys, runs
from fm_mlflow.analysis.records import RunDetails
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking.candidate import find_training_run
from fm_mlflow.tracking.find_runs import find_runs
from fm_mlflow.tracking.run_details import load_details
from tests.hostile_files import DIGITS, KINDS, Case
from tests.hostile_stores import HostileStores, one_run, write_artifact
from tests.simulated import Simulated, log_run
from tests.stores import Store

_MOST_BYTES = 100 * 1024**2

ARTIFACTS = ("predictions", "measurements", "layers", "model")
CASES = [
    pytest.param(kind, make, id=f"{kind}: {name}")
    for kind in ARTIFACTS
    for name, make in KINDS[kind].cases.items()
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    template = tmp_path_factory.mktemp("one")
    valid = tmp_path_factory.mktemp("valid")
    assert not details(template, valid).problems  # and MLflow is imported, the store made
    return template


def details(template: Path, folder: Path) -> RunDetails:
    with one_run(template, folder) as run:
        return load_details([run])[run.run_id]


@pytest.mark.parametrize(("kind", "make"), CASES)
def test_a_damaged_artifact_is_a_problem_and_the_others_are_read(
    template: Path, tmp_path: Path, kind: str, make: Case
) -> None:
    write_artifact(tmp_path, kind, make())
    tracemalloc.start()
    try:
        found = details(template, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < _MOST_BYTES
    (problem,) = found.problems
    assert problem.startswith(f"its {KINDS[kind].name} cannot be read: ")
    assert "\n" not in problem
    read = {
        "predictions": found.predictions is not None,
        "measurements": bool(found.measurements),
        "layers": bool(found.layer_types),
        "model": bool(found.class_names),
    }
    assert read == {name: name != kind for name in ARTIFACTS}


@pytest.mark.parametrize("kind", ["fifo", "loop", "device", "folder", "1 TB", "of others"])
@pytest.mark.parametrize("artifact", ["predictions", "model"])
def test_what_is_no_regular_file_is_a_problem(
    template: Path, tmp_path: Path, kind: str, artifact: str
) -> None:
    path = tmp_path / KINDS[artifact].name
    path.parent.mkdir(exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "1 TB":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.symlink_to({"loop": path.name, "device": "/dev/zero"}.get(kind, "/etc/hostname"))
    (problem,) = details(template, tmp_path).problems
    assert problem.startswith(f"its {KINDS[artifact].name} cannot be read: ")


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_what_is_not_there_is_not_called_unreadable(
    template: Path, tmp_path: Path, artifact: str
) -> None:
    with one_run(template, tmp_path) as run:
        (tmp_path / KINDS[artifact].name).unlink()
        (problem,) = load_details([run])[run.run_id].problems
        assert problem.partition(",")[0] == f"it has no {KINDS[artifact].name}"


def test_artifacts_of_a_server_are_not_downloaded_when_they_are_too_large(server: Store) -> None:
    import mlflow

    experiment = server.client.create_experiment("large")
    run_id = log_run(server.client, Simulated(), experiment)
    server.client.log_text(run_id, " " * (1 << 20), keys.MEASUREMENTS_FILE)
    (layers,) = server.folder.glob(f"artifacts/**/{run_id}/artifacts/{keys.FLOPS_LAYERS_FILE}")
    layers.unlink()
    layers.mkdir()
    (layers / "file").write_text("in a folder")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.uri)
    try:
        (run,) = find_runs(Choice(experiment="large")).runs
        found = load_details([run])[run_id]
    finally:
        mlflow.set_tracking_uri(before)
    assert found.predictions is not None
    assert [problem.partition(": ")[2] for problem in found.problems] == [
        "ValueError: it has 1,048,576 bytes, at most 262,144 are read",
        "ValueError: it is a folder",
    ]


def test_more_points_than_are_read_are_a_problem(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_run(store.client, Simulated())
    (run,) = find_runs(Choice()).runs
    monkeypatch.setattr("fm_mlflow.tracking.run_details._MOST_POINTS", 4)
    found = load_details([run])[run.run_id]
    assert found.curves == {}
    assert found.problems[0] == "its points of loss are not read: there are more than 4"


def test_tags_and_parameters_that_are_no_numbers(store: Store) -> None:
    names = (keys.JOBS, keys.EXTENDED_EPOCHS, keys.MACHINE_LOAD, keys.MACHINE_CORES)
    values = (DIGITS, "9" * 30, "-1", "1e999", "٣x", "", "nan")
    for value in values:
        tags = {str(name): value for name in names}
        params = {"seed": value, "epochs": value}
        log_run(store.client, Simulated(params=params, tags=tags))
    log_run(store.client, Simulated("cnn", seed=2))
    found = find_runs(Choice()).runs
    assert [run.seed for run in found] == [None] * len(values) + [2]
    assert all(run.jobs == 1 for run in found)
    assert len(runs()) == len(found)
    assert {group.model for group in compare().comparison.groups} == {"mlp", "cnn"}


def test_a_run_that_holds_too_much_is_skipped(store: Store) -> None:
    import sqlite3

    many, long, good = (log_run(store.client, Simulated(seed=seed)) for seed in range(3))
    with sqlite3.connect(store.folder / "mlflow.db") as database:
        rows = [(f"p{number}", "1", many) for number in range(1200)]
        database.executemany("INSERT INTO params VALUES (?, ?, ?)", rows)
        database.execute("INSERT INTO tags VALUES (?, ?, ?)", ["t", "x" * 2_000_000, long])
    found = find_runs(Choice())
    assert [run.run_id for run in found.runs] == [good]
    reasons = {run.run_id: run.reason for run in found.skipped}
    assert "parameters; runs of up to 1,000 are read" in reasons[many]
    assert "characters; runs of up to 1,000,000 are read" in reasons[long]
    assert runs().index.tolist() == [good]


@pytest.mark.parametrize("given", ["", " ", ",", "0,1", " 0", "\t"])
def test_a_name_that_is_none_is_no_run(store: Store, given: str) -> None:
    log_run(store.client, Simulated())
    with pytest.raises(InputError, match=r"^run_id: received"):
        find_training_run(given)


def test_a_store_of_hostile_runs_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, folder = HostileStores(tmp_path / "template"), tmp_path / "hostile"
    folder.mkdir()
    monkeypatch.chdir(folder)
    stores.make(folder, random.Random(7))
    assert stores.read(folder)
