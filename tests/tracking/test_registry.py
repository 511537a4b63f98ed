"""Versions and aliases in a real registry, changed by one process at a time."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import LoggedModelStatus

from fm_mlflow import GateError, keys
from fm_mlflow.analysis.objective import DEFAULT, Objective
from fm_mlflow.errors import InputError, TrackingError
from fm_mlflow.process.temporary import mark
from fm_mlflow.tracking import turns
from fm_mlflow.tracking.aliases import Aliases
from fm_mlflow.tracking.model_files import (
    ModelChangedError,
    ModelFiles,
    check_fetched,
    fetch_model,
)
from fm_mlflow.tracking.registered_metric import OtherMetricError, claim, of_tags, to_tags
from fm_mlflow.tracking.registry import ChampionChangedError, Registry
from tests import forked
from tests.processes import START_SECONDS, wait_for
from tests.stores import Store, active_store

NAME = "classifier"


def logged_model(store: Store, name: str = "model") -> str:
    """A logged model without files: the registry does not look into it."""
    run = store.client.create_run("0")
    model = store.client.create_logged_model("0", name=name, source_run_id=run.info.run_id)
    store.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return f"models:/{model.model_id}"


def new_version(store: Store, accuracy: float = 0.9) -> tuple[str, str, dict[str, str]]:
    return logged_model(store), "A model card.", {keys.TEST_ACCURACY: str(accuracy)}


def test_promoting_moves_the_aliases_and_keeps_the_evidence(store: Store) -> None:
    registry = Registry(NAME)
    assert registry.versions() == []
    first, second = new_version(store, 0.9), new_version(store, 0.91)
    version, is_new = registry.promote(*first, None)
    assert (version.version, version.aliases, is_new) == (1, ("champion",), True)
    registry.promote(*second, 1)
    two, one = registry.versions()
    assert (two.version, two.aliases, two.figure(keys.TEST_ACCURACY)) == (2, ("champion",), 0.91)
    assert (one.version, one.aliases) == (1, ("previous",))
    assert one.model_uri == first[0]
    assert one.run_id == store.client.get_logged_model(str(one.model_uri)[8:]).source_run_id
    assert store.client.get_model_version(NAME, "2").description == "A model card."
    assert store.client.get_registered_model(NAME).tags == {}


def test_the_same_model_again_is_the_same_version(store: Store) -> None:
    registry = Registry(NAME)
    first = new_version(store)
    registry.promote(*first, None)
    registry.promote(*new_version(store), 1)
    again = (first[0], "Verified again.", {str(keys.TEST_ACCURACY): "0.95"})
    version, is_new = registry.promote(*again, 2)
    assert (version.version, is_new) == (1, False)
    assert version.figure(keys.TEST_ACCURACY) == 0.95
    assert store.client.get_model_version(NAME, "1").description == "Verified again."
    assert registry.aliases() == Aliases(champion=1, previous=2)
    assert len(registry.versions()) == 2


def test_a_version_whose_making_was_cut_off_is_linked_to_its_model(store: Store) -> None:
    registry = Registry(NAME)
    model = new_version(store)
    registry.promote(*model, None)
    model_id = model[0].removeprefix("models:/")
    linked = store.client.get_logged_model(model_id).tags["mlflow.modelVersions"]
    for left in ([], [{"name": "other", "version": 1}], ["damaged"]):
        store.client.set_logged_model_tags(model_id, {"mlflow.modelVersions": json.dumps(left)})
        registry.promote(*model, 1)
        registry.promote(*model, 1)
        others = [each for each in left if isinstance(each, dict)]
        text = store.client.get_logged_model(model_id).tags["mlflow.modelVersions"]
        assert json.loads(text) == [*others, *json.loads(linked)]


def test_a_metric_that_was_half_recorded_is_recorded_anew(store: Store) -> None:
    registry = Registry(NAME)
    uri, card, evidence = new_version(store)
    registry.promote(uri, card, evidence, None)
    mae = Objective("val_mae", True)
    first = next(iter(to_tags(mae).items()))
    store.client.set_registered_model_tag(NAME, *first)  # killed between the two
    tags = store.client.get_registered_model(NAME).tags
    assert of_tags(tags) is None
    claim(store.client, store.client.get_registered_model(NAME), DEFAULT)
    assert of_tags(store.client.get_registered_model(NAME).tags) == DEFAULT


def test_one_metric_decides_of_a_registered_model(store: Store) -> None:
    registry = Registry(NAME)
    mae, more_mae = Objective("val_mae", True), Objective("val_mae", False)
    registry.check_metric(mae)  # it does not exist yet
    uri, card, evidence = new_version(store)
    registry.promote(uri, card, evidence | to_tags(mae), None)
    tags = store.client.get_registered_model(NAME).tags
    assert tags == {keys.METRIC: "val_mae", keys.DIRECTION: "lower"}
    registry.check_metric(Objective("val_mae", True, known_by="by its name"))
    for other in (DEFAULT, more_mae, Objective("test_mae", True)):
        with pytest.raises(OtherMetricError, match=r"by val_mae \(lower is better\); this is by"):
            registry.check_metric(other)
        uri, card, evidence = new_version(store)
        with pytest.raises(GateError):
            registry.promote(uri, card, evidence | to_tags(other), 1)
    assert [version.version for version in registry.versions()] == [1]
    assert store.client.get_registered_model(NAME).tags == tags


def test_a_registered_model_of_earlier_versions_is_decided_by_accuracy(store: Store) -> None:
    registry = Registry(NAME)
    registry.promote(*new_version(store), None)
    assert keys.METRIC not in store.client.get_registered_model(NAME).tags
    registry.check_metric(DEFAULT)
    with pytest.raises(OtherMetricError, match=r"by test_accuracy \(higher is better\)"):
        registry.check_metric(Objective("test_loss", True))


def test_a_champion_that_changed_meanwhile_stays(store: Store) -> None:
    registry = Registry(NAME)
    registry.promote(*new_version(store), None)
    with pytest.raises(ChampionChangedError):
        registry.promote(*new_version(store), None)
    assert registry.aliases() == Aliases(champion=1, previous=None)
    assert len(registry.versions()) == 1


def test_rollback_and_back(store: Store) -> None:
    registry = Registry(NAME)

    def refused() -> str:
        with pytest.raises(InputError, match="rollback: received 'classifier', accepted") as error:
            registry.roll_back()
        return str(error.value)

    assert refused().endswith("; the store has none (--name)")
    store.client.create_registered_model(NAME)
    assert "has no champion yet: `fm-mlflow register` promotes a model" in refused()
    registry.promote(*new_version(store), None)
    assert "is version 1, and no version is marked as the one before it" in refused()
    with pytest.raises(InputError, match=r"there are classifier \(--name\); did you mean"):
        Registry("clasifier").roll_back()
    registry.promote(*new_version(store), 1)
    assert registry.roll_back() == Aliases(champion=1, previous=2)
    assert registry.roll_back() == Aliases(champion=2, previous=1)


def files(folder: Path, content: str) -> str:
    """A folder of two files, and the digest of what is in it."""
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}")
    (folder / "data" / "model.keras").write_text(content)
    return ModelFiles.of(folder).digest


@pytest.mark.parametrize("where", ["store", "server"])
def test_a_version_gets_the_alias_with_the_files_that_were_verified(
    where: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    shared: Store = request.getfixturevalue(where)
    name, other = "verified", {str(keys.MODEL_DIGEST): "0" * 64}
    with active_store(shared):
        registry = Registry(name)
        uri, card, evidence = new_version(shared)
        evidence[keys.MODEL_DIGEST] = files(tmp_path / "model", "weights")
        shared.client.log_model_artifacts(uri[8:], str(tmp_path / "model"))
        with pytest.raises(ModelChangedError, match=f"^the files of version 1 of {name} are not"):
            registry.promote(uri, card, {**evidence, **other}, None)
        assert registry.versions() == []
        version, is_new = registry.promote(uri, card, evidence, None)
        assert (version.aliases, is_new, version.tags) == (("champion",), True, evidence)
        loaded = fetch_model(f"models:/{name}@champion", tmp_path / "loaded")
        check_fetched(loaded)
        (loaded / "data" / "another").touch()
        with pytest.raises(ModelChangedError, match=r"have the digest .{12}, not"):
            check_fetched(loaded)


def test_a_version_whose_files_changed_keeps_its_evidence(store: Store, tmp_path: Path) -> None:
    registry = Registry(NAME)
    uri, card, evidence = new_version(store)
    evidence[keys.MODEL_DIGEST] = files(tmp_path / "verified", "weights")
    store.client.log_model_artifacts(uri[8:], str(tmp_path / "verified"))
    registry.promote(uri, card, evidence, None)
    registry.promote(*new_version(store), 1)
    (tmp_path / "verified" / "data" / "another").write_text("evil")
    store.client.log_model_artifacts(uri[8:], str(tmp_path / "verified"))
    better = {**evidence, str(keys.TEST_ACCURACY): "0.99"}
    with pytest.raises(ModelChangedError, match=r"have the digest .{12}, not .{12}; `fm-mlflow"):
        registry.promote(uri, "", better, 2)
    with pytest.raises(ModelChangedError):
        registry.roll_back()
    assert registry.aliases() == Aliases(champion=2, previous=1)
    assert registry.versions()[1].tags == evidence
    assert store.client.get_registered_model(NAME).tags == {}


def test_compiled_python_is_no_file_of_a_model_and_never_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    digest = files(folder, "weights")
    (folder / "code" / "__pycache__").mkdir(parents=True)
    (folder / "code" / "__pycache__" / "evil.cpython-311.pyc").write_bytes(b"")
    fetched = fetch_model(str(folder), tmp_path / "fetched")
    assert ModelFiles.of(fetched).digest == digest
    (fetched / "data" / "link").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="data/link is no regular file"):
        ModelFiles.of(fetched)


def test_a_turn_that_somebody_never_ended_does_not_block_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "ABANDONED_SECONDS", 0.2)
    store.client.create_registered_model(NAME)
    store.client.set_registered_model_tag(NAME, f"{keys.PROMOTING}.gone", "another-host")
    registry = Registry(NAME)
    registry.promote(*new_version(store), None)
    assert registry.aliases().champion == 1
    assert store.client.get_registered_model(NAME).tags == {}


def test_a_turn_whose_process_was_killed_here_blocks_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_SECONDS", 1.0)
    where, _, start = mark().split("-")
    killed = f"this-host {where}-{2**22 + 1}-{start}"
    store.client.create_registered_model(NAME)
    for flag in ("first", "second"):
        store.client.set_registered_model_tag(NAME, f"{keys.PROMOTING}.{flag}", killed)
    Registry(NAME).promote(*new_version(store), None)
    assert store.client.get_registered_model(NAME).tags == {}
    lasting = {f"{keys.PROMOTING}.ours": f"this-host {mark()}", f"{keys.PROMOTING}.old": "host"}
    lasting[f"{keys.PROMOTING}.odd"] = f"this-host {where}-{'9' * 4400}-1"
    for flag, value in {**lasting, f"{keys.PROMOTING}.third": killed}.items():
        store.client.set_registered_model_tag(NAME, flag, value)
    Registry(NAME).end_abandoned_turns()
    assert store.client.get_registered_model(NAME).tags == lasting


def race(folder: Path, models: list[str]) -> None:
    """Promote models of one's own, a round each, when both processes saw the same champion."""
    registry = Registry(NAME)

    def wait_for_both(done: str, number: int) -> None:
        (folder / f"{models[number][8:]}.{done}").touch()
        wait_for(lambda: len(list(folder.glob(f"*.{done}"))) >= 2 * (number + 1), "the other")

    for number, uri in enumerate(models):
        champion = registry.aliases().champion
        wait_for_both("ready", number)
        with suppress(ChampionChangedError):
            registry.promote(uri, "", {}, champion)
            (folder / f"{uri[8:]}.won").touch()
        wait_for_both("done", number)


@pytest.mark.parametrize("where", ["store", "server"])
def test_of_two_promotions_at_once_one_wins(
    where: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    shared: Store = request.getfixturevalue(where)
    rounds = 3
    with active_store(shared):
        models = [[logged_model(shared) for _ in range(rounds)] for _ in range(2)]
        outputs = [tmp_path / "one.log", tmp_path / "two.log"]
        processes = [
            forked.start(race, tmp_path, own, environment=shared.environment(), output=output)
            for own, output in zip(models, outputs, strict=True)
        ]
        for process, output in zip(processes, outputs, strict=True):
            process.wait(START_SECONDS)
            assert process.returncode == 0, output.read_text()
        for both in zip(*models, strict=True):
            assert sum((tmp_path / f"{uri[8:]}.won").exists() for uri in both) == 1
        registry = Registry(NAME)
        # The losers left nothing behind.
        assert [each.version for each in registry.versions()] == list(range(rounds, 0, -1))
        assert registry.aliases() == Aliases(champion=rounds, previous=rounds - 1)


def test_a_store_without_a_registry_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "get_registry_uri", lambda: "ftp://nowhere")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "ftp://nowhere")
    with pytest.raises(TrackingError, match="there is no model registry at ftp://nowhere; use a"):
        Registry(NAME).versions()
