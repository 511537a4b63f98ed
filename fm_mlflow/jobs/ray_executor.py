"""Trainings on a Ray cluster: a task each, in workers that are used again (extra `ray`)."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import Field

from fm_mlflow.errors import InputError
from fm_mlflow.jobs.child import STOP_SECONDS, run_child
from fm_mlflow.jobs.executors import Job, JobEnd, JobProgress
from fm_mlflow.jobs.heard import Heard
from fm_mlflow.process.redaction import one_line
from fm_mlflow.settings.base import Optional, Settings
from fm_mlflow.settings.placement import Placement

_NOT_SHIPPED = (
    *(".git", ".venv", "venv", "__pycache__", "mlruns", "mlartifacts", "*.db", ".fm_mlflow"),
    *(".env*", "*.pem", "*.key"),
)
_LOOK_SECONDS = 5.0
_GIB = 1024**3


class RayConfig(Settings):
    """Settings of the executor `ray`, in the file of `--executor-config`."""

    address: str = Field(
        "auto", description="Of the cluster; auto: $RAY_ADDRESS, or the one on this machine."
    )
    slots: Optional[int] = Field(
        None, ge=1, description="Trainings at a time; empty: as many as there is room for."
    )
    variables: tuple[str, ...] = Field(
        (),
        description="Names of variables of this environment that trainings get, such as those of "
        "the tracking server's password.",
        json_schema_extra={"accepted": "a list of names of variables"},
    )


class RayExecutor:
    """Runs each job as a child process of a Ray worker.

    Ray retries nothing: it would train a run a second time beside one that is only cut off.

    Args:
        placement: What each training asks for.
        config: Of the cluster.
    """

    def __init__(self, placement: Placement, config: RayConfig | None = None) -> None:
        self._placement = placement
        self._config = config or RayConfig()
        self._heard: dict[Any, Heard] = {}
        self._looked = -math.inf
        self._room: list[int] = []
        self._started = False

    def __enter__(self) -> RayExecutor:
        """Connect to the cluster.

        Raises:
            InputError: There is none, or no machine of it has what a training asks for.
        """
        try:
            import ray
        except ImportError as error:
            accepted = "an environment with Ray: pip install 'fm_mlflow[ray]'"
            raise InputError("executor", "ray", accepted) from error
        self._ray = ray
        if not ray.is_initialized():
            self._connect()
        cores = [found.get("CPU", 0.0) for found in self._machines()]
        self._cpus = self._placement.cpus or int(min(filter(None, cores), default=1))
        if not self._config.slots and not sum(self._rooms()):
            self.__exit__()
            asked = f"{self._cpus} CPUs, {self._placement.gpus:g} GPUs"
            if self._placement.memory_gib:
                asked += f", {self._placement.memory_gib:g} GiB"
            accepted = "what a machine of the cluster has, or an executor_config with slots"
            raise InputError("cpus", asked, accepted)
        options: dict[str, Any] = {
            "num_cpus": self._cpus,
            "num_gpus": self._placement.gpus,
            "max_retries": 0,
            "num_returns": "streaming",
            "scheduling_strategy": "SPREAD",
        }
        if self._placement.memory_gib:
            options["memory"] = int(self._placement.memory_gib * _GIB)
        self._run = ray.remote(run_child).options(**options)
        return self

    def _connect(self) -> None:
        # Ray sets handlers of its own, which end the process at once.
        handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
        environment: dict[str, Any] = {}
        if self._placement.ship_code:
            environment = {"working_dir": os.getcwd(), "excludes": list(_NOT_SHIPPED)}
        try:
            self._ray.init(
                address=self._config.address,
                runtime_env=environment,
                log_to_driver=False,
                configure_logging=False,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            accepted = f"the address of a Ray cluster that runs ({one_line(error)})"
            raise InputError("address", self._config.address, accepted) from error
        finally:
            for signum, handler in handlers.items():
                with suppress(ValueError):  # not in the main thread
                    signal.signal(signum, handler)
        self._started = True

    def __exit__(self, *_: object) -> None:
        """Stop what still runs, without waiting for it, and leave the cluster."""
        for task in self._heard:
            self._ray.cancel(task, force=True)
        self._heard.clear()
        if self._started:
            self._ray.shutdown()
            self._started = False

    def _machines(self) -> list[Mapping[str, float]]:
        return [each["Resources"] for each in self._ray.nodes() if each["Alive"]]

    def _rooms(self) -> list[int]:
        """Return how many trainings each machine has room for."""
        asked = {
            "CPU": float(self._cpus),
            "GPU": self._placement.gpus,
            "memory": (self._placement.memory_gib or 0) * _GIB,
        }
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._room = [
                int(min(found.get(name, 0.0) // need for name, need in asked.items() if need))
                for found in self._machines()
            ]
        return self._room

    @property
    def slots(self) -> int:
        """How many trainings the machines that are there now have room for; at least one."""
        return self._config.slots or max(1, sum(self._rooms()))

    @property
    def jobs_per_machine(self) -> int:
        """How many trainings share a machine, at most."""
        return max(1, *self._rooms(), 1)

    def submit(self, job: Job) -> None:
        """Queue a task."""
        given = {name: os.environ.get(name) for name in self._config.variables}
        task = self._run.remote(job.arguments, {**given, **job.environment}, 0)
        self._heard[task] = Heard(job)

    def events(self, seconds: float) -> list[JobProgress | JobEnd]:
        """Return what jobs tell and their ends; wait for the first, at most so long."""
        if not self._heard:
            time.sleep(seconds)
            return []
        tasks = list(self._heard)
        ready, _ = self._ray.wait(tasks, num_returns=1, timeout=seconds, fetch_local=False)
        if ready and len(tasks) > 1:  # what else there is, too
            ready, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0, fetch_local=False)
        events: list[JobProgress | JobEnd] = []
        for task in ready:
            heard = self._heard[task]
            events += self._next(task, heard)
            if heard.is_over:
                del self._heard[task]
        return events

    def _next(self, task: Any, heard: Heard) -> list[JobProgress | JobEnd]:
        """Return what the next message of a task says, or why there is none any more."""
        errors = self._ray.exceptions
        try:
            return list(heard.events(self._ray.get(next(task))))
        except StopIteration:
            return [heard.end("it was stopped")]
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            # The worker's own: fm_mlflow is not installed there, say.
            return [heard.end(one_line(getattr(error, "cause", None) or error))]
        except errors.TaskCancelledError:
            return [heard.end("it was stopped")]
        except errors.RayError as error:
            return [heard.end(f"{type(error).__name__}: {one_line(error)}", is_lost=True)]

    def stop(self, signum: int) -> Sequence[JobEnd]:
        """Have all workers stop their trainings; wait until those have closed their runs."""
        for task in self._heard:
            self._ray.cancel(task)
        ends: list[JobEnd] = []
        deadline = time.monotonic() + STOP_SECONDS + _LOOK_SECONDS
        while self._heard and time.monotonic() < deadline:
            ends += [event for event in self.events(1.0) if isinstance(event, JobEnd)]
        for task, heard in self._heard.items():  # a machine that does not answer, say
            self._ray.cancel(task, force=True)
            ends.append(heard.end(""))
        self._heard.clear()
        name = signal.Signals(signum).name
        return [JobEnd(end.job, f"stopped by {name}", end.output) for end in ends]
