"""Benchmarks whose store goes away: they survive what their trainings survive."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from fm_mlflow import TrackingError, benchmark, keys, sync
from fm_mlflow.jobs import trainings
from fm_mlflow.jobs.executors import JobEnd, JobProgress
from fm_mlflow.jobs.trainings import Trainings
from fm_mlflow.listeners import BenchmarkListener, Progress
from fm_mlflow.tracking.child_runs import children_of, create_child
from fm_mlflow.tracking.run import TrackedRun
from tests.cluster import Cluster
from tests.outages import Line, Way
from tests.stores import Store, active_store

SETTINGS: dict[str, Any] = {"models": "mlp,cnn", "seeds": 1, "dataset": "digits", "output": "out"}


@pytest.fixture
def line(server: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A way to the server that can be cut; an experiment of the test's own there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", str(tmp_path))
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(trainings, "_RETRY_SECONDS", 0.05)
    made = Line(server)
    with active_store(made.store(server)):
        yield made
    made.close()


class Outage(Cluster):
    """The store goes away when the first training ends, and may come back a while later.

    Args:
        line: The way to the store.
        lasts: For how many looks at the jobs it is away.
    """

    def __init__(self, line: Line, lasts: float) -> None:
        super().__init__(slots=1)
        self._line = line
        self._left = lasts

    def events(self, seconds: float) -> Sequence[JobProgress | JobEnd]:
        if len(self.jobs) == 1 and not self._queue:
            self._left -= 1
            if self._left == 0:
                self._line.set(Way.OPEN)
        found = super().events(seconds)
        if found and len(self.jobs) == 1:
            self._line.set(Way.CUT)
            told = Progress(event="result", metrics={keys.TEST_ACCURACY: 0.5})
            return [JobProgress(found[0].job, told), *found]
        return found


class Heard(BenchmarkListener):
    def __init__(self) -> None:
        self.notices: list[str] = []
        self.accuracies: list[float | None] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def ended(self, outcome: Any) -> None:
        self.accuracies.append(outcome.test_accuracy)


def test_a_store_that_comes_back(line: Line) -> None:
    heard = Heard()
    cluster = Outage(line, lasts=6)
    result = benchmark(**SETTINGS, progress=heard, executor=cluster)
    assert heard.accuracies[0] == 0.5  # as the training said
    assert [each.test_accuracy for each in result.trainings] == [
        {"mlp": 0.87, "cnn": 0.90}[each.model] for each in result.trainings
    ]
    first, second = heard.notices
    assert "does not answer (ConnectionError)" in first
    assert first.endswith("for now the training's own word counts")
    assert second.endswith("the next training waits for it")
    client = MlflowClient()
    assert client.get_run(result.run_id).info.status == "FINISHED"
    children = children_of(result.run_id)
    assert [each.run_id for each in children] == [each.run_id for each in result.trainings]
    for child in children:
        assert child.status == "FINISHED"
        assert any(each.path == "output.log" for each in client.list_artifacts(child.run_id))
    assert result.comparison is not None


def test_a_store_that_stays_away(line: Line) -> None:
    cluster = Outage(line, lasts=math.inf)
    with pytest.raises(TrackingError) as error:
        benchmark(**{**SETTINGS, "models": "mlp", "flush_timeout": 0}, executor=cluster)
    assert str(error.value).startswith(
        "the tracking store does not answer; 1 training ended meanwhile, and `fm-mlflow sync` "
        "delivers what is pending; continue it with: fm-mlflow benchmark --resume "
    )
    line.set(Way.OPEN)
    (delivered,) = sync().journals  # the benchmark's own journal
    assert delivered.pending == ""
    assert MlflowClient().get_run(delivered.run_id).data.tags[keys.ERROR] == str(error.value)
    idle = Cluster()
    result = benchmark(resume=delivered.run_id, executor=idle)
    assert idle.started == []
    assert [each.test_accuracy for each in result.trainings] == [0.87]
    assert result.comparison is not None


def test_the_comparison_waits_for_the_store(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Trainings.settle

    def then_cut(self: Trainings, *arguments: Any) -> int:
        left = settle(self, *arguments)
        line.set(Way.CUT)
        threading.Timer(0.5, line.set, [Way.OPEN]).start()
        return left

    monkeypatch.setattr(Trainings, "settle", then_cut)
    result = benchmark(**{**SETTINGS, "models": "mlp"}, executor=Cluster())
    assert result.comparison is not None


def test_patience_has_an_end(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "_PATIENCE_SECONDS", 0.2)
    with pytest.raises(
        TrackingError, match=r"does not answer .*; continue it with: fm-mlflow benchmark"
    ):
        benchmark(**SETTINGS, flush_timeout=0, executor=Outage(line, lasts=math.inf))


def test_a_run_whose_creation_was_not_acknowledged(line: Line) -> None:
    with TrackedRun(keys.KIND_BENCHMARK, "a benchmark") as parent:
        first = create_child(parent, "mlp", "mlp", 1, "identity")
        again = create_child(parent, "mlp", "mlp", 1, "identity", is_repeated=True)
        other = create_child(parent, "mlp", "mlp", 1, "another")
    assert first == again != other
    assert len(children_of(parent.run_id)) == 2
    for run_id in (first, other):
        MlflowClient().set_terminated(run_id)
