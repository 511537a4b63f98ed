"""Which runs belong together, what their group is called, and which groups are looked at."""

from __future__ import annotations

import random

import pytest

from fm_mlflow import keys
from fm_mlflow.analysis.grouping import group_runs
from fm_mlflow.settings.selection import Bounds
from tests.analysis.simulated import grouped, run, runs


def names(*each: object) -> list[str]:
    return sorted(group.name for group in grouped(*each))  # type: ignore[arg-type]


def test_memory_of_a_run_that_was_resumed_does_not_count() -> None:
    metrics = {str(keys.MEMORY_PEAK): 900.0, str(keys.LATENCY_P50): 2.0}
    whole, resumed = run("a", 0, metrics=metrics), run("a", 1, metrics=metrics, parts=2)
    (group,) = group_runs([whole, resumed], 3).groups
    assert group.metrics[keys.MEMORY_PEAK].n == 1
    assert group.metrics[keys.LATENCY_P50].n == 2


def test_runs_that_differ_in_the_seed_alone_are_a_group() -> None:
    (group,) = grouped(runs("cnn", [0.9, 0.91, 0.92]))
    assert group.name == "cnn"
    assert [each.seed for each in group.runs] == [0, 1, 2]
    assert group.metrics[keys.TEST_ACCURACY].values == (0.9, 0.91, 0.92)


def test_a_name_says_what_differs_within_its_model() -> None:
    each = [
        runs("cnn", [0.9], config={"epochs": "5", "optimizer": "adam"}),
        runs("cnn", [0.9], config={"epochs": "10", "optimizer": "adam"}),
        runs("mlp", [0.9], config={"epochs": "5", "optimizer": "sgd"}),
    ]
    assert names(*each) == ["cnn (epochs 10)", "cnn (epochs 5)", "mlp"]


def test_a_parameter_that_one_lacks_is_unknown_there() -> None:
    each = [runs("cnn", [0.9], config={"optimizer": "sgd"}), runs("cnn", [0.8])]
    assert names(*each) == ["cnn (optimizer sgd)", "cnn (optimizer unknown)"]


def test_what_nobody_chose_is_in_no_name() -> None:
    """MLflow's callback for Keras logs the optimizer's settings, dozens of them."""
    each = [
        runs("cnn", [0.9], config={"width": width, "opt_name": f"o{width}", "opt_beta_1": width})
        for width in ("8", "16")
    ]
    assert names(*each) == ["cnn (width 16)", "cnn (width 8)"]
    assert names(*(runs("a", [0.9], config={"opt_name": name}) for name in "xy")) == ["a", "a #2"]


def test_what_one_alone_has_is_in_no_name_where_the_rest_suffices() -> None:
    each = [
        runs("cnn", [0.9], config={"width": "8", "note": "first try"}),
        runs("cnn", [0.9], config={"width": "16"}),
    ]
    assert names(*each) == ["cnn (width 16)", "cnn (width 8)"]


def test_data_are_named_where_nothing_else_differs() -> None:
    each = [
        runs("cnn", [0.9], data_digest="0123456789a"),
        runs("cnn", [0.9], data_digest="0123456789b"),
        runs("cnn", [0.9], data_digest=None),
        runs("mlp", [0.9]),
        runs("mlp", [0.9], config={"epochs": "10"}, data_digest=None),
    ]
    assert names(*each) == [
        "cnn (data 0123456789a)",
        "cnn (data 0123456789b)",
        "cnn (data unknown)",
        "mlp (epochs 10)",
        "mlp (epochs 5)",
    ]


def test_models_of_one_name_and_other_sizes_are_not_one_model() -> None:
    small, large = (
        [
            run("sequential", seed, metrics={"test_accuracy": 0.9, "parameters/trainable": size})
            for seed in (0, 1)
        ]
        for size in (497.0, 4929.0)
    )
    found = group_runs([*small, *large], 3)
    assert found.skipped == ()
    assert {each.name: len(each.runs) for each in found.groups} == {
        "sequential (497 parameters)": 2,
        "sequential (4,929 parameters)": 2,
    }
    unknown = run("sequential", 2, metrics={"test_accuracy": 0.9})
    (group,) = group_runs([*small, unknown], 3).groups
    assert (group.name, len(group.runs)) == ("sequential", 3)


def test_names_are_unique_and_on_one_line_whatever_they_are() -> None:
    each = [
        runs("a (epochs 5)", [0.9]),
        runs("a", [0.9], config={"epochs": "5"}),
        runs("a", [0.9], config={"epochs": "6"}),
        runs("b\nc", [0.9]),
        runs("b c", [0.9]),
    ]
    assert names(*each) == ["a (epochs 5)", "a (epochs 5) #2", "a (epochs 6)", "b c", "b c #2"]


def test_long_names_and_values_are_cut_but_told_apart() -> None:
    each = [
        runs("m" * 3000, [0.9], config={"note": "n" * 3000 + end}) for end in ("first", "second")
    ]
    found = names(*each)
    assert all(len(name) < 140 for name in found)
    assert [name[-8:] for name in found] == ["nnfirst)", "nsecond)"]


def test_a_repeated_seed_counts_once() -> None:
    first = run("cnn", 0, 0.9, run_id="first", start_time=1)
    again = run("cnn", 0, 0.9, run_id="again", start_time=2)
    bare = run("cnn", 0, None, run_id="bare", start_time=3)
    grouping = group_runs([bare, first, again, run("cnn", 1)], 10)
    (group,) = grouping.groups
    # The latest, but not one in which less was measured.
    assert [each.run_id for each in group.runs] == ["again", "cnn-1"]
    assert {each.run_id: each.reason for each in grouping.skipped} == {
        "first": "same seed as run again; not independent evidence",
        "bare": "same seed as run again; not independent evidence",
    }


def test_runs_without_a_seed_count_one_each() -> None:
    each = [run("cnn", None, run_id=str(number), start_time=number) for number in range(3)]
    grouping = group_runs([*each, run("cnn", 7)], 10)
    assert [r.run_id for r in grouping.groups[0].runs] == ["cnn-7", "0", "1", "2"]
    assert grouping.skipped == ()


def test_ranked_are_the_groups_on_the_data_of_most_runs() -> None:
    groups = grouped(
        runs("few", [0.99, 0.98], data_digest="other"),
        runs("unknown", [0.97], data_digest=None),
        runs("good", [0.9, 0.9, 0.9]),
        runs("better", [0.95]),
        runs("unscored", [None]),
    )
    assert [group.name for group in groups] == ["better", "good", "few", "unknown", "unscored"]
    assert [group.ranked for group in groups] == [True, True, False, False, False]
    assert [group.detailed for group in groups] == [True, True, False, False, False]


def test_detailed_are_the_most_accurate_and_the_most_accurate_within_bounds() -> None:
    each = [
        one
        for number in range(8)
        for one in runs(
            f"m{number}", [0.9 - number / 100], metrics={keys.FLOPS_INFERENCE: 8 - number}
        )
    ]
    grouping = group_runs(each, 2)
    assert [group.name for group in grouping.detailed] == ["m0", "m1"]
    bounded = group_runs(each, 2, Bounds(max_flops=4.5))
    assert [group.name for group in bounded.detailed] == ["m0", "m1", "m4", "m5"]


def test_the_order_of_runs_does_not_matter() -> None:
    each = [
        one
        for epochs in ("5", "10")
        for model in ("cnn", "mlp")
        for one in runs(model, [0.9, 0.91, 0.91, 0.9], config={"epochs": epochs})
    ]
    each.append(run("cnn", 2, run_id="again", start_time=5))
    expected = group_runs(each, 3)
    for seed in range(5):
        shuffled = random.Random(seed).sample(each, len(each))
        assert group_runs(shuffled, 3) == expected


@pytest.mark.thorough
def test_ten_thousand_runs() -> None:
    metrics = {f"metric/{number}": float(number) for number in range(39)}
    each = [
        run(
            ("cnn", "mlp")[number % 2],
            number // 2 % 5,
            number / 10_000,
            run_id=str(number),
            config={"batch_size": str(number // 10)},
            metrics=metrics,
        )
        for number in range(10_000)
    ]
    grouping = group_runs(each, 10)
    assert len(grouping.groups) == 2000
    assert len(grouping.detailed) == 10


def test_groups_of_one_name_are_numbered() -> None:
    runs = [run("mlp", config={"opt_a": f"{number}"}) for number in range(4)]
    groups = group_runs([*runs, run("mlp #2")], 9).groups
    assert sorted(group.name for group in groups) == [
        "mlp",
        "mlp #2",
        "mlp #2 #2",
        "mlp #3",
        "mlp #4",
    ]
