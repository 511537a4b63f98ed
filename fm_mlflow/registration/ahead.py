"""The process that is to run a model, started before anything else of a registration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fm_mlflow.process.beside import is_new_command
from fm_mlflow.process.confined import start_ahead
from fm_mlflow.process.identity import usable_cores
from fm_mlflow.process.waiting import Waiting

WORKSPACE = "verification"
"""Its folder, within that of the registration."""

# It has no store to ask, and nobody to tell.
VARIABLES = {"MLFLOW_DISABLE_TELEMETRY": "true"}
"""What its environment has beside what every confined program gets."""

_PREPARE = "fm_mlflow.registration.fresh_imports:prepare"


@contextmanager
def fresh_process_ahead(folder: Path) -> Iterator[Waiting | None]:
    """Start the process that is to run a model, where this is a command's on several cores.

    Its libraries take seconds to import; what it imports is ours and theirs, nothing of a model.

    Args:
        folder: Workspace, which will hold the model's folder.
    """
    if not is_new_command() or (usable_cores() or 1) < 2:
        yield None
        return
    (folder / WORKSPACE).mkdir()
    with start_ahead(_PREPARE, folder / WORKSPACE, VARIABLES) as process:
        yield process
