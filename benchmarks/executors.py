"""What running trainings on a cluster costs beside the trainings themselves.

    python -m benchmarks.executors overhead     # a task on each executor, in CPU seconds
    python -m benchmarks.executors scheduler    # 2,000 stub jobs in the real scheduler, compared
    python -m benchmarks.executors simulate     # 10,000 trainings on 1,000 workers, discrete events

The first needs what `tests/ray_cluster.py` needs, the second starts a tracking server.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from subprocess import PIPE
from typing import Any

import psutil

from fm_mlflow.jobs.executors import Executor, Job, JobEnd, JobProgress, LocalExecutor
from fm_mlflow.listeners import Progress
from fm_mlflow.settings.placement import Placement


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["overhead", "scheduler", "simulate", "work"])
    parser.add_argument("--jobs", type=int, default=0)
    asked = parser.parse_args()
    if asked.what == "overhead":
        overhead(asked.jobs or 30)
    elif asked.what == "scheduler":
        scheduler(asked.jobs or 2000)
    elif asked.what == "work":
        _work()
    else:
        for seconds in (60, 1800):
            for servers in (1, 4, 8, 16, 32):
                print(simulate(10_000, 1_000, training_seconds=seconds, server_processes=servers))


# CPU of a task


def overhead(jobs: int) -> None:
    """Print the CPU seconds of a job that does nothing, on each executor, in turn.

    Counted are this process, workers and jobs; not what Ray's own servers take, which they do
    without jobs, too.
    """
    from fm_mlflow.jobs.ray_executor import RayExecutor
    from fm_mlflow.jobs.slurm_executor import SlurmConfig, SlurmExecutor
    from tests import ray_cluster

    seconds: dict[str, list[float]] = {}
    with ray_cluster.cluster(second=False) as nodes, tempfile.TemporaryDirectory() as folder:
        os.environ.update(nodes.environment_of_driver())
        config = SlurmConfig(cluster="local", folder=folder)
        placement = Placement(executor="ray", cpus=1)
        with RayExecutor(placement) as on_ray:
            _run(on_ray, 3)  # the worker starts once
            for _ in range(3):
                for name, executor in (
                    ("local", LocalExecutor(1)),
                    ("ray", on_ray),
                    ("slurm (submitit's local)", SlurmExecutor(Placement(), config)),
                ):
                    with nullcontext() if executor is on_ray else executor:
                        before = _cpu()
                        _run(executor, jobs // 3)
                        used = _cpu() - before
                    seconds.setdefault(name, []).append(used / (jobs // 3))
    print("| executor | CPU seconds a job (3 rounds) | more than local (medians) |\n|---|---|---|")
    local = sorted(seconds["local"])[1]
    for name, each in seconds.items():
        rounds = ", ".join(f"{value:.3f}" for value in each)
        print(f"| {name} | {rounds} | {sorted(each)[1] - local:+.3f} |")


def _run(executor: Executor, jobs: int) -> None:
    for number in range(jobs):
        executor.submit(Job(f"{number}", "nothing", ("--version",), {}))
        while not any(isinstance(event, JobEnd) for event in executor.events(60)):
            pass


def _cpu() -> float:
    """Return the CPU seconds of this process, of Ray's workers and of jobs that have ended."""
    own = psutil.Process().cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name().startswith("ray::") or "submitit" in " ".join(process.cmdline()):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        except psutil.Error:
            continue
    return total


# The scheduler


class _Stubs:
    """An executor whose jobs log at once what a training logs, from a process of their own."""

    _IN_FLIGHT = 4

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.jobs_per_machine = 1
        self._queue: deque[Job] = deque()
        self._sent: dict[str, Job] = {}
        command = [sys.executable, "-m", "benchmarks.executors", "work"]
        self._worker = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True)

    def __enter__(self) -> _Stubs:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.kill()
        self._worker.communicate()

    def submit(self, job: Job) -> None:
        self._queue.append(job)

    def events(self, seconds: float) -> Sequence[JobProgress | JobEnd]:
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        while self._queue and len(self._sent) < self._IN_FLIGHT:
            job = self._queue.popleft()
            self._sent[job.key] = job
            print(json.dumps([job.key, job.arguments]), file=self._worker.stdin, flush=True)
        job = self._sent.pop(self._worker.stdout.readline().strip())
        told: list[JobProgress | JobEnd] = [
            JobProgress(job, Progress(event="epoch", epoch=epoch, epochs=5), "a-host")
            for epoch in range(1, 6)
        ]
        return [*told, JobEnd(job, None, "what a training writes\n" * 20)]

    def stop(self, signum: int) -> Sequence[JobEnd]:
        return []


def _work() -> None:
    """Log a training for each job that comes, and say so."""
    from mlflow.tracking import MlflowClient

    from tests.cluster import config_of
    from tests.simulated import Simulated, log_run

    client = MlflowClient()
    for line in sys.stdin:
        run_id, arguments = json.loads(line)
        training = config_of(Job(run_id, "", tuple(arguments), {}))
        accuracy = {"mlp": 0.87, "cnn": 0.90}[training.model] + training.seed % 10 / 1000
        log_run(client, Simulated(training.model, training.seed, accuracy), run_id=run_id)
        print(run_id, flush=True)


@contextmanager
def _server() -> Iterator[Any]:
    from tests.stores import active_store, make_template, tracking_server

    with tempfile.TemporaryDirectory(prefix="fmsched-") as name:
        folder = Path(name)
        os.mkfifo(folder / "alive")
        alive = os.open(folder / "alive", os.O_RDWR)
        try:
            store = tracking_server(make_template(folder), folder)
            os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(folder / "journals")
            os.environ |= {"MLFLOW_TRACKING_URI": store.uri, "MLFLOW_EXPERIMENT_ID": "0"}
            with active_store(store):
                yield store
        finally:
            os.close(alive)


def scheduler(jobs: int) -> None:
    """Print CPU and memory of the parent of so many stub jobs, and what comparing them takes."""
    from benchmarks.compare_scale import COMPARE, timed
    from fm_mlflow import keys
    from fm_mlflow.jobs.trainings import Trainings
    from fm_mlflow.settings.config import BenchmarkConfig
    from fm_mlflow.terminal.benchmark_progress import PlainBenchmark
    from fm_mlflow.tracking.run import TrackedRun

    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    with _server() as store, open(os.devnull, "w", encoding="utf-8") as null:
        config = BenchmarkConfig(models="mlp,cnn", seeds=min(jobs // 2, 1000))
        count = len(config.trainings())
        board = PlainBenchmark(null)
        with _Stubs(min(1000, count)) as stubs, TrackedRun(keys.KIND_BENCHMARK, "stubs") as run:
            before, began = time.process_time(), time.monotonic()
            Trainings(run, config, stubs, board, []).run_all(config.trainings())
            cpu = time.process_time() - before
            wall = time.monotonic() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{count} jobs: {1000 * cpu / count:.1f} ms of CPU a job in the parent, at most "
            f"{peak:.0f} MiB, {wall:.0f} s ({count / wall:.0f} jobs a second)"
        )
        compared = timed(COMPARE, store.uri, store.folder)
        print(
            f"compare of {compared['runs']} runs of that server: {compared['elapsed']:.1f} s, of "
            f"which {compared['cpu']:.1f} s of CPU, at most {compared['peak_mib']:.0f} MiB"
        )


# A simulation


def simulate(
    trainings: int,
    workers: int,
    *,
    training_seconds: float = 60.0,
    epochs: int = 5,
    server_processes: int = 4,
    request_seconds: float = 0.010,
    requests_start: int = 15,
    requests_epoch: int = 4,
    requests_end: int = 30,
    heartbeat_seconds: float = 20.0,
    requests_heartbeat: int = 3,
    parent_seconds: float = 0.010,
    requests_parent: int = 2,
    losses_per_hour: float = 0.05,
    seed: int = 0,
) -> dict[str, float]:
    """Simulate a benchmark by discrete events; the tracking server is a queue.

    Args:
        trainings: How many, all alike but for 20% of chance in their times.
        workers: How many at a time.
        training_seconds: Of one, on a machine of its own.
        epochs: Of one.
        server_processes: Requests that the tracking server answers at a time.
        request_seconds: For each.
        requests_start: Requests of a training when it begins.
        requests_epoch: After each epoch.
        requests_end: At its end, files included.
        heartbeat_seconds: Between two heartbeats.
        requests_heartbeat: Of each.
        parent_seconds: CPU of the scheduler for a job.
        requests_parent: Its requests at the start of a job, and as many at the end.
        losses_per_hour: Chance that a machine dies within an hour; half of the work is lost.
        seed: Of chance.

    Returns:
        Hours, the shares of time in which server and parent are busy, the longest wait for the
        server, trainings that were lost and, for comparison, the hours without any limit.
    """
    chance = random.Random(seed)
    seconds = training_seconds / epochs
    beats = seconds / heartbeat_seconds * requests_heartbeat
    # How long until its next batch of requests, and how many these are.
    steps = [(8.0, requests_start), *[(seconds, requests_epoch + round(beats))] * epochs]
    steps.append((1.0, requests_end))
    free = [0.0] * server_processes
    server_busy = parent_busy = parent_free = longest = now = 0.0
    lost, waiting, done = 0, trainings, 0
    events: list[tuple[float, int, int, bool]] = []  # time, worker, step, whether that is over

    def serve(requests: int) -> float:
        """Queue requests that arrive now; return when they have been answered."""
        nonlocal server_busy, longest
        begin = max(heapq.heappop(free), now)
        heapq.heappush(free, begin + requests * request_seconds)
        server_busy += requests * request_seconds
        longest = max(longest, begin - now)
        return begin + requests * request_seconds

    def schedule(requests: int) -> float:
        """Have the parent, which does one thing after the other, do something for a job."""
        nonlocal parent_free, parent_busy
        began = max(parent_free, now)
        parent_free = max(began, serve(requests)) + parent_seconds / 2
        parent_busy += parent_free - began
        return parent_free

    for worker in range(min(workers, trainings)):
        heapq.heappush(events, (0.0, worker, -1, True))
    while events:
        now, worker, step, is_over = heapq.heappop(events)
        if not is_over:
            length = steps[step][0] * chance.uniform(0.8, 1.2)
            if chance.random() < losses_per_hour * length / 3600:
                lost += 1  # found out and started again after 10 s, from the epoch before
                again = now + length / 2 + 10
                heapq.heappush(events, (again, worker, max(0, step - 1), False))
            else:
                heapq.heappush(events, (now + length, worker, step, True))
        elif step in (-1, len(steps)):
            done += step > 0
            if step > 0:
                schedule(requests_parent)
            if waiting:
                waiting -= 1
                heapq.heappush(events, (schedule(requests_parent), worker, 0, False))
        else:
            answered = serve(steps[step][1])
            # Only beginning and end wait for the server: epochs are journaled.
            waits = step in (0, len(steps) - 1)
            after = (step + 1, step + 1 == len(steps))
            heapq.heappush(events, (answered if waits else now, worker, *after))
    ideal = trainings / workers * sum(length for length, _ in steps)
    return {
        "trainings": done,
        "workers": workers,
        "server_processes": server_processes,
        "hours": round(now / 3600, 2),
        "hours_without_limits": round(ideal / 3600, 2),
        "server_busy_percent": round(100 * server_busy / server_processes / now),
        "parent_busy_percent": round(100 * parent_busy / now),
        "longest_wait_s": round(longest, 1),
        "lost": lost,
    }


if __name__ == "__main__":
    main()
