"""Models of a script's own in the registry: by any metric, verified as far as that goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import fm_mlflow
from fm_mlflow import GateError, InputError, keys, register
from fm_mlflow.process.temporary import mark
from fm_mlflow.registration import checks
from tests.quick_costs import quick_costs as quick_costs  # a fixture
from tests.scripts.nets import LABELS, X, Y, classifier, regression, two_by_two
from tests.stores import Store, active_store, copy_store, make_store
from tests.verified import run_in_this_process

NAME = "made-up-model"
DATA = {"training": (X[:80], Y[:80]), "test": (X[80:], Y[80:])}


@dataclass(frozen=True)
class Tracked:
    """A store of a regression that was trained well, another poorly, and of classes."""

    store: Store
    good: str
    poor: str
    classes: str


def tracked(name: str, epochs: int, measure: str) -> str:
    with fm_mlflow.track(name, seed=0, dataset="made up", data=DATA, measure=measure) as run:
        model = regression()
        model.fit(X[:80], Y[:80], epochs=epochs, batch_size=8, verbose=0, callbacks=[run.costs])
        run.evaluate(model, X[80:], Y[80:])
        run.log_model(model, X[80:88])
        return str(run.run.run_id)


@pytest.fixture(scope="module")
def originals(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    made = make_store(store_template, tmp_path_factory.mktemp("own"))
    with active_store(made):
        good, poor = tracked("good", 20, "flops"), tracked("poor", 1, "none")
        with fm_mlflow.track("classes", seed=0, dataset="labels", measure="none") as run:
            model = classifier()
            model.fit(X, LABELS, verbose=0)
            run.evaluate(model, X, LABELS)
            run.log_model(model, X[:8])
            classes = str(run.run.run_id)
    return Tracked(made, good, poor, classes)


@pytest.fixture
def own(originals: Tracked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracked]:
    """A copy of the store, and no fresh process, which spends 6 s on importing TensorFlow."""
    monkeypatch.setattr(checks, "run_confined", run_in_this_process)
    monkeypatch.chdir(tmp_path)
    with active_store(copy_store(originals.store, tmp_path)) as made:
        yield Tracked(made, originals.good, originals.poor, originals.classes)


def test_the_best_by_its_error_is_promoted_and_what_was_not_verified_is_said(own: Tracked) -> None:
    done = register(metric="test_mae", min_metric=1.0)
    assert (done.name, done.outcome, done.champion) == (NAME, "registered", 1)
    assert done.run_id == own.good
    assert (done.metric, done.direction) == ("test_mae", "lower")
    by_figure = {check.figure: check for check in done.checks}
    mae = by_figure["test_mae"]
    assert mae.passed
    assert mae.by == "run"
    assert isinstance(mae.measured, float)
    assert mae.measured == pytest.approx(mae.logged, rel=1e-5)
    assert mae.rule.endswith("its test data are not here")
    assert keys.TEST_ACCURACY not in by_figure
    assert (by_figure["test set"].measured, by_figure["test set"].passed) == ("not here", None)
    for figure in ("model files", keys.PARAMETERS_TRAINABLE, "signature"):
        assert by_figure[figure].passed, by_figure[figure]
    assert by_figure[keys.FLOPS_INFERENCE].passed
    version = own.store.client.get_model_version(NAME, "1")
    assert float(version.tags["test_mae"]) == mae.logged
    assert "Not verified: that this model, rather than another" in str(version.description)
    assert own.store.client.get_registered_model(NAME).tags[keys.METRIC] == "test_mae"
    listed = fm_mlflow.list_versions(name=NAME)
    assert listed.versions[0].figure("test_mae") == mae.logged

    where, _, start = mark().split("-")
    flag = f"{keys.PROMOTING}.killed"
    killed = f"here {where}-{2**22 + 1}-{start}"
    own.store.client.set_registered_model_tag(NAME, flag, killed)
    again = register(metric="test_mae", dry_run=True)
    assert again.outcome == "unchanged"
    assert own.store.client.get_registered_model(NAME).tags[flag] == killed  # nothing is written
    with pytest.raises(GateError, match=r"test_mae v version 1: .*required: not above it by more"):
        register(metric="test_mae", run_id=own.poor)
    with pytest.raises(GateError, match=r"by test_mae \(lower is better\); this is by test_loss"):
        register(metric="test_loss")
    assert own.store.client.get_registered_model(NAME).aliases == {"champion": 1}


def test_a_model_of_several_inputs_and_outputs_is_registered(own: Tracked) -> None:
    model, inputs, targets = two_by_two()
    with fm_mlflow.track("two", seed=0, dataset="both", measure="flops", quiet=True) as run:
        model.fit(inputs, targets, verbose=0, callbacks=[run.costs])
        run.evaluate(model, inputs, targets)
        run.log_model(model, {name: part[:8] for name, part in inputs.items()})
    done = register(metric="test_price_loss", dataset="both")
    assert (done.name, done.outcome) == ("both-model", "registered")
    by_figure = {check.figure: check for check in done.checks}
    signature = by_figure["signature"]
    assert (signature.logged, signature.measured) == ("several inputs", "predicted")
    for figure in ("model files", keys.PARAMETERS_TRAINABLE, keys.FLOPS_INFERENCE):
        assert by_figure[figure].passed, by_figure[figure]


def test_too_large_an_error_is_refused(own: Tracked) -> None:
    told = r"test_mae \(--min-metric\): .*, required: at most 1e-06; no other run keeps the bounds"
    with pytest.raises(GateError, match=told) as refused:
        register(metric="test_mae", min_metric=1e-6)
    assert refused.value.exit_code == 3
    assert own.store.client.search_registered_models() == []


def test_a_run_that_would_pass_is_named_but_not_chosen_for_its_test_score(own: Tracked) -> None:
    # Of two seeds, the one that validates better is chosen; the bound lies between their scores.
    scores = {}
    for seed, (test, validation) in enumerate([(0.4, 0.1), (0.2, 0.3)]):
        with fm_mlflow.track("seeds", seed=seed, dataset="s", measure="none", quiet=True) as run:
            with run.epoch() as metrics:
                metrics.update(loss=1.0, val_mae=validation)
            run.run.set_tags({keys.VALIDATED_ON: keys.HELD_OUT})
            run.run.log_metrics({"test_mae": test})
            run.log_model(regression(), X[:8])
            scores[seed] = run.run_id
    expected = rf"1 run would keep the bounds by what they logged, the best of them {scores[1]} \("
    with pytest.raises(GateError, match=expected) as refused:
        register(metric="test_mae", models="seeds", dataset="s", min_metric=0.3)
    assert refused.value.registration is not None
    assert refused.value.registration.run_id == scores[0]


def test_predictions_that_do_not_give_the_error_are_a_forgery(own: Tracked) -> None:
    own.store.client.log_metric(own.poor, "test_mae", 1e-4)
    with pytest.raises(
        GateError, match=r"test_mae: logged 0\.0001, found .*test data are not here"
    ):
        register(metric="test_mae", run_id=own.poor)
    assert own.store.client.search_registered_models() == []


def test_without_predictions_what_was_logged_decides_and_that_is_said(own: Tracked) -> None:
    (file,) = own.store.folder.rglob(f"{own.poor}/artifacts/{keys.PREDICTIONS_FILE}")
    file.unlink()
    done = register(metric="test_mae", run_id=own.poor, dry_run=True)
    mae = next(check for check in done.checks if check.figure == "test_mae")
    assert (mae.measured, mae.passed) == ("no predictions", None)
    assert mae.rule.endswith("what it logged decides")


def test_a_changed_weight_is_found(own: Tracked) -> None:
    run = own.store.client.get_run(own.poor)
    assert run.outputs is not None
    (output,) = run.outputs.model_outputs
    model = own.store.client.get_logged_model(output.model_id)
    (file,) = Path(model.artifact_location).rglob("*.keras")
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(GateError, match="are not those that its training saved"):
        register(metric="test_mae", run_id=own.poor)


def test_classes_of_a_script_are_promoted_by_their_accuracy(own: Tracked) -> None:
    done = register(run_id=own.classes)
    assert (done.name, done.outcome, done.metric) == (
        *("labels-classifier", "registered"),
        keys.TEST_ACCURACY,
    )
    parameters = next(c for c in done.checks if c.figure == keys.PARAMETERS_TRAINABLE)
    assert (parameters.logged, parameters.measured, parameters.passed) == (None, 39.0, None)
    accuracy = next(check for check in done.checks if check.figure == keys.TEST_ACCURACY)
    assert accuracy.passed
    assert np.isclose(float(accuracy.measured or 0), float(accuracy.logged or 1))
    with pytest.raises(InputError, match="data_dir: received 'here', accepted: nothing: the data"):
        register(run_id=own.classes, data_dir="here")
