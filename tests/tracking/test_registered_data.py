"""A registered model belongs to one data set: in a real registry, whoever made it."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.entities import LoggedModelStatus

from fm_mlflow import keys, list_versions, rollback
from fm_mlflow.analysis.records import DataSet
from fm_mlflow.errors import InputError
from fm_mlflow.results.register import GateError, RegisteredVersion
from fm_mlflow.tracking import turns
from fm_mlflow.tracking.aliases import Aliases
from fm_mlflow.tracking.registered_data import OtherDataSetError, to_tags
from fm_mlflow.tracking.registry import Registry
from tests.hostile import HOSTILE
from tests.simulated import Simulated, log_run
from tests.stores import Store

NAME = "classifier"
DIGITS, FASHION = DataSet("digits", "0" * 64), DataSet("fashion_mnist", "f" * 64)
REFUSED = (
    r"not promoted: classifier belongs to another data set: digits, data 00000000; this model is "
    r"of fashion_mnist, data ffffffff; --name gives another registered model"
)


def logged_model(store: Store, data: DataSet | None = None) -> tuple[str, str]:
    """Log a model without files, of a training on a data set or of nothing known."""
    if data is None:
        run_id = store.client.create_run("0").info.run_id
    else:
        training = Simulated(
            tags={keys.DATASET_DIGEST: data.digest or ""},
            params={"dataset": data.name},
            predictions=False,
        )
        run_id = log_run(store.client, training)
    model = store.client.create_logged_model("0", name="model", source_run_id=run_id)
    store.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return f"models:/{model.model_id}", run_id


def promote(store: Store, data: DataSet, expected: int | None, name: str = NAME) -> int:
    uri, _ = logged_model(store)
    version, _ = Registry(name).promote(uri, "", to_tags(data), expected)
    return version.version


def by_hand(
    store: Store, data: DataSet | None = None, tags: dict[str, str] | None = None
) -> RegisteredVersion:
    """Make a version as MLflow alone makes it, in a registered model without a data set."""
    if not Registry(NAME).versions():
        store.client.create_registered_model(NAME)
    uri, run_id = logged_model(store, data)
    store.client.create_model_version(NAME, uri, run_id, tags=tags)
    return Registry(NAME).versions()[0]


def everything(store: Store) -> tuple[Any, ...]:
    model = store.client.get_registered_model(NAME)
    return model.tags, model.aliases, model.description, Registry(NAME).versions()


def test_the_first_promotion_decides_and_another_data_set_changes_nothing(store: Store) -> None:
    registry = Registry(NAME)
    assert registry.data_set() == (None, "")
    promote(store, DIGITS, None)
    assert registry.data_set() == (DIGITS, "")
    assert store.client.get_registered_model(NAME).tags == to_tags(DIGITS)
    about = str(store.client.get_registered_model(NAME).description)
    assert about.endswith("All are of the data set digits, data 00000000.")
    before = everything(store)
    with pytest.raises(OtherDataSetError, match=REFUSED) as refused:
        registry.check_data_set(FASHION)
    assert refused.value.exit_code == 3
    with pytest.raises(OtherDataSetError, match=REFUSED):
        promote(store, FASHION, 1)
    with pytest.raises(OtherDataSetError, match=r"digits, data 00000000; .* digits, data 11111111"):
        registry.check_data_set(DataSet("digits", "1" * 64))
    assert everything(store) == before
    renamed = DataSet("my digits", DIGITS.digest)  # the contents decide
    assert registry.check_data_set(renamed) == ""
    assert promote(store, renamed, 1) == 2
    assert registry.data_set() == (DIGITS, "")
    store.client.rename_registered_model(NAME, "another")
    assert Registry("another").data_set() == (DIGITS, "")


def test_of_two_first_promotions_at_once_the_data_set_of_one_wins(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = turns.wait

    def wait_longer(*arguments: Any) -> None:
        monkeypatch.setattr(turns, "wait", wait)
        promote(store, DIGITS, None)  # the other one, which checked at the same moment
        wait(*arguments)

    assert Registry(NAME).check_data_set(FASHION) == Registry(NAME).check_data_set(DIGITS) == ""
    monkeypatch.setattr(turns, "wait", wait_longer)
    with pytest.raises(OtherDataSetError, match=REFUSED):
        promote(store, FASHION, None)
    assert Registry(NAME).aliases() == Aliases(champion=1, previous=None)
    (only,) = Registry(NAME).versions()
    assert only.tags == to_tags(DIGITS)
    assert store.client.get_registered_model(NAME).tags == to_tags(DIGITS)


def test_a_promotion_that_died_before_its_alias_has_decided(store: Store) -> None:
    store.client.create_registered_model(NAME, tags=to_tags(DIGITS))
    with pytest.raises(OtherDataSetError, match=REFUSED):
        promote(store, FASHION, None)
    assert Registry(NAME).versions() == []


@pytest.mark.parametrize("evidence", [True, False])
def test_without_a_tag_the_champion_decides(store: Store, evidence: bool) -> None:
    # As earlier versions promoted: the digest on the version, the name on its run alone.
    tags = {str(keys.DATASET_DIGEST): str(DIGITS.digest)} if evidence else None
    by_hand(store, DIGITS, tags)
    by_hand(store, FASHION)
    registry = Registry(NAME)
    assert registry.data_set()[0] == FASHION  # the latest, as long as there is no champion
    store.client.set_registered_model_alias(NAME, "champion", "1")
    words = "classifier has no record of its data set; version 1 has"
    assert registry.data_set() == (DIGITS, words)
    with pytest.raises(OtherDataSetError, match=REFUSED):
        registry.check_data_set(FASHION)
    assert registry.check_data_set(DIGITS) == words
    promote(store, DIGITS, 1)
    assert registry.data_set() == (DIGITS, "")


def test_the_evidence_remains_when_the_run_is_gone(store: Store) -> None:
    version = by_hand(store, DIGITS, {str(keys.DATASET_DIGEST): str(DIGITS.digest)})
    store.client.delete_run(str(version.run_id))
    data, _ = Registry(NAME).data_set()
    assert data == DataSet("", DIGITS.digest)
    with pytest.raises(OtherDataSetError, match="another data set: data 00000000; this model is"):
        Registry(NAME).check_data_set(FASHION)


def test_where_no_version_knows_the_first_promotion_decides(store: Store) -> None:
    by_hand(store)
    words = "classifier has no record of its data set; its first promotion decides"
    assert Registry(NAME).check_data_set(DIGITS) == words
    promote(store, DIGITS, None)
    assert Registry(NAME).data_set() == (DIGITS, "")


def test_a_name_that_somebody_chose_counts_until_the_contents_are_known(store: Store) -> None:
    store.client.create_registered_model(NAME, tags={keys.DATASET: "digits"}, description="Mine.")
    with pytest.raises(OtherDataSetError, match="another data set: digits; this model is of fash"):
        Registry(NAME).check_data_set(FASHION)
    promote(store, DIGITS, None)
    assert Registry(NAME).data_set() == (DIGITS, "")
    assert store.client.get_registered_model(NAME).description == "Mine."


@pytest.mark.parametrize("evidence", [True, False])
def test_no_way_back_to_a_version_of_another_data_set(store: Store, evidence: bool) -> None:
    by_hand(store, **({"tags": to_tags(FASHION)} if evidence else {"data": FASHION}))
    store.client.set_registered_model_alias(NAME, "previous", "1")
    store.client.set_registered_model_tag(NAME, keys.DATASET, "digits")
    before = everything(store)
    with pytest.raises(GateError, match=r"another data set: digits; version 1 is of fashion_mnist"):
        rollback(name=NAME)
    assert everything(store) == before


def test_hostile_tags_are_bounded_and_stay_on_one_line(store: Store) -> None:
    name, digest = HOSTILE + "x" * 4000, HOSTILE + "9" * 4000
    store.client.create_registered_model(
        NAME, tags={keys.DATASET: name, keys.DATASET_DIGEST: digest}
    )
    with pytest.raises(OtherDataSetError) as refused:
        Registry(NAME).check_data_set(FASHION)
    assert len(str(refused.value)) < 1000
    assert str(refused.value).isprintable()


def test_which_registered_model_is_meant_without_its_name(store: Store) -> None:
    assert list_versions().name == "fashion-mnist-classifier"
    promote(store, DIGITS, None, "a")
    listed = list_versions()
    assert (listed.name, listed.dataset, listed.dataset_digest) == ("a", "digits", DIGITS.digest)
    promote(store, FASHION, None, "b")
    for ask in (list_versions, rollback):
        with pytest.raises(InputError, match=r"^name: received '', accepted: one of a, b$"):
            ask()
        with pytest.raises(
            InputError, match=r"^dataset: received 'x', .* model: digits, fashion_m"
        ):
            ask(dataset="x")
    assert [list_versions(dataset=each).name for each in ("digits", "f" * 8)] == ["a", "b"]
    promote(store, FASHION, 1, "b")
    swapped = rollback(dataset="fashion_mnist")
    assert (swapped.name, swapped.dataset, swapped.champion) == ("b", "fashion_mnist", 1)
