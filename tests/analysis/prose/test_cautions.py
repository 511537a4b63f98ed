"""Each thing that a reader must know is said, in one sentence, once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fm_mlflow import keys
from fm_mlflow.analysis.records import Predictions, RunDetails, TrainingRun
from tests.analysis.simulated import MACHINE, compared, run, runs, with_predictions

GOOD = [0.9, 0.91]


def warnings(*each: list[TrainingRun], **details: RunDetails) -> tuple[str, ...]:
    known = {name.replace("_", "-"): detail for name, detail in details.items()}
    return compared([run for some in each for run in some], known).warnings


def test_a_sound_comparison_has_none() -> None:
    assert warnings(runs("a", GOOD), runs("b", GOOD)) == ()


@pytest.mark.parametrize(
    ("more", "warning"),
    [
        (
            {"data_digest": "0123456789"},
            "Not ranked, because their data are not, or not known to be, those of most runs "
            "(data dddddddd): b.",
        ),
        (
            {"config": {"validation_split": "0.1"}},
            "The models were not validated alike (validation_split): 0 (a) and 0.1 (b).",
        ),
        (
            {"config": {"epochs": "10"}},
            "The models were not trained for the same number of epochs: 10 (b) and 5 (a).",
        ),
        (
            {"machine": {**MACHINE, "cpu": "z"}},
            "The runs were made under different conditions: cpu (a and z); costs that depend on "
            "them are not ranked across.",
        ),
        ({"machine": {}}, "2 runs did not record on which machine."),
        (
            {"machine": {**MACHINE, "load": "7"}},
            "2 runs began on a machine that was busy already (load up to 7.0 on 2 usable cores): "
            "times and latencies are not clean.",
        ),
        (
            {"version": "0.2.0"},
            "The runs were logged by different versions of fm_mlflow: 0.1.0 and 0.2.0.",
        ),
        (
            {"jobs": 3},
            "Times and latencies of 2 runs were taken under contention: up to 3 trainings at a "
            "time on one machine.",
        ),
        (
            {"parts": 2},
            "2 runs had more than one process in turn, after an interruption or to be extended: "
            "peak and baseline memory of such runs are not compared.",
        ),
        ({"host": "node-1"}, None),
    ],
)
def test_what_differs_between_runs(more: dict[str, object], warning: str | None) -> None:
    found = warnings(runs("a", [0.9, 0.91, 0.92]), runs("b", GOOD, **more))
    assert found == (() if warning is None else (warning,))


def test_where_the_runs_were() -> None:
    found = warnings(runs("a", [0.9, 0.91, 0.92], host="node-2"), runs("b", GOOD, host="node-1"))
    assert found == ("The runs were on 2 machines: node-1 (2) and node-2 (3).",)


@pytest.mark.parametrize(
    ("loads", "seconds_apart", "busy"),
    [
        (["1.0", "1.1"], 3600, "Run a-1 began on a machine that was busy already (load 1.1"),
        (["3.5", "1.5"], 3600, "2 runs began on a machine that was busy already (load up to 3.5"),
        (["0.9", "2.9"], 10, None),  # what the training before it left
        (["0.9", "3.1"], 10, "Run a-1 began on a machine that was busy already (load 3.1"),
        (["unknown", "nan"], 3600, None),
    ],
)
def test_a_machine_that_was_busy(loads: list[str], seconds_apart: int, busy: str | None) -> None:
    each = [
        replace(
            one,
            machine={**MACHINE, "load": load},
            start_time=seed * (seconds_apart + 60) * 1000,
            end_time=(seed * (seconds_apart + 60) + 60) * 1000,
        )
        for seed, (one, load) in enumerate(zip(runs("a", GOOD), loads, strict=True))
    ]
    found = warnings(each)
    if busy is None:
        assert found == ()
    else:
        assert found == (f"{busy} on 2 usable cores): times and latencies are not clean.",)
    beside = warnings([replace(one, jobs=2) for one in each])
    assert [text for text in beside if "busy" in text] == []


def test_runs_without_an_accuracy_or_a_digest() -> None:
    found = warnings(
        runs("a", GOOD, data_digest=None),
        runs("b", [None]),
    )
    assert found == (
        "Not ranked, because they have no test accuracy: b.",
        "The runs do not say on what data they were tested: it may not be the same.",
    )


def test_one_seed_only() -> None:
    (found,) = warnings(runs("a", GOOD), *(runs(name, [0.9]) for name in "bcdef"))
    assert found.startswith("One seed only: b, c, d and 2 more; differences between single runs")


def test_few_test_images() -> None:
    each, details = with_predictions({"a": np.arange(720).reshape(2, 360) % 10 > 0})
    (found,) = compared(each, details).warnings
    assert found == (
        "The test set has 360 images: they tell one model's accuracy to within 0.031 only."
    )


def test_predictions_that_do_not_fit() -> None:
    each, details = with_predictions({"a": np.arange(30_000).reshape(3, 10_000) % 10 > 0})
    label = np.zeros(10_000, np.int64)
    other = np.where(np.arange(10_000) % 10 > 0, 1, 0)
    details["a-1"] = RunDetails(predictions=Predictions(label + 1, other))
    details["a-2"] = RunDetails(predictions=Predictions(label, label))
    assert compared(each, details).warnings == (
        "Run a-1 predicted other test examples, or in another order, than most: their examples are "
        "not compared one by one.",
        "Run a-2 logged a test accuracy that the stored predictions do not give: these "
        "predictions are not used.",
    )


def measured(method: str, isolated: bool = True) -> RunDetails:
    return RunDetails(
        measurements={
            keys.MEMORY_PEAK: {
                "value": 1.0,
                "method": method,
                "details": {"isolated": isolated},
            }
        }
    )


def test_methods_and_isolation() -> None:
    each = runs("a", GOOD), runs("b", GOOD)
    assert warnings(*each, a_0=measured("at batch 64"), b_0=measured("at batch 128")) == ()
    assert warnings(*each, a_0=measured("kernel"), b_0=measured("sampler")) == (
        "Not measured by the same method in all runs: peak memory.",
    )
    second = measured("kernel; not isolated: this process had trained before", isolated=False)
    assert warnings(*each, a_0=measured("kernel"), a_1=second) == (
        "Run a-1 trained in a process that had trained before: the memory figures hold what it "
        "kept.",
    )


def test_problems_are_told_by_kind() -> None:
    gone = {
        f"a-{seed}": RunDetails(problems=(f"its predictions cannot be read: no file {seed}",))
        for seed in range(2)
    }
    assert compared(runs("a", GOOD), gone).warnings == (
        "2 runs: its predictions cannot be read (the first, no file 0).",
    )


def test_many_runs_do_not_give_many_warnings() -> None:
    each = [
        run(
            f"model {number}",
            data_digest=f"{number % 7}",
            machine={"cpu": f"cpu {number % 50}"} if number % 3 else {},
            version=f"0.{number % 40}",
            jobs=1 + number % 5,
            config={"epochs": str(number % 30), "validation_split": f"0.{number % 9}"},
        )
        for number in range(2000)
    ]
    found = compared(each).warnings
    assert 5 < len(found) < 12
    assert all(len(warning) < 400 for warning in found)
