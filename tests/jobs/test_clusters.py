"""Jobs on clusters: what is heard of them, who ends them, and how executors are chosen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.executors import simulate
from fm_mlflow import InputError, __version__
from fm_mlflow.jobs.child import run_child
from fm_mlflow.jobs.choose import executor_of
from fm_mlflow.jobs.executors import Executor, Job, JobEnd, JobProgress, LocalExecutor
from fm_mlflow.jobs.heard import Heard
from fm_mlflow.jobs.places import Places
from fm_mlflow.jobs.ray_executor import RayConfig, RayExecutor
from fm_mlflow.jobs.slurm_executor import SlurmConfig, SlurmExecutor
from fm_mlflow.settings.placement import Placement
from tests import ray_cluster
from tests.processes import START_SECONDS, is_running, wait_for

GOOD = Job("1", "good", ("--version",), {})
BAD = Job("2", "bad", ("train", "--epochs=0"), {})
CAUSE = "epochs: received '0', accepted: a whole number from 1 to 1000000"
SLEEPS = """
import os, pathlib, runpy, time
def sleep(*_, **__):
    pathlib.Path({pid!r}).write_text(str(os.getpid()))
    print(os.environ.get("OMP_NUM_THREADS"), [n for n in os.environ if n.startswith("RAY_")])
    print("niceness", os.nice(0), flush=True)
    time.sleep(600)
runpy.run_module = sleep
"""
"""What a child does instead of a training, by Python's own hook."""


@pytest.fixture
def sleeper(tmp_path: Path) -> tuple[Job, Path]:
    """A job that sleeps instead of training, and the file with its pid."""
    pid = tmp_path / "pid"
    (tmp_path / "sitecustomize.py").write_text(SLEEPS.format(pid=str(pid)))
    path = os.pathsep.join([str(tmp_path), *sys.path])
    return Job("3", "sleeper", ("--version",), {"PYTHONPATH": path}), pid


def ends(executor: Executor, count: int) -> tuple[dict[str, JobEnd], list[JobProgress]]:
    """Listen until so many jobs have ended."""
    found: dict[str, JobEnd] = {}
    told: list[JobProgress] = []
    until = time.monotonic() + START_SECONDS
    while len(found) < count:
        assert time.monotonic() < until, f"only {found}"
        for event in executor.events(1.0):
            if isinstance(event, JobEnd):
                found[event.job.name] = event
            else:
                told.append(event)
    return found, told


def check_good_and_bad(executor: Executor) -> list[JobProgress]:
    executor.submit(GOOD)
    executor.submit(BAD)
    found, told = ends(executor, 2)
    assert found["good"] == JobEnd(GOOD, None, f"fm_mlflow {__version__}\n")
    assert found["bad"] == JobEnd(BAD, CAUSE, f"fm-mlflow: {CAUSE}\n")
    assert [each.progress.text for each in told if each.progress.event == "error"] == [CAUSE]
    return told


class TestChild:
    """What a worker does, in this process."""

    def test_it_dies_with_its_worker(self, sleeper: tuple[Job, Path]) -> None:
        job, pid = sleeper
        code = f"import fm_mlflow.jobs.child as c; list(c.run_child({job.arguments!r}, {{}}))"
        environment = {**os.environ, **{k: str(v) for k, v in job.environment.items()}}
        worker = subprocess.Popen([sys.executable, "-c", code], env=environment)
        wait_for(lambda: pid.exists() and pid.read_text() != "", "the child")
        child = int(pid.read_text())
        worker.kill()
        worker.wait()
        wait_for(lambda: not is_running(child), "the end of the child", 10)

    def test_it_inherits_nothing_of_rays_and_stops_when_asked(
        self, sleeper: tuple[Job, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job, pid = sleeper
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.setenv("RAY_JOB_ID", "1")
        messages = run_child(job.arguments, job.environment)
        assert json.loads(next(messages)).keys() == {"place"}

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(signal, "default_int_handler", interrupt)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 3)
            (end,) = [json.loads(text) for text in messages]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert end["code"] == -signal.SIGTERM
        assert end["output"].startswith("None []\nniceness 0\n")
        assert not is_running(int(pid.read_text()))


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (0, "done"),
        (1, "failed"),
        (2, "failed"),
        (-11, "failed"),
        (-9, "lost"),
        (-15, "lost"),
        (143, "lost"),  # the node shuts down: the training has closed its run
    ],
)
def test_what_becomes_of_a_child(code: int, outcome: str) -> None:
    heard = Heard(GOOD)
    list(heard.events('{"place": "a-host"}'))
    assert list(heard.events("damaged")) == []
    (end,) = heard.events(json.dumps({"code": code, "output": "text"}))
    assert isinstance(end, JobEnd)
    assert end.outcome == outcome
    assert heard.is_over


def test_how_many_were_on_a_machine() -> None:
    places = Places()
    for run, host in (("1", "a"), ("2", "a"), ("3", "b"), ("1", "a")):
        places.enter(run, host)
    places.leave("1")
    places.enter("4", "a")
    places.enter("5", "")
    assert [places.most(run) for run in "12345"] == [2, 2, 1, 2, None]


class TestSlurm:
    """By submitit's executor on this machine; there is no Slurm here."""

    @pytest.fixture
    def executor(self, tmp_path: Path) -> Iterator[SlurmExecutor]:
        pytest.importorskip("submitit", reason="submitit is not installed (extra `slurm`)")
        config = SlurmConfig(folder=str(tmp_path / "jobs"), cluster="local", slots=3)
        with SlurmExecutor(Placement(executor="slurm"), config) as executor:
            yield executor

    def test_jobs_tell_their_places_and_ends(self, executor: SlurmExecutor) -> None:
        told = check_good_and_bad(executor)
        assert {each.place for each in told} == {os.uname().nodename}
        assert executor.jobs_per_machine == 3

    def test_one_whose_machine_dies_is_lost_and_one_that_is_stopped_is_not(
        self, executor: SlurmExecutor, sleeper: tuple[Job, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fm_mlflow.jobs.slurm_executor._LOOK_SECONDS", 0.5)
        job, pid = sleeper
        executor.submit(job)
        executor.events(0)
        wait_for(lambda: pid.exists() and pid.read_text() != "", "the child")
        child = psutil.Process(int(pid.read_text()))
        worker = child.parent()
        assert worker is not None
        for each in (worker.parent(), worker):
            if each is not None:
                each.kill()
        found, _ = ends(executor, 1)
        assert found["sleeper"].outcome == "lost"
        wait_for(lambda: not is_running(child.pid), "the end of the child", 10)
        pid.unlink()
        executor.submit(job)
        executor.events(0)
        wait_for(lambda: pid.exists() and pid.read_text() != "", "the child")
        worker = psutil.Process(int(pid.read_text())).parent()
        assert worker is not None
        worker.send_signal(signal.SIGUSR2)  # it is wanted for another job
        found, _ = ends(executor, 1)
        assert (found["sleeper"].outcome, "niceness" in found["sleeper"].output) == ("lost", True)
        assert not is_running(int(pid.read_text()))
        pid.unlink()
        executor.submit(job)
        executor.events(0)
        wait_for(lambda: pid.exists() and pid.read_text() != "", "the child")
        (end,) = executor.stop(signal.SIGINT)
        assert (end.cause, end.outcome) == ("stopped by SIGINT", "failed")
        assert not is_running(int(pid.read_text()))


class TestRay:
    """Two nodes on this machine."""

    def test_jobs_run_on_both_nodes_and_a_lost_one_is_told(
        self, sleeper: tuple[Job, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if reason := ray_cluster.problem():
            pytest.skip(reason)
        job, pid = sleeper
        placement = Placement(executor="ray", cpus=1)
        with ray_cluster.cluster(second=False) as nodes:
            for name, value in nodes.environment_of_driver().items():
                monkeypatch.setenv(name, value)
            too_large = RayExecutor(Placement(executor="ray", cpus=7))
            with pytest.raises(InputError, match=r"^cpus: received '7 CPUs, 0 GPUs', accepted:"):
                too_large.__enter__()
            shipped = tmp_path / "shipped"
            shipped.mkdir()
            (shipped / "mine.npz").write_text("here")
            (shipped / ".env.npz").write_text("a secret")
            monkeypatch.chdir(shipped)
            with RayExecutor(Placement(executor="ray", cpus=1, ship_code=True)) as shipping:
                # With one node: two on one machine share the folder that they unpack to.
                causes = []
                for name in ("mine.npz", ".env.npz"):
                    shipping.submit(Job(name, name, ("train", "--dataset", name), {}))
                    causes.append(str(ends(shipping, 1)[0][name].cause))
                assert "mine.npz: BadZipFile" in causes[0]  # it is there
                assert "BadZipFile" not in causes[1]
            nodes.add_second()
            handler = signal.getsignal(signal.SIGTERM)
            with RayExecutor(placement) as executor:
                assert signal.getsignal(signal.SIGTERM) == handler
                wait_for(lambda: executor.slots == 2, "the second node", 30)
                assert executor.jobs_per_machine == 1
                told = check_good_and_bad(executor)
                hosts = {os.uname().nodename, ray_cluster.SECOND_HOST}
                assert {each.place for each in told} <= hosts
                # One for each node: of these, the one of the node that dies is lost.
                other = Job("4", "other", job.arguments, job.environment)
                executor.submit(job)
                executor.submit(other)
                places: dict[str, str] = {}
                while len(places) < 2:
                    for event in executor.events(10):
                        assert isinstance(event, JobProgress)
                        places[event.job.name] = event.place
                assert set(places.values()) == hosts
                nodes.kill_second()
                found, _ = ends(executor, 1)
                ((name, end),) = found.items()
                assert places[name] == ray_cluster.SECOND_HOST
                assert (end.outcome, end.output) == ("lost", "")
                wait_for(lambda: executor.slots == 1, "one machine less", 30)
                wait_for(lambda: pid.exists() and pid.read_text() != "", "the child")
                (stopped,) = executor.stop(signal.SIGINT)
                assert stopped.cause == "stopped by SIGINT"

    def test_no_cluster_at_the_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("ray", reason="Ray is not installed (extra `ray`)")
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        executor = RayExecutor(Placement(executor="ray"), RayConfig(address="nowhere"))
        with pytest.raises(
            InputError, match=r"^address: received 'nowhere', accepted: the address"
        ):
            executor.__enter__()


PLUGIN = """
from fm_mlflow.jobs.executors import LocalExecutor
def make(placement, config):
    executor = LocalExecutor(2)
    executor.told = (placement.cpus, config)
    return executor
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that brings an executor, installed in a folder of the search path."""
    (tmp_path / "threes.py").write_text(PLUGIN)
    info = tmp_path / "threes-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: threes\nVersion: 1\n")
    entry_points = "[fm_mlflow.executors]\nthrees = threes:make\nbroken = threes:nothing\n"
    (info / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(str(tmp_path))


class TestChoice:
    """Which executor a name stands for."""

    @pytest.mark.parametrize(
        ("name", "text"),
        [("c.json", '{"a": 1}'), ("c.yaml", "a: 1\n"), ("c.toml", "a = 1\n")],
    )
    @pytest.mark.usefixtures("plugin")
    def test_one_that_a_package_brings(self, tmp_path: Path, name: str, text: str) -> None:
        if name.endswith(".toml") and sys.version_info < (3, 11):
            pytest.skip("TOML needs Python 3.11")
        path = tmp_path / name
        path.write_text(text)
        placement = Placement(executor="threes", cpus=3, executor_config=str(path))
        executor: Any = executor_of(placement)
        assert isinstance(executor, LocalExecutor)
        assert executor.told == (3, {"a": 1})  # type: ignore[attr-defined]

    @pytest.mark.usefixtures("plugin")
    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"executor": "nope"}, "executor: received 'nope', accepted: one of local, ray, slurm"),
            ({"executor": "broken"}, "executor: received 'broken', accepted: one that can be loa"),
            ({"cpus": 2}, "cpus: received 2, accepted: nothing with the executor local"),
            ({"executor_config": "x.ini"}, "accepted: a .toml, .json or .yaml file"),
            ({"executor_config": "no.json"}, "executor_config: received 'no.json', accepted: a"),
        ],
    )
    def test_what_is_refused(self, settings: Mapping[str, Any], says: str) -> None:
        with pytest.raises(InputError) as refused:
            executor_of(Placement(**settings))
        assert says in str(refused.value)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[1]", "file that holds a mapping"),
            ("{", "file that holds a mapping ("),
            ('{"adress": "auto"}', "accepted: one of the parameters address, slots, variables"),
            ('{"slots": 0}', "slots: received 0, accepted: a whole number from 1"),
            ('{"variables": 3}', "variables: received 3, accepted: a list of names"),
        ],
    )
    def test_what_a_configuration_may_not_say(self, tmp_path: Path, text: str, says: str) -> None:
        path = tmp_path / "ray.json"
        path.write_text(text)
        with pytest.raises(InputError) as refused:
            executor_of(Placement(executor="ray", executor_config=str(path)))
        assert says in str(refused.value)

    def test_jobs_are_of_this_machine(self) -> None:
        with pytest.raises(InputError, match=r"^jobs: received 2, accepted: 1 with other"):
            executor_of(Placement(executor="slurm"), 2)


def test_a_simulated_cluster() -> None:
    quiet = simulate(200, 10, server_processes=1000, losses_per_hour=0)
    assert (quiet["trainings"], quiet["lost"], quiet["longest_wait_s"]) == (200, 0, 0)
    assert quiet["hours"] == pytest.approx(quiet["hours_without_limits"], rel=0.1)
    slow = simulate(200, 10, server_processes=1, request_seconds=0.5, losses_per_hour=20)
    assert slow["trainings"] == 200
    assert slow["lost"] > 0
    assert slow["server_busy_percent"] > 90
    assert slow["hours"] > 2 * quiet["hours"]
