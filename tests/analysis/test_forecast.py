"""What seeds can decide and cost, said before there is one; and what models cost to use."""

from __future__ import annotations

from typing import Any

import pytest

from fm_mlflow import keys
from fm_mlflow.analysis.costs import COSTS, differences, incomparable
from fm_mlflow.analysis.forecast import Earlier, earlier, forecast, found_difference
from fm_mlflow.settings.config import BenchmarkConfig
from tests.analysis.simulated import MACHINE, compared, run, runs

IMAGES = 10_000


def sentences(images: int = IMAGES, **settings: Any) -> str:
    return "\n".join(forecast(BenchmarkConfig(**settings), images, Earlier()))


def test_too_few_seeds_are_told_before_they_are_trained() -> None:
    text = sentences(seeds=3)
    assert "3 seeds of each of 2 models cannot show that one is better: p = 0.10 at best" in text
    assert "4 of each could" in text
    five = sentences(seeds=5)
    assert "p = 0.008 at best" in five
    assert "is found in 80% of cases (SD between seeds 0.3 points, assumed; 10,000" in five
    many = sentences(seeds=5, models="mlp,cnn,x:a,x:b,x:c")
    assert "cannot show" in many
    assert "10 pairs" in many


def test_the_difference_that_is_found() -> None:
    # Without images: two groups of 10, SD 0.3 points, two-sided 5%, 80%: 1.325 SD, by tables.
    assert found_difference(0.003, 10, 10**12, 0.05) == pytest.approx(0.003 * 1.325, rel=0.01)
    # The images are a floor that seeds do not lower.
    assert found_difference(0.003, 1000, 300, 0.05) > 0.025


def test_what_no_number_of_seeds_shows() -> None:
    assert "No number of seeds shows" in sentences(seeds="auto", images=300)
    assert "show two equal models in 80% of cases" in sentences(seeds="auto", images=100_000)
    assert "Looks at 3, 4, 5, 6, 8, 10, 13, 17, 20 seeds" in sentences(seeds="auto")


def test_the_cost_is_that_of_earlier_runs_with_these_settings() -> None:
    metrics = {str(keys.FLOPS_TRAINING_TOTAL): 2e12}
    config = {"epochs": "5", "batch_size": "64"}
    shared: dict[str, Any] = {"config": config, "start_time": 1000, "end_time": 61_000}
    mlp = runs("mlp", [0.87, 0.88, 0.89], metrics=metrics, **shared)
    cnn = runs("cnn", [0.89, 0.90, 0.91], metrics=metrics, **shared)
    other = runs("cnn", [0.5, 0.9], **{**shared, "config": {**config, "epochs": "1"}})
    benchmark = BenchmarkConfig(seeds="auto", max_seeds=10)
    known = earlier([*mlp, *cnn, *other[:1]], benchmark, "d" * 64)
    assert known.sd == pytest.approx(0.01)
    assert known.seconds == {"mlp": 60, "cnn": 60}
    text = "\n".join(forecast(benchmark, IMAGES, known))
    assert "SD between seeds 1 points, of 6 earlier runs" in text
    assert "At most 20 trainings: about 20 min by earlier runs; 40.0 TFLOPs" in text
    alone = "\n".join(forecast(benchmark, IMAGES, earlier(mlp, benchmark, "d" * 64)))
    assert "no earlier run with these settings says how long one of cnn takes" in alone
    assert earlier(mlp, benchmark, "other") == Earlier()


def test_numbers_have_no_usual_spread() -> None:
    assert sentences(images=0).startswith("10 trainings")
    assert "points" not in sentences(metric="test_loss")
    assert "points" not in sentences(metric="test_loss", seeds="auto")


def test_core_hours_and_money() -> None:
    metrics = {
        str(keys.THROUGHPUT_INFERENCE): [100_000.0, 101_000.0, 99_000.0],
        str(keys.FIT_SECONDS): [1800.0, 1810.0, 1790.0],
    }
    made = [*runs("a", [0.9] * 3, metrics=metrics), *runs("b", [0.8] * 3)]
    (spent,) = compared(made).expenses
    assert spent.model == "a"
    assert spent.predictions is not None
    # A million at 100,000 a second is 10 s of 2 cores.
    assert spent.predictions.mean == pytest.approx(10 * 2 / 3600)
    assert spent.predictions.low is not None
    assert spent.predictions.high is not None
    assert spent.predictions.low < spent.predictions.mean < spent.predictions.high
    assert spent.training is not None
    assert spent.training.mean == pytest.approx(1.0)
    assert spent.training_price is None
    comparison = compared(made, price_per_core_hour=0.04)
    assert comparison.expenses[0].training_price is not None
    assert comparison.expenses[0].training_price.mean == pytest.approx(0.04)
    answer = comparison.answers[-1].answer
    assert "a: a million predictions take 0.00556 (0.00542 to 0.00570) core-hours" in answer
    assert "which cost 0.0400 (" in answer
    assert "A core-hour costs 0.04." in answer
    elsewhere = runs("a", [0.9] * 3, metrics=metrics, machine={})
    assert compared([*elsewhere, *runs("b", [0.8])]).expenses == ()
    on_gpu = runs("a", [0.9] * 3, metrics=metrics, machine={**MACHINE, "gpus": "1 x Fast"})
    assert compared([*on_gpu, *runs("b", [0.8])]).expenses == ()


def test_a_gpu_makes_another_machine() -> None:
    on_gpu = {**MACHINE, "gpus": "1 x Fast"}
    one, other = run("a"), run("b", machine=on_gpu)
    latency = next(cost for cost in COSTS if cost.key == keys.LATENCY_P50)
    assert differences([one, other]) == {"gpus": ("1 x Fast", "none")}
    assert "the runs differ in gpus" in incomparable(latency, [one, other])
    assert not incomparable(latency, [other, run("c", machine=on_gpu)])
