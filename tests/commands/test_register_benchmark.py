"""Gates of a pipeline: the models of one benchmark against the champion, and what is published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from mlflow.entities import LoggedModelStatus, Metric, Param, RunTag

from fm_mlflow import GateError, InputError, keys, register, runs
from fm_mlflow.cli import cli
from fm_mlflow.commands import register as registering
from fm_mlflow.errors import ComparisonError
from fm_mlflow.registration.benchmark_runs import candidates
from fm_mlflow.results.register import Gate
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.registered import RegisterConfig
from fm_mlflow.terminal import register as terminal
from tests.simulated import Simulated, log_regression, log_run
from tests.stores import Store, active_store, copy_store
from tests.trained import finished_training
from tests.verified import in_this_process as in_this_process  # a fixture

NAME = "digits-classifier"


@dataclass(frozen=True)
class Trained:
    """A finished benchmark in a store, beside a run that is better.

    Attributes:
        id: Of the benchmark's run.
        best: The best of its two seeds, a real training.
        decoy: A run of no benchmark, better and as cheap by what it logged; it has no model.
    """

    store: Store
    id: str
    best: str
    decoy: str


@pytest.fixture
def trained(
    store_template: Path, shared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Trained]:
    done = finished_training("mlp", store_template, shared_folder)
    monkeypatch.chdir(tmp_path)
    with active_store(copy_store(done.store, tmp_path)) as made:
        client, best = made.client, done.result.run_id
        parent = client.create_run("0", tags={keys.KIND: keys.KIND_BENCHMARK}).info.run_id
        for name, value in {keys.MLFLOW_PARENT_RUN_ID: parent, str(keys.JOBS): "1"}.items():
            client.set_tag(best, name, value)
        copy_of(made, best, -0.01, seed="1")
        log_comparison(made, parent, metric=keys.TEST_ACCURACY, cost="flops/inference")
        client.set_terminated(parent)
        digest = client.get_run(best).data.tags[keys.DATASET_DIGEST]
        better: dict[str, Any] = {
            "params": {"dataset": "digits"},
            "tags": {keys.DATASET_DIGEST: digest},
        }
        yield Trained(made, parent, best, log_run(client, Simulated("another", 0, 0.99, **better)))


def log_comparison(store: Store, benchmark: str, **params: str) -> str:
    """Log that a benchmark was decided, and by what."""
    tags = {keys.MLFLOW_PARENT_RUN_ID: benchmark, keys.KIND: keys.KIND_COMPARISON}
    run_id = store.client.create_run("0", tags=tags).info.run_id
    store.client.log_batch(run_id, params=[Param(*each) for each in params.items()])
    store.client.set_terminated(run_id)
    return str(run_id)


def copy_of(store: Store, run_id: str, gain: float, parent: str = "", seed: str = "") -> str:
    """Log a run with the same parameters, `gain` more accurate; without a model."""
    data = store.client.get_run(run_id).data
    copied = store.client.create_run("0").info.run_id
    accuracy = data.metrics[keys.TEST_ACCURACY] + gain
    params = {**data.params, **({"seed": seed} if seed else {})}
    tags = {**data.tags, **({keys.MLFLOW_PARENT_RUN_ID: parent} if parent else {})}
    store.client.log_batch(
        copied,
        [Metric(keys.TEST_ACCURACY, accuracy, 0, 0)],
        [Param(name, value) for name, value in params.items()],
        [RunTag(name, value) for name, value in tags.items()],
    )
    store.client.set_terminated(copied)
    return str(copied)


def crown(trained: Trained, gain: float) -> None:
    """Make a champion of an earlier benchmark with the same parameters, `gain` more accurate."""
    client = trained.store.client
    earlier = client.create_run("0", tags={keys.KIND: keys.KIND_BENCHMARK}).info.run_id
    champion = copy_of(trained.store, trained.best, gain, earlier)
    copy_of(trained.store, trained.best, gain - 0.01, earlier, seed="1")
    own = client.get_run(champion).data
    model = client.create_logged_model("0", name="model", source_run_id=champion)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.create_registered_model(NAME)
    tags = {
        str(keys.TEST_ACCURACY): str(own.metrics[keys.TEST_ACCURACY]),
        str(keys.DATASET): "digits",
        str(keys.DATASET_DIGEST): own.tags[keys.DATASET_DIGEST],
    }
    client.create_model_version(NAME, f"models:/{model.model_id}", champion, tags)
    client.set_registered_model_alias(NAME, "champion", "1")


def by_name(gates: tuple[Gate, ...]) -> Mapping[str, Gate]:
    return {gate.name: gate for gate in gates}


@pytest.mark.usefixtures("in_this_process")
def test_the_winner_of_the_benchmark_is_judged_and_no_other_run(trained: Trained) -> None:
    with pytest.raises(GateError, match=f"run {trained.decoy} has no logged model; `fm-mlflow tr"):
        register()
    done = register(benchmark=trained.id, summary="gates.md")
    assert (done.run_id, done.outcome, done.champion) == (trained.best, "registered", 1)
    assert done.reason.startswith("The only model to choose from: test accuracy 0.")
    assert Path("gates.md").read_text().startswith("## Promoted: mlp, 2 epochs, seed 0")
    assert register(benchmark=trained.id).outcome == "unchanged"


@pytest.mark.usefixtures("in_this_process")
def test_a_change_of_what_no_parameter_says_is_held_against_the_champions_seeds(
    trained: Trained,
) -> None:
    crown(trained, gain=0.001)
    settings: dict[str, Any] = {"benchmark": trained.id, "tolerance": 0.9, "summary": "gates.md"}
    with pytest.raises(GateError, match=r"gain over version 1: -0\.10 points") as refused:
        register(**settings, junit="gates.xml")
    assert refused.value.registration is not None
    gates = by_name(refused.value.registration.gates)
    assert gates["accuracy v version 1"].passed
    assert gates["accuracy v version 1"].figure.endswith("(2 v 2 seeds)")
    summary = Path("gates.md").read_text()
    assert "| this model | champion, version 1 |" in summary
    assert "- gain over version 1: a mean test accuracy above 0." in summary
    failed = ElementTree.parse("gates.xml").getroot().findall("testcase/failure/..")
    assert [case.get("name") for case in failed] == ["gain over version 1"]

    allowed = register(**settings, against_champion="not-worse", dry_run=True)
    assert (allowed.outcome, [*by_name(allowed.gates)]) == ("dry run", ["accuracy v version 1"])
    assert "## May be promoted" in Path("gates.md").read_text()
    with pytest.raises(GateError, match=r"accuracy v version 1: -0\.10 points, 95%"):
        register(benchmark=trained.id, against_champion="not-worse", tolerance=0.0005)
    assert trained.store.client.get_registered_model(NAME).aliases == {"champion": 1}


def test_only_a_finished_benchmark_has_a_decision(store: Store) -> None:
    def run(kind: str, status: str = "", **tags: str) -> str:
        named = {name.replace("_", "."): value for name, value in tags.items()}
        run_id = store.client.create_run("0", tags={keys.KIND: kind, **named}).info.run_id
        if status:
            store.client.set_terminated(run_id, status)
        return str(run_id)

    failed = run("benchmark", "FAILED")
    store.client.set_tag(failed, keys.ERROR, "2 of 4 trainings failed")
    child = run("training", "FINISHED", mlflow_parentRunId=failed)
    for run_id, accepted in [
        (failed, r"this one is FAILED \(2 of 4 trainings failed\); `fm-mlflow benchmark --resume"),
        (run("benchmark"), r"this one is RUNNING \(where its process is gone, `fm-mlflow recon"),
        (run("benchmark", "FINISHED"), "that has finished trainings; they are gone"),
        (child, f"this is a run of kind training within run {failed}"),
        ("0" * 32, "the id of a run in the store"),
    ]:
        with pytest.raises(InputError, match=f"benchmark: received '{run_id}', .*{accepted}"):
            register(benchmark=run_id, junit="gates.xml")
        (error,) = ElementTree.parse("gates.xml").getroot().iter("error")
        assert run_id in str(error.get("message"))
    for name in ("runs", "filter", "experiment"):
        other: dict[str, Any] = {name: "x"}
        with pytest.raises(InputError, match=f"{name}: received 'x', accepted: nothing beside"):
            register(benchmark=failed, **other)


@pytest.fixture
def regressions(store: Store) -> tuple[str, list[str]]:
    """A finished benchmark of two trainings, not yet decided, beside a better run; their ids."""
    client = store.client
    parent = client.create_run("0", tags={keys.KIND: keys.KIND_BENCHMARK}).info.run_id
    run_ids = [log_regression(client, "a", seed, 1.0) for seed in range(2)]
    for run_id in run_ids:
        for name, value in {keys.MLFLOW_PARENT_RUN_ID: parent, str(keys.JOBS): "1"}.items():
            client.set_tag(run_id, name, value)
    log_regression(client, "b", 0, 0.1)
    client.set_terminated(parent)
    return parent, run_ids


def test_the_benchmark_says_by_what_it_is_decided(
    store: Store, regressions: tuple[str, list[str]]
) -> None:
    parent, run_ids = regressions
    both = {"margin": "0.02", "smaller_is_better": "True"}
    log_comparison(store, parent, metric="test_loss", cost="flops/training", **both)
    log_comparison(store, parent, metric="test_mae", cost="parameters/trainable", **both)

    config, choice = candidates(RegisterConfig(benchmark=parent))
    assert config.runs == choice.runs == ",".join(run_ids)
    for each in (config, choice):  # of its last comparison
        decided = (each.metric, each.smaller_is_better, each.cost)
        assert decided == ("test_mae", True, "parameters/trainable")
    assert choice.margin == 0.02
    named, _ = candidates(RegisterConfig(benchmark=parent, run_id=run_ids[1]))
    assert (named.run_id, named.metric) == (run_ids[1], "test_mae")
    with pytest.raises(InputError, match=rf"run_id: .* beside benchmark, one .*: {run_ids[0]} and"):
        candidates(RegisterConfig(benchmark=parent, run_id="0" * 32))
    with pytest.raises(InputError, match=r"min_accuracy: received .*, accepted: nothing where tes"):
        register(benchmark=parent, min_accuracy=0.8)


@pytest.mark.parametrize(
    ("decided", "given", "refused"),
    [
        ({"cost": "latency/p50_ms"}, {"cost": "flops/inference"}, "cost"),  # a default counts
        ({"cost": "latency/p50_ms"}, {"cost": "latency/p50_ms"}, ""),
        ({"metric": "val_accuracy"}, {"metric": "test_accuracy"}, "metric"),
        ({"metric": "val_accuracy"}, {"metric": "", "cost": ""}, ""),  # as `mlflow run` gives it
        ({"metric": "val_accuracy"}, {"smaller_is_better": True}, "smaller_is_better"),
        ({"metric": "val_accuracy"}, {"larger_is_better": True}, ""),
        ({"metric": "val_mae"}, {"smaller_is_better": True}, ""),  # its name says so
        ({"metric": "val_mae"}, {"metric": "val_mae", "larger_is_better": True}, "larger_is_b"),
        ({"metric": "gap", "smaller_is_better": "True"}, {"smaller_is_better": False}, "smaller"),
        ({"metric": "gap", "smaller_is_better": "True"}, {"metric": "gap"}, ""),
    ],
)
def test_no_setting_differs_from_what_the_benchmark_was_decided_by(
    decided: dict[str, str],
    given: dict[str, Any],
    refused: str,
    store: Store,
    regressions: tuple[str, list[str]],
) -> None:
    parent, _ = regressions
    params = {"metric": keys.TEST_ACCURACY, "cost": "flops/inference", **decided}
    log_comparison(store, parent, **params)
    config = parse(RegisterConfig, {"benchmark": parent, **given})
    if refused:
        with pytest.raises(InputError, match=rf"^{refused}.*, as the benchmark was decided \(leav"):
            candidates(config)
    else:
        chosen, _ = candidates(config)
        assert (chosen.metric, chosen.cost) == (params["metric"], params["cost"])


def test_a_benchmark_without_its_comparison_is_decided_by_nothing(
    store: Store, regressions: tuple[str, list[str]]
) -> None:
    parent, _ = regressions
    gone = log_comparison(store, parent, metric="test_mae", cost="latency/p50_ms")
    store.client.delete_run(gone)
    accepted = f"its comparison, which is gone; `fm-mlflow benchmark --resume {parent}` compares"
    with pytest.raises(InputError, match=f"benchmark: received '{parent}', .*{accepted}"):
        register(benchmark=parent)


def test_a_default_that_is_given_on_the_command_line_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(registering, "register", lambda **more: given.update(more))
    monkeypatch.setattr(terminal, "print_registration", lambda *_: None)
    line = ["register", "--benchmark", "b", "--cost", "flops/inference", "--metric", ""]
    cli.main(line, standalone_mode=False)
    assert {**given, "progress": None} == {"progress": None, "benchmark": "b", "cost": line[4]}


def test_what_failed_before_it_had_its_data_is_named_by_its_cause(store: Store) -> None:
    tags = {str(keys.KIND): keys.KIND_TRAINING, str(keys.ERROR): "no memory"}
    run_id = store.client.create_run("0", tags=tags).info.run_id
    store.client.set_terminated(run_id, "FAILED")
    with pytest.raises(ComparisonError, match="1 because: it ended as FAILED: no memory"):
        register(dataset="digits", junit="gates.xml", summary="gates.md")
    assert ElementTree.parse("gates.xml").getroot().get("errors") == "1"
    assert "no memory" in Path("gates.md").read_text()
    log_run(store.client, Simulated())
    told = r"these runs: fashion_mnist; of 1 run it is not known \(it ended as FAILED: no memory"
    with pytest.raises(InputError, match=told):
        register(dataset="cifar")
    assert len(runs()) == 2
    assert len(runs(dataset="fashion_mnist")) == 1
