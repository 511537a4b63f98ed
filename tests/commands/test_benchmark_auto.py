"""As many seeds as the decision needs: rounds, what ends them, the same after an interruption."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from fm_mlflow import BenchmarkError, Interrupted, benchmark, compare, keys
from fm_mlflow.analysis import examples
from fm_mlflow.analysis.comparison import Verdict
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.records import RunDetails, TrainingRun
from fm_mlflow.commands.compare import choose
from fm_mlflow.errors import InputError
from fm_mlflow.jobs import seed_rounds
from fm_mlflow.registration.benchmark_runs import candidates
from fm_mlflow.results.benchmark import BenchmarkResult
from fm_mlflow.settings.registered import RegisterConfig
from fm_mlflow.tracking.run_details import load_details
from tests.cluster import Cluster
from tests.stores import Store

SETTINGS: dict[str, Any] = {
    "models": "mlp,cnn",
    "dataset": "digits",
    "output": "out",
    "seeds": "auto",
}
CLOSE = {"mlp": 0.87, "cnn": 0.87}


def seeds_of(result: BenchmarkResult) -> dict[str, set[int]]:
    return {
        model: {each.seed for each in result.trainings if each.model == model}
        for model in ("mlp", "cnn")
    }


def both(seeds: range) -> dict[str, set[int]]:
    return {"mlp": set(seeds), "cnn": set(seeds)}


def verdict_of(result: BenchmarkResult) -> Verdict:
    assert result.comparison is not None
    return result.comparison.comparison.verdicts[0]


def test_a_clear_difference_takes_few_seeds(store: Store) -> None:
    cluster = Cluster(accuracies={"mlp": 0.80, "cnn": 0.90})
    result = benchmark(**SETTINGS, executor=cluster)
    verdict = verdict_of(result)
    assert (verdict.a, verdict.verdict) == ("cnn", "a_better")
    assert verdict.looked_at_seeds is not None
    assert seeds_of(result) == both(range(verdict.looked_at_seeds))
    assert verdict.looked_at_seeds <= 5
    assert any("Looks at 3, 4, 5" in sentence for sentence in result.forecast)
    assert "At most 40 trainings" in result.forecast[-1]

    for run_id in (result.run_id, *(each.run_id for each in result.trainings)):
        design = store.client.get_run(run_id).data.tags[keys.DESIGN]
        assert '"max_seeds":20' in design
    # Whoever compares these runs later gets the design's verdict.
    children = f"tags.`mlflow.parentRunId` = '{result.run_id}'"
    again = compare(filter=children, output="again").comparison.verdicts[0]
    assert again == verdict
    _, choice = candidates(RegisterConfig(benchmark=result.run_id))
    assert result.comparison is not None
    assert choose(choice)[0].run_id == result.comparison.comparison.best.run_id
    # With one run of another origin the groups are no longer what the design decided on.
    others = Cluster()
    fixed = benchmark(**{**SETTINGS, "seeds": 6}, executor=others)
    assert verdict_of(fixed).test == "exact permutation test"


def test_close_models_take_all_seeds_and_it_says_what_would_settle_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int | None] = []

    def load(runs: list[TrainingRun], objective: Objective) -> dict[str, RunDetails]:
        read.extend(run.seed for run in runs)
        return load_details(runs, objective)

    monkeypatch.setattr(seed_rounds, "load_details", load)
    monkeypatch.setattr(examples, "MOST_READ", 3)
    result = benchmark(**SETTINGS, max_seeds=4, executor=Cluster(accuracies=CLOSE))
    assert seeds_of(result) == both(range(4))
    assert sorted(map(str, read)) == ["0", "0", "1", "1", "2", "2"]  # as the comparison reads
    verdict = verdict_of(result)
    assert verdict.verdict == "not_distinguishable"
    assert "more seeds would probably" in verdict.words or "seeds of each would" in verdict.words


def test_a_wide_margin_makes_them_equivalent_and_the_cheapest_is_taken(store: Store) -> None:
    result = benchmark(**SETTINGS, margin=0.1, executor=Cluster(accuracies=CLOSE))
    verdict = verdict_of(result)
    assert verdict.verdict == "equivalent"
    assert "equivalent within 10 points" in verdict.words
    assert len(result.trainings) < 40
    assert result.comparison is not None
    assert result.comparison.comparison.best.model == "mlp"
    assert "equivalent to" in result.comparison.comparison.best.reason
    report = Path(result.comparison.files["report.md"]).read_text()
    assert "equivalent to cnn in accuracy" in report


def test_interrupted_anywhere_it_decides_the_same(store: Store) -> None:
    settings = {**SETTINGS, "max_seeds": 5}
    accuracies = {"mlp": 0.88, "cnn": 0.90}
    undisturbed = benchmark(**settings, executor=Cluster(accuracies=accuracies))
    at = random.Random(1).randrange(1, len(undisturbed.trainings))
    with pytest.raises(Interrupted) as stop:
        benchmark(**settings, executor=Cluster(interrupt_after=at, accuracies=accuracies))
    run_id = stop.value.advice.split("--resume ")[1].split()[0]
    resumed = benchmark(resume=run_id, output="out", executor=Cluster(accuracies=accuracies))
    assert seeds_of(resumed) == seeds_of(undisturbed)
    assert verdict_of(resumed) == verdict_of(undisturbed)


def test_models_with_arguments_and_settings_are_decided_between(store: Store) -> None:
    models = {"mlp": 0.80, "mlp?hidden=64,32": 0.90, "mlp?hidden=64,32#learning_rate=0.01": 0.86}
    settings = {**SETTINGS, "models": ",".join(models), "max_seeds": 6}
    with pytest.raises(Interrupted) as stop:
        benchmark(**settings, executor=Cluster(interrupt_after=4, accuracies=models))
    run_id = stop.value.advice.split("--resume ")[1].split()[0]
    result = benchmark(resume=run_id, output="out", executor=Cluster(accuracies=models))
    assert result.comparison is not None
    comparison = result.comparison.comparison
    verdicts = [v for v in comparison.verdicts if v.metric == keys.TEST_ACCURACY]
    assert len(verdicts) == 3
    assert all(verdict.looked_at_seeds for verdict in verdicts)
    assert {verdict.verdict for verdict in verdicts} <= {"a_better", "b_better"}
    assert comparison.best.model == "mlp (learning_rate 0.001, hidden 64,32)"
    told = {
        store.client.get_run(each.run_id).data.tags[keys.DESIGN_MODEL] for each in result.trainings
    }
    assert told == set(models)


def test_a_failure_ends_the_rounds_and_is_repeated(store: Store) -> None:
    cluster = Cluster({("mlp", 1): "fails"})
    with pytest.raises(BenchmarkError, match="1 of 6 trainings failed") as failure:
        benchmark(**SETTINGS, executor=cluster)
    assert "not compared yet" in verdict_of(failure.value.result).words
    resumed = benchmark(resume=failure.value.result.run_id, output="out", executor=Cluster())
    assert verdict_of(resumed).looked_at_seeds is not None


@pytest.mark.parametrize(
    ("settings", "parameter"),
    [
        ({"seeds": "many"}, "seeds"),
        ({"seeds": "auto", "models": "mlp"}, "seeds"),
        ({"seeds": "auto", "max_seeds": 2}, "max_seeds"),
        ({"seeds": 5, "max_seeds": 10}, "max_seeds"),
        ({"seeds": 5, "alpha": 0.01}, "alpha"),
        ({"seeds": "auto", "margin": 0}, "margin"),
        ({"seeds": "auto", "models": "cnn,cnn?filters=16,32"}, "models"),
        ({"models": "cnn,cnn#learning_rate=0.003", "learning_rate": 0.003}, "models"),
        ({"models": f"mlp,mlp?hidden={'1' * 1000}"}, "models"),
        ({"models": ",".join(f"mlp?hidden={n}" for n in range(1, 400))}, "models"),
    ],
)
def test_what_cannot_be_is_refused(store: Store, settings: dict[str, Any], parameter: str) -> None:
    with pytest.raises(InputError) as refused:
        benchmark(**{**SETTINGS, **settings}, executor=Cluster())
    assert refused.value.parameter == parameter
    assert store.client.search_runs(["0"]) == []
