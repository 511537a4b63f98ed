"""A journal that version 0.1.0 wrote while its store did not answer is delivered and resumed.

It holds a run on the digits and the extension of that run by an epoch. Names of the person and the
machine are changed; plots and input examples are left out.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fm_mlflow import TrackingError, keys, resume, sync
from tests.stores import Store

WRITTEN = Path(__file__).parent / "journal_of_0_1_0"
(NAME,) = (folder.name for folder in WRITTEN.iterdir())
OWN_STORE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "journals"
    shutil.copytree(WRITTEN, root)
    for folder in (root, root / NAME):  # whatever the umask was when the sources were copied
        folder.chmod(0o700)
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(root))
    return root / NAME


def points(store: Store, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in store.client.get_metric_history(run_id, key)]


def test_it_is_delivered(store: Store, journal: Path) -> None:
    (done,) = sync([NAME], store=store.uri).journals
    assert (done.pending, done.records) == ("", 39)
    assert not journal.exists()
    run = store.only_run()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "tiny.py:build, 2 epochs, seed 0")
    assert (run.info.start_time, run.info.end_time) == (1795763868383, 1795763878269)
    assert run.data.params == {
        "batch_size": "64",
        "dataset": "digits",
        "epochs": "1",
        "learning_rate": "0.001",
        "loss": "sparse_categorical_crossentropy",
        "model": "tiny.py:build",
        "optimizer": "adam",
        "seed": "0",
        "validation_split": "0.0",
    }
    tags = run.data.tags
    assert (tags[keys.KIND], tags[keys.VERSION], tags[keys.JOURNAL]) == ("training", "0.1.0", NAME)
    assert (tags["mlflow.user"], tags[keys.PARTS]) == ("ann", "2")
    assert "| test accuracy | 0.1444 |" in tags["mlflow.note.content"]
    assert points(store, run.info.run_id, "loss") == [
        (1, 2.322455644607544),
        (2, 2.252432107925415),
    ]
    assert points(store, run.info.run_id, "test_loss") == [
        (0, 2.322244167327881),
        (0, 2.2542243003845215),
    ]
    assert run.inputs
    inputs = [
        (each.dataset.name, each.dataset.digest, [tag.value for tag in each.tags])
        for each in run.inputs.dataset_inputs
    ]
    assert inputs == [
        ("digits", "8608d7c92cc3f7f7a2942198b259cdf0b5ae", ["training"]),
        ("digits", "6fdb2ab0d73b4f191d131a752fd93b13d13e", ["test"]),
    ]


def test_its_files_are_delivered(store: Store, journal: Path) -> None:
    expected = [
        *((path, path.read_bytes()) for path in (journal / "artifacts" / "6").rglob("*.json")),
        *((path, path.read_bytes()) for path in (journal / "checkpoint").iterdir()),
    ]
    sync([NAME], store=store.uri)
    run = store.only_run()
    stored = Path(store.client.download_artifacts(run.info.run_id, ""))
    assert sorted(str(path.relative_to(stored)) for path in stored.rglob("*.*")) == [
        "checkpoint/even.npz",
        "measurements.json",
        "model_summary.txt",
        "predictions/test.npz",
    ]
    for path, contents in expected:
        (found,) = stored.rglob(path.name)
        assert found.read_bytes() == contents
    assert run.outputs
    first, second = sorted(run.outputs.model_outputs, key=lambda each: each.step)
    assert (first.step, second.step) == (0, 2)
    model = store.client.get_logged_model(second.model_id)
    assert (str(model.status), model.params["optimizer"]) == ("READY", "adam")
    assert model.tags["mlflow.source.name"] == "/home/ann/more.py"
    linked = {metric.key: metric.value for metric in model.metrics or []}
    assert linked["test_loss"] == 2.2542243003845215
    assert linked["parameters/trainable"] == 500


def test_it_is_resumed(store: Store, journal: Path) -> None:
    shutil.copy(journal / "models" / "3" / "code" / "tiny.py", store.folder)
    with pytest.raises(TrackingError, match=f"`fm-mlflow resume --store {OWN_STORE} {NAME}`"):
        resume(NAME, epochs=3)
    result = resume(NAME, epochs=3, store=OWN_STORE, flush_timeout=0)
    assert "are not in the store yet" in result.pending  # its own store still does not answer
    assert result.history["loss"][:2] == [2.322455644607544, 2.252432107925415]
    types = [
        json.loads(line.partition(" ")[2])["type"]
        for line in (journal / "journal.jsonl").read_text().splitlines()
    ]
    assert types.count("reopen") == 2
    (done,) = sync([NAME], store=store.uri).journals
    assert done.pending == ""
    run = store.only_run()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "tiny.py:build, 3 epochs, seed 0")
    assert [step for step, _ in points(store, run.info.run_id, "loss")] == [1, 2, 3]
    assert run.data.params["epochs"] == "1"
