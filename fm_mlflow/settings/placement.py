"""Settings of where trainings run, and of how what they log gets from there to the store."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fm_mlflow.settings.base import Optional, Settings

LOCAL = "local"
"""The executor that runs trainings as processes of this machine."""

FLUSH_TIMEOUT: float = Field(
    60.0,
    ge=0,
    le=604_800,
    description="Seconds to wait at the end for a store that does not answer; what it lacks "
    "then stays in the run's journal for `fm-mlflow sync`.",
)

CHECKPOINT_SECONDS: float = Field(
    60.0,
    ge=0,
    le=604_800,
    description="Seconds between two checkpoints that go into the store, for `resume` on another "
    "machine. On this one there is one of each epoch.",
)


class Placement(Settings):
    """Where trainings run, and what each of them needs there."""

    group: ClassVar[str] = "Where trainings run"

    executor: str = Field(
        LOCAL,
        description="Where trainings run: local (`jobs` processes of this machine), ray, slurm, or "
        "the name of an executor that a package brings.",
    )
    executor_config: str = Field(
        "", description="File of the executor's own settings, .toml, .json or .yaml."
    )
    cpus: Optional[int] = Field(
        None,
        ge=1,
        le=10_000,
        description="CPU cores that each training asks a cluster for; empty: a machine each.",
    )
    gpus: float = Field(
        0.0, ge=0, le=1000, description="GPUs that each training asks a cluster for."
    )
    memory_gib: Optional[float] = Field(
        None, gt=0, le=100_000, description="Memory in GiB that each asks for; empty: any."
    )
    ship_code: bool = Field(
        False,
        description="Send the working directory along: models by file.py:function need it where "
        "machines do not share it.",
    )
    retries: int = Field(
        2,
        ge=0,
        le=1000,
        description="How often a training that is lost with its machine is resumed elsewhere.",
    )
