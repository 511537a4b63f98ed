"""From real stores of regressions, ours and of others, to a report by the metric asked for."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from fm_mlflow import ComparisonError, GateError, InputError, compare, keys, register
from fm_mlflow.listeners import ProgressListener
from tests.processes import command_in_this_process
from tests.simulated import Simulated, log_regression, log_run
from tests.stores import Store, active_store, make_store


@pytest.fixture(scope="module")
def regressions(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two models of five seeds, whose runs are ours, and a third of other software."""
    made = make_store(store_template, tmp_path_factory.mktemp("regressions"))
    for seed in range(5):
        log_regression(made.client, "ridge", seed, 1.0)
        log_regression(made.client, "lasso", seed, 1.5)
    for seed in range(3):
        log_regression(made.client, "theirs", seed, 3.0, foreign=True)
    return made


@pytest.fixture
def active(regressions: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    with active_store(regressions):
        yield regressions


@pytest.mark.parametrize("metric", ["test_mae", "test_rmse", "test_loss", "val_mae"])
def test_errors_are_compared_by_seeds_and_examples(active: Store, metric: str) -> None:
    comparison = compare(metric=metric, models="ridge,lasso").comparison
    assert comparison.best.model == "ridge"
    verdict = comparison.verdicts[0]
    assert (verdict.metric, verdict.verdict) == (metric, "a_better")
    assert verdict.interval == "over seeds and test examples, both resampled"
    document = json.loads(Path("comparison/comparison.json").read_text())
    assert document["objective"] == {
        "example": "example",
        "metric": metric,
        "smaller_is_better": True,
        "known_by": "by its name",
        "contradicts": False,
    }
    assert document["target_accuracy"] is None
    run = active.client.get_run(document_run(active))
    assert run.data.params["metric"] == metric


def document_run(store: Store) -> str:
    found = store.client.search_runs(
        ["0"], f"tags.`{keys.KIND}` = '{keys.KIND_COMPARISON}'", max_results=1
    )
    return str(found[0].info.run_id)


def test_runs_of_others_compare_where_they_have_the_metric(active: Store) -> None:
    comparison = compare(metric="test_mae").comparison
    assert {group.model for group in comparison.groups} == {"ridge", "lasso", "theirs"}
    # On data that they do not say: beside those of most runs.
    assert [group.name for group in comparison.groups if not group.ranked] == ["theirs"]
    alone = compare(metric="test_mae", models="theirs").comparison
    assert alone.best.model == "theirs"
    assert sum("measured any cost" in warning for warning in alone.warnings) == 1


def test_the_best_run_of_other_software_is_not_registered(active: Store) -> None:
    with pytest.raises(GateError, match="was logged by other software") as refused:
        register(metric="test_mae", models="theirs")
    assert refused.value.exit_code == 3
    assert active.client.search_registered_models() == []


def test_a_target_is_one_of_the_metric(active: Store) -> None:
    comparison = compare(metric="test_mae", models="ridge,lasso").comparison
    assert comparison.target is not None
    assert all(each.reached == each.runs == 5 for each in comparison.targets)
    (first, _) = compare(metric="test_mae", models="ridge,lasso", target=0.01).comparison.targets
    assert (first.reached, first.runs) == (0, 5)


@pytest.mark.parametrize(
    ("metric", "suggested"),
    [
        ("test_mea", "test_mae (13 runs), "),
        ("test_accuracy", "test_mae (13 runs), test_rmse (13 runs), test_loss (13 runs)"),
        ("[red]", "test_mae (13 runs), test_rmse (13 runs), test_loss (13 runs), val_mae (13"),
    ],
)
def test_a_metric_of_no_run_names_those_that_there_are(
    active: Store, metric: str, suggested: str
) -> None:
    code, _, err = command_in_this_process("compare", "--metric", metric)
    assert code == 2
    last = err.splitlines()[-1]
    assert f"metric: received '{metric}', accepted: a metric that these runs have: " in last
    assert suggested in last
    assert "parameters/trainable" not in last
    assert ", mae (" not in last  # of the training data
    assert not Path("comparison").exists()


def test_a_metric_of_the_training_data_decides_nothing(active: Store) -> None:
    says = "mae is of the training data; of other data these runs have: test_mae .13 runs., val_"
    with pytest.raises(InputError, match=says):
        compare(metric="mae")
    with pytest.raises(InputError, match="mae is of the training data"):
        register(metric="mae")
    run_id = active.client.search_runs(["0"], f"tags.`{keys.MODEL}` = 'ridge'")[0].info.run_id
    with pytest.raises(InputError, match="its mae is of the data that it was trained on; it has"):
        register(run_id=run_id, metric="mae")


def test_a_metric_that_does_not_say_of_what_data_is_a_warning(store: Store) -> None:
    for run_id in [log_regression(store.client, "ridge", seed, 1.0) for seed in range(2)]:
        store.client.log_metric(run_id, "score", 0.5)
    (warning,) = (w for w in compare(metric="score").comparison.warnings if "score" in w[:20])
    assert warning.startswith("The name of score does not say on what data it was measured")


def test_training_losses_alone_are_not_suggested(store: Store) -> None:
    run_id = store.client.create_run("0").info.run_id
    for name, value in ((keys.KIND, keys.KIND_TRAINING), (keys.VERSION, "1")):
        store.client.set_tag(run_id, name, value)
    for name in (keys.LOSS, keys.ACCURACY, keys.FIT_SECONDS):
        store.client.log_metric(run_id, name, 0.5)
    store.client.set_terminated(run_id)
    for metric in (None, "loss", "test_mae"):
        with pytest.raises(ComparisonError, match="training data: give the fit validation_data"):
            compare(**({"metric": metric} if metric else {}))  # type: ignore[arg-type]


class Hears(ProgressListener):
    def __init__(self) -> None:
        self.notices: list[str] = []

    @override
    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_runs_of_one_metric_are_compared_by_it(store: Store) -> None:
    client = store.client
    run_id = log_regression(client, "ridge", 0, 1.0)
    with pytest.raises(InputError, match=r"test_rmse \(1 run\).*; --metric test_mae compares by"):
        compare()
    with closing(sqlite3.connect(store.folder / "mlflow.db")) as database, database:
        database.execute("DELETE FROM latest_metrics WHERE key = 'test_rmse'")
    hears = Hears()
    result = compare(progress=hears)
    assert result.comparison.objective.metric == "test_mae"
    assert hears.notices == ["no run has test_accuracy; all that have test_mae are compared by it"]
    assert client.get_run(result.run_id).data.params["metric"] == "test_mae"
    with pytest.raises(InputError, match="a metric that these runs have: test_mae"):
        compare(metric="test_accuracy")
    code, _, err = command_in_this_process("compare", "--metric", "test_accuracy")
    assert (code, "a metric that these runs have: test_mae" in err) == (2, True)
    with pytest.raises(InputError, match="a metric that these runs have: test_mae"):
        register()  # a promotion is decided by what somebody says

    log_run(client, Simulated("mlp", 0))
    mixed = compare().comparison
    assert mixed.objective.metric == keys.TEST_ACCURACY
    assert [(run.run_id, run.reason) for run in mixed.skipped] == [
        (run_id, "it has no test_accuracy; --metric test_mae compares such runs")
    ]


def test_without_a_run_the_metric_is_not_to_blame(active: Store) -> None:
    code, _, err = command_in_this_process("compare", "--metric", "test_mae", "--models", "lass")
    assert code == 2
    assert "models: received 'lass', accepted: models of these runs: " in err
    assert err.endswith("; did you mean 'lasso'?\n")


def test_the_command_says_direction_and_what_comes_next(active: Store) -> None:
    code, out, err = command_in_this_process(
        *("compare", "--metric", "test_mae", "--smaller_is_better", "--models", "ridge,lasso")
    )
    assert code == 0, err
    assert "Compared by: test_mae, the last value that each run logged; less is better, as" in out
    assert "has no logged model to register: `fm-mlflow train` logs" in " ".join(out.split())
    code, _, err = command_in_this_process("compare", "--metric", "latency/p50_ms")
    assert code == 2
    assert "a metric that is no cost" in err


def test_the_last_value_counts_and_one_that_is_no_number_does_not(store: Store) -> None:
    for seed in range(3):
        log_regression(store.client, "ridge", seed, 1.0)
    broken = log_regression(store.client, "ridge", 3, 1.0)
    store.client.log_metric(broken, "val_mae", float("nan"), timestamp=5000, step=9)
    comparison = compare(metric="val_mae").comparison
    (group,) = comparison.groups
    assert group.metrics["val_mae"].mean == pytest.approx(group.metrics["test_mae"].mean)
    assert [run.reason for run in comparison.skipped] == ["its val_mae is not a finite number"]


def test_the_loss_of_classes_is_compared_by_their_probabilities(store: Store) -> None:
    for seed in range(2):
        log_run(store.client, Simulated("mlp", seed))
    # Certain and wrong: its loss is infinite or cut, and what was logged is neither.
    warnings = compare(metric="test_loss").comparison.warnings
    (said,) = (each for each in warnings if each.startswith("2 runs logged"))
    assert said.startswith("2 runs logged test_loss that the stored predictions do not give")
    with pytest.raises(InputError, match="test_loss"):
        compare(metric="test_los")
