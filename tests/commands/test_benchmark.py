"""Models x seeds under one parent run: what is started, and what the store says afterwards."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from typing_extensions import override

from fm_mlflow import BenchmarkError, Interrupted, benchmark, keys
from fm_mlflow.errors import ComparisonError, InputError
from fm_mlflow.jobs.executors import Job, JobEnd
from fm_mlflow.listeners import BenchmarkListener
from fm_mlflow.process.identity import this_process
from fm_mlflow.tracking.child_runs import children_of
from tests.cluster import Cluster, Fate
from tests.stores import Store

SETTINGS: dict[str, Any] = {"models": "mlp,cnn", "dataset": "digits", "output": "out"}
ALL = {(model, seed) for model in ("mlp", "cnn") for seed in range(3)}
ALL_FAIL: dict[tuple[str, int], Fate] = dict.fromkeys(ALL, "fails")
"""Where the comparison, a second of work, is beside the point."""


class Hears(BenchmarkListener):
    def __init__(self) -> None:
        self.notices: list[str] = []

    @override
    def notice(self, text: str) -> None:
        self.notices.append(text)


def of_kind(store: Store, kind: str) -> list[mlflow.entities.Run]:
    return [run for run in store.client.search_runs(["0"]) if run.data.tags.get(keys.KIND) == kind]


def only(store: Store, kind: str) -> mlflow.entities.Run:
    (run,) = of_kind(store, kind)
    return run


def test_each_model_with_each_seed_under_one_parent(store: Store) -> None:
    cluster = Cluster(slots=2)
    result = benchmark(**SETTINGS, seeds=3, epochs=2, executor=cluster)
    assert cluster.most_at_a_time == 2
    order = [(config.model, config.seed) for config in cluster.started]
    assert set(order) == ALL
    assert len(order) == 6
    assert order not in (sorted(order), sorted(order, reverse=True))
    assert {(c.epochs, c.dataset, c.data_dir, c.measure) for c in cluster.started} == {
        (2, "digits", "", "flops,latency,memory,energy")
    }

    parent = only(store, "benchmark")
    assert parent.info.run_id == result.run_id
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "benchmark of mlp, cnn, 3 seeds"
    assert parent.data.params["models"] == "mlp,cnn"
    assert parent.data.params["order_seed"] == "0"
    assert "cnn, seed 2 | FINISHED | 0.9020" in parent.data.tags["mlflow.note.content"]
    for run in [*of_kind(store, "training"), only(store, "comparison")]:
        assert run.data.tags["mlflow.parentRunId"] == result.run_id
        assert run.info.status == "FINISHED"
    assert {run.data.tags[keys.JOBS] for run in of_kind(store, "training")} == {"1"}
    run = store.client.get_run(result.trainings[0].run_id)
    assert run.info.run_name == f"{order[0][0]}, 2 epochs, seed {order[0][1]}"
    assert run.data.tags["mlflow.source.name"] == parent.data.tags["mlflow.source.name"]
    (log,) = [f for f in store.client.list_artifacts(run.info.run_id) if f.path == "output.log"]
    assert log.file_size == 5

    recorded = json.loads(
        Path(store.client.download_artifacts(result.run_id, "trainings.json")).read_text()
    )
    assert [(row["model"], row["seed"]) for row in recorded] == order
    assert result.comparison is not None
    assert [group.name for group in result.comparison.comparison.groups] == ["cnn", "mlp"]
    report = store.client.download_artifacts(result.run_id, "report.html")
    assert Path(report).read_bytes() == Path("out/report.html").read_bytes()
    assert json.loads(Path("out/comparison.json").read_text())["benchmark"] == result.run_id
    assert parent.data.metrics == only(store, "comparison").data.metrics
    assert parent.data.metrics[keys.COMPARED_TRAININGS] == 6
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert len(plain["trainings"]) == 6
    assert plain["comparison"]["run_id"] == only(store, "comparison").info.run_id


@pytest.mark.parametrize(("order_seed", "same"), [(0, True), (1, False)])
def test_the_order_is_that_of_its_seed(store: Store, order_seed: int, same: bool) -> None:
    orders = []
    for seed in (0, order_seed):
        cluster = Cluster(ALL_FAIL)
        with pytest.raises(BenchmarkError):
            benchmark(**SETTINGS, seeds=3, order_seed=seed, executor=cluster)
        orders.append([(config.model, config.seed) for config in cluster.started])
    assert (orders[0] == orders[1]) is same


def test_a_failure_stops_nothing_and_is_done_again(store: Store) -> None:
    cluster = Cluster({("mlp", 0): "fails", ("cnn", 2): "dies"})
    with pytest.raises(BenchmarkError, match="2 of 6 trainings failed") as failure:
        benchmark(**SETTINGS, seeds=3, executor=cluster)
    assert len(cluster.started) == 6
    result = failure.value.result
    assert {each.name: each.error for each in result.failed} == {
        "mlp, seed 0": "the loss is nan",
        "cnn, seed 2": "killed by SIGKILL",
    }
    parent = store.client.get_run(result.run_id)
    assert parent.info.status == "FAILED"
    again = f"fm-mlflow benchmark --resume {result.run_id} --output out"
    assert parent.data.tags[keys.ERROR].endswith(f"repeat them with: {again}")
    assert result.comparison is not None
    assert {each.reason for each in result.comparison.comparison.skipped} == {
        "it ended as FAILED: the loss is nan",
        "it ended as FAILED: killed by SIGKILL",
    }
    failed = [store.client.get_run(each.run_id) for each in result.failed]
    assert {run.data.tags[keys.KIND] for run in failed} == {"training"}

    repaired, hears = Cluster(), Hears()
    resumed = benchmark(resume=result.run_id, output="out", executor=repaired, progress=hears)
    assert sorted(each for each in hears.notices if "again" in each) == [
        "cnn, 5 epochs, seed 2 is trained again: it ended as FAILED: killed by SIGKILL",
        "mlp, 5 epochs, seed 0 is trained again: it ended as FAILED: the loss is nan",
    ]
    assert {(c.model, c.seed) for c in repaired.started} == {("mlp", 0), ("cnn", 2)}
    assert {c.dataset for c in repaired.started} == {"digits"}
    assert len(resumed.trainings) == 6
    assert resumed.failed == ()
    parent = only(store, "benchmark")
    assert parent.info.status == "FINISHED"
    assert keys.ERROR not in parent.data.tags
    assert len(children_of(result.run_id)) == 8
    assert {store.client.get_run(run.info.run_id).info.status for run in failed} == {"FAILED"}


def test_a_training_that_is_lost_with_its_machine_is_continued_in_its_run(store: Store) -> None:
    fates: dict[tuple[str, int], Fate] = {("mlp", 1): "fails"}
    lost = {("mlp", 0): 2, ("cnn", 0): 1, ("cnn", 1): 3}
    cluster = Cluster(fates, losses=lost)
    cluster.jobs_per_machine = 2  # at most; in the end one had it to itself
    with pytest.raises(BenchmarkError, match="2 of 4 trainings failed") as failure:
        benchmark(**SETTINGS, seeds=2, checkpoint_seconds=1, executor=cluster)
    done = {each.name: each for each in failure.value.result.trainings}
    assert done["mlp, seed 1"].error == "the loss is nan"
    assert done["cnn, seed 1"].error == "its machine is gone"
    commands = {
        name: [job.arguments[0] for job in cluster.jobs if job.name == name] for name in done
    }
    assert commands == {
        "mlp, seed 0": ["train", "train", "resume"],  # the first was lost before it began
        "mlp, seed 1": ["train"],  # it failed by itself
        "cnn, seed 0": ["train", "resume"],
        "cnn, seed 1": ["train", "train", "train"],
    }
    assert len({job.key for job in cluster.jobs}) == 4
    run_id = done["cnn, seed 0"].run_id
    (again,) = [job for job in cluster.jobs if job.arguments[0] == "resume" and job.key == run_id]
    options = ("--checkpoint-seconds", "1.0", "--take-over", "True")
    assert again.arguments == ("resume", run_id, *options)
    run = store.client.get_run(run_id)
    assert (run.info.status, run.data.tags[keys.JOBS]) == ("FINISHED", "1")


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "deleted"])
def test_a_lost_training_that_is_over_is_not_continued(store: Store, status: str) -> None:
    class Late(Cluster):
        """Its training ends, and its place dies before it can tell."""

        def _run(self, job: Job) -> JobEnd:
            end = super()._run(job)
            if status == "deleted":
                store.client.delete_run(job.key)
            return replace(end, cause="its machine is gone", is_lost=True)

    cluster = Late({("mlp", 0): "finishes" if status == "FINISHED" else "fails"})
    settings = {**SETTINGS, "models": "mlp", "seeds": 1, "executor": cluster}
    if status == "FINISHED":
        assert benchmark(**settings).trainings[0].error is None
    else:
        with pytest.raises(BenchmarkError) as failure:
            benchmark(**settings)
        (failed,) = failure.value.result.failed
        assert ("the loss is nan" if status == "FAILED" else "deleted") in str(failed.error)
    assert len(cluster.jobs) == 1


def test_a_training_that_a_living_process_has_taken_over_is_left_to_it(store: Store) -> None:
    class Owned(Cluster):
        """Its process has lost its run to another one of this machine, and says so."""

        def _run(self, job: Job) -> JobEnd:
            tags = {keys.KIND: keys.KIND_TRAINING, **this_process().tags()}
            for name, value in tags.items():
                store.client.set_tag(job.key, name, value)
            return JobEnd(job, "it was taken over by another process", "")

    settings = {**SETTINGS, "models": "mlp", "seeds": 1}
    with pytest.raises(BenchmarkError, match="it was taken over by another process"):
        benchmark(**settings, executor=Owned())
    run = only(store, "training")
    assert run.info.status == "RUNNING"
    assert keys.ERROR not in run.data.tags


def test_without_a_finished_training_there_is_nothing_to_compare(store: Store) -> None:
    cluster = Cluster({("mlp", 0): "fails", ("cnn", 0): "dies"})
    with pytest.raises(BenchmarkError, match="2 of 2 trainings failed, so there is nothing") as no:
        benchmark(**SETTINGS, seeds=1, executor=cluster)
    assert no.value.result.comparison is None
    assert of_kind(store, "comparison") == []
    assert only(store, "benchmark").info.status == "FAILED"


def test_the_store_says_whether_a_training_finished(store: Store) -> None:
    cluster = Cluster({("mlp", 0): "dies after the end", ("cnn", 0): "is not delivered"})
    with pytest.raises(BenchmarkError, match="1 of 2 trainings failed") as failure:
        benchmark(**SETTINGS, seeds=1, executor=cluster)
    (failed,) = failure.value.result.failed
    assert failed.name == "cnn, seed 0"
    assert failed.error == "its process ended well, but the store has its run as RUNNING"
    assert store.client.get_run(failed.run_id).info.status == "RUNNING"  # delivered later, maybe


def test_interrupted_it_says_how_to_continue(store: Store) -> None:
    cluster = Cluster({("mlp", 2): "hangs"}, slots=6, interrupt_after=4)
    with pytest.raises(Interrupted, match=r"^interrupted by SIGINT$") as stop:
        benchmark(**SETTINGS, seeds=3, executor=cluster)
    assert stop.value.exit_code == 130
    parent = only(store, "benchmark")
    assert parent.info.status == "KILLED"
    assert parent.data.tags[keys.ERROR] == str(stop.value)
    assert (
        f"continue it with: fm-mlflow benchmark --resume {parent.info.run_id} " in stop.value.advice
    )
    children = {run.status: run for run in children_of(parent.info.run_id)}
    assert children.keys() == {"FINISHED", "KILLED"}
    assert children["KILLED"].tags[keys.ERROR] == "killed by SIGINT"
    assert of_kind(store, "comparison") == []

    rest = Cluster()
    resumed = benchmark(resume=parent.info.run_id, executor=rest)
    assert len(rest.started) == 2
    assert {(each.model, each.seed) for each in resumed.trainings} == ALL


def test_a_training_left_running_by_a_killed_benchmark_is_closed(store: Store) -> None:
    with pytest.raises(Interrupted):
        benchmark(**SETTINGS, seeds=1, executor=Cluster(interrupt_after=0))
    parent = only(store, "benchmark").info.run_id
    orphan = children_of(parent)[0].run_id
    store.client.update_run(orphan, "RUNNING")
    with pytest.raises(BenchmarkError):
        benchmark(resume=parent, executor=Cluster(ALL_FAIL))
    run = store.client.get_run(orphan)
    assert run.info.status == "KILLED"
    assert run.data.tags[keys.ERROR] == "its benchmark ended before it, and could not say so"


def test_what_cannot_be_resumed(store: Store) -> None:
    with pytest.raises(InputError, match=r"^resume: received 'nothing', accepted: the id of a run"):
        benchmark(resume="nothing")
    with pytest.raises(BenchmarkError) as failure:
        benchmark(**SETTINGS, seeds=1, executor=Cluster(ALL_FAIL))
    result = failure.value.result
    training = result.trainings[0].run_id
    with pytest.raises(InputError, match="accepted: the id of a benchmark's run"):
        benchmark(resume=training)
    changes: list[dict[str, Any]] = [{"epochs": 7}, {"models": "cnn"}, {"seeds": 2}]
    for change in changes:
        with pytest.raises(InputError, match=rf"as benchmark {result.run_id} has it"):
            benchmark(resume=result.run_id, **change)
    store.client.set_tag(result.run_id, keys.DATASET_DIGEST, "other")
    with pytest.raises(InputError, match=r"^dataset: received .* accepted: the data of benchmark"):
        benchmark(resume=result.run_id)
    store.client.update_run(result.run_id, "RUNNING")
    with pytest.raises(InputError, match="a benchmark that has ended; it is RUNNING"):
        benchmark(resume=result.run_id)


def test_mlflow_run_is_joined_or_only_brings_the_message(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_over = store.client.create_run("0").info.run_id
    store.client.log_param(handed_over, "models", "'mlp,cnn'")  # as MLflow quotes for its shell
    monkeypatch.setenv("MLFLOW_RUN_ID", handed_over)
    assert benchmark(**SETTINGS, seeds=1, executor=Cluster()).run_id == handed_over

    messenger = store.client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", messenger)
    idle = Cluster()
    # What `mlflow run` always gives, the defaults, contradicts nothing.
    again = benchmark(resume=handed_over, epochs=5, dataset="fashion_mnist", executor=idle)
    assert again.run_id == handed_over
    assert idle.started == []  # all is done; it is compared again
    assert len(again.trainings) == 2
    assert len(of_kind(store, "comparison")) == 2
    run = store.client.get_run(messenger)
    assert run.info.run_name == "resume of benchmark of mlp, cnn, 1 seed"
    assert run.info.status == "RUNNING"  # until `mlflow run` closes it
    assert keys.KIND not in run.data.tags


def test_a_comparison_that_fails_says_so(store: Store) -> None:
    Path("out", keys.REPORT_HTML_FILE).mkdir(parents=True)
    with pytest.raises(ComparisonError, match="cannot write the report"):
        benchmark(**{**SETTINGS, "output": "out"}, seeds=1, executor=Cluster())
    for kind in ("comparison", "benchmark"):
        run = only(store, kind)
        assert run.info.status == "FAILED"
        assert run.data.tags[keys.ERROR].startswith("cannot write the report")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"models": "nowhere.py:build"}, "model: received 'nowhere.py:build', accepted: the path"),
        ({"models": "no_such_package.m:f"}, "accepted: an importable module (there is none named"),
        ({"models": "mlp,vgg"}, "models: received 'vgg', accepted: mlp, cnn, package"),
        ({"models": "mlp, mlp"}, "accepted: each model once; mlp is there twice"),
        ({"models": "a,b.py:build"}, "several with commas, so no path may hold one"),
        ({"seeds": 0}, "seeds: received 0, accepted: auto, or a whole number from 1"),
        ({"output": __file__}, "accepted: a folder, there already or not"),
        ({"metric": "mae"}, "the test or the validation data: test_... or val_...; did you mean"),
        ({"output": f"{__file__}/report"}, "accepted: a folder, there already or not"),
        ({"dataset": "idx", "data_dir": "nowhere"}, "data_dir: received 'nowhere'"),
    ],
)
def test_bad_input_starts_nothing(store: Store, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as refusal:
        benchmark(**{"dataset": "digits", **settings})
    assert says in str(refusal.value)
    assert store.client.search_runs(["0"]) == []


def test_signals_are_heard_again_afterwards(store: Store) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        benchmark(**SETTINGS, seeds=1, executor=Cluster(interrupt_after=0))
    assert signal.getsignal(signal.SIGINT) == before


def test_models_are_compared_by_the_metric_that_was_asked_for(store: Store) -> None:
    settings = {**SETTINGS, "models": "mlp", "seeds": 2}
    with pytest.raises(ComparisonError, match=r"metric: received 'test_mea'.*--resume \w+") as told:
        benchmark(**settings, metric="test_mea", executor=Cluster())
    assert "test_mea" not in str(told.value).partition("compare them with")[2]
    assert len(of_kind(store, "training")) == 2

    parent = only(store, "benchmark").info.run_id
    again = benchmark(**settings, metric="val_loss", resume=parent, executor=Cluster())

    assert again.comparison is not None
    objective = again.comparison.comparison.objective
    assert (objective.metric, objective.smaller_is_better) == ("val_loss", True)
    with pytest.raises(InputError, match="one of the two directions"):
        benchmark(smaller_is_better=True, larger_is_better=True)
