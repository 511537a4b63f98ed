"""Gates of a pipeline: the models of one benchmark against the champion, and what is published."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from mlflow.entities import Metric, Param, RunTag

from fm_mlflow import BenchmarkResult, GateError, InputError, benchmark, keys, register, runs
from fm_mlflow.errors import ComparisonError
from fm_mlflow.registration.benchmark_runs import candidates
from fm_mlflow.results.register import Gate
from fm_mlflow.settings.registered import RegisterConfig
from tests.inline import InlineExecutor
from tests.simulated import Simulated, log_regression, log_run
from tests.stores import Store, active_store, copy_store, make_store
from tests.verified import in_this_process as in_this_process  # a fixture

NAME = "digits-classifier"


@dataclass(frozen=True)
class Trained:
    """A benchmark in a store, beside a run that is better by what it logged and has no model."""

    store: Store
    result: BenchmarkResult
    decoy: str

    @property
    def id(self) -> str:
        return self.result.run_id

    @property
    def best(self) -> str:
        assert self.result.comparison is not None
        return str(self.result.comparison.comparison.best.run_id)

    def others_model(self) -> str:
        """The logged model of a run that was not chosen."""
        other = next(each.run_id for each in self.result.trainings if each.run_id != self.best)
        outputs = self.store.client.get_run(other).outputs
        assert outputs is not None
        return f"models:/{outputs.model_outputs[0].model_id}"


@pytest.fixture(scope="module")
def original(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("benchmark")
    made = make_store(store_template, folder)
    with active_store(made):
        result = benchmark(
            models="mlp,mlp#learning_rate=0.0001",
            dataset="digits",
            seeds=2,
            epochs=1,
            measure="none",
            output=str(folder / "out"),
            executor=InlineExecutor(),
        )
        digest = made.client.get_run(result.run_id).data.tags[keys.DATASET_DIGEST]
        better = Simulated(
            "cnn", 0, 0.99, params={"dataset": "digits"}, tags={keys.DATASET_DIGEST: digest}
        )
        return Trained(made, result, log_run(made.client, better))


@pytest.fixture
def trained(
    original: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Trained]:
    monkeypatch.chdir(tmp_path)
    with active_store(copy_store(original.store, tmp_path)) as made:
        yield Trained(made, original.result, original.decoy)


def crown(trained: Trained, gain: float) -> None:
    """Make a champion of an earlier benchmark with the same parameters, `gain` more accurate."""
    client = trained.store.client
    earlier = client.create_run("0", tags={keys.KIND: keys.KIND_BENCHMARK}).info.run_id
    best = client.get_run(trained.best)
    copies: dict[str, str] = {}
    for each in trained.result.trainings:
        run = client.get_run(each.run_id)
        if run.data.params["learning_rate"] != best.data.params["learning_rate"]:
            continue
        copied = client.create_run("0").info.run_id
        accuracy = run.data.metrics[keys.TEST_ACCURACY] + gain
        client.log_batch(
            copied,
            [Metric(keys.TEST_ACCURACY, accuracy, 0, 0)],
            [Param(name, value) for name, value in run.data.params.items()],
            [
                RunTag(name, value)
                for name, value in {**run.data.tags, keys.MLFLOW_PARENT_RUN_ID: earlier}.items()
            ],
        )
        client.set_terminated(copied)
        copies[each.run_id] = copied
    own = client.get_run(copies[trained.best]).data
    client.create_registered_model(NAME)
    tags = {
        str(keys.TEST_ACCURACY): str(own.metrics[keys.TEST_ACCURACY]),
        str(keys.DATASET): "digits",
        str(keys.DATASET_DIGEST): own.tags[keys.DATASET_DIGEST],
    }
    client.create_model_version(NAME, trained.others_model(), copies[trained.best], tags)
    client.set_registered_model_alias(NAME, "champion", "1")


def by_name(gates: tuple[Gate, ...]) -> Mapping[str, Gate]:
    return {gate.name: gate for gate in gates}


@pytest.mark.usefixtures("in_this_process")
def test_the_winner_of_the_benchmark_is_judged_and_no_other_run(trained: Trained) -> None:
    with pytest.raises(GateError, match=f"run {trained.decoy} has no logged model; `fm-mlflow tr"):
        register()
    assert trained.result.comparison is not None
    report = Path(trained.result.comparison.files[keys.COMPARISON_JSON_FILE])
    assert json.loads(report.read_text())["benchmark"] == trained.id
    done = register(benchmark=trained.id, summary="gates.md")
    assert (done.run_id, done.outcome, done.champion) == (trained.best, "registered", 1)
    assert done.reason.startswith("The most accurate, ")
    assert Path("gates.md").read_text().startswith("## Promoted: mlp, 1 epoch, seed ")
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
    for name in ("run_id", "runs", "filter", "experiment"):
        other: dict[str, Any] = {name: "x"}
        with pytest.raises(InputError, match=f"{name}: received 'x', accepted: nothing beside"):
            register(benchmark=failed, **other)


def test_the_benchmark_says_by_what_it_is_decided(store: Store) -> None:
    client = store.client
    parent = client.create_run("0", tags={keys.KIND: keys.KIND_BENCHMARK}).info.run_id
    within = {keys.MLFLOW_PARENT_RUN_ID: parent, keys.JOBS: "1"}
    run_ids = [log_regression(client, "a", seed, 1.0) for seed in range(2)]
    for run_id in run_ids:
        for name, value in within.items():
            client.set_tag(run_id, name, value)
    log_regression(client, "b", 0, 0.1)  # better, of another origin
    for metric, cost in (("test_loss", "flops/training"), ("test_mae", "parameters/trainable")):
        compared = client.create_run("0", tags={**within, keys.KIND: keys.KIND_COMPARISON}).info
        params = {"metric": metric, "cost": cost, "margin": "0.02", "smaller_is_better": "True"}
        client.log_batch(compared.run_id, params=[Param(*each) for each in params.items()])
        client.set_terminated(compared.run_id)
    client.set_terminated(parent)

    config, choice = candidates(RegisterConfig(benchmark=parent))
    assert config.runs == choice.runs == ",".join(run_ids)
    for each in (config, choice):  # of its last comparison
        decided = (each.metric, each.smaller_is_better, each.cost)
        assert decided == ("test_mae", True, "parameters/trainable")
    assert choice.margin == 0.02
    own, _ = candidates(RegisterConfig(benchmark=parent, metric="score", cost="latency/p50_ms"))
    assert (own.metric, own.smaller_is_better, own.cost) == ("score", False, "latency/p50_ms")
    with pytest.raises(InputError, match=r"min_accuracy: received .*, accepted: nothing where tes"):
        register(benchmark=parent, min_accuracy=0.8)


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
