"""`track`: a script of one's own under a tracked run, with what it costs."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from fm_mlflow.errors import Interrupted
from fm_mlflow.process.signals import guard
from fm_mlflow.scripts.script_settings import ScriptSettings
from fm_mlflow.scripts.tracked import Tracked
from fm_mlflow.settings.base import parse


def track(
    name: str = "",
    *,
    seed: int | None = None,
    dataset: str = "",
    data: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    measure: str = "flops,latency,memory,energy",
    flush_timeout: float = 60.0,
    quiet: bool = False,
) -> AbstractContextManager[Tracked]:
    """Track a script: open it before the model is built, so that memory has its phases.

    The run has what a run of `fm-mlflow train` has: a journal that survives an outage of the store
    and a crash, a heartbeat, its true status, tags of the machine. It joins an active MLflow run.

    Args:
        name: What is trained, as comparisons call it; by default the model's name.
        seed: Sets Python's, NumPy's and the backend's random state; logged.
        dataset: Name of the data.
        data: Arrays by context (`training`, `validation`, `test`), each inputs or (inputs,
            targets): logged as inputs of the run, by digest, which tells data sets apart.
        params: Parameters of the script's own.
        measure: Costs to measure, any of `flops`, `latency`, `memory` and `energy`, with commas;
            or `none`.
        flush_timeout: Seconds that the end waits for a store that does not answer.
        quiet: Do not say at the end, on stderr, where the run is.

    Raises:
        InputError: A parameter was refused; nothing was started.
        TrackingError: The tracking store refused. (When it does not answer, the script goes on.)

    Examples:
        >>> with fm_mlflow.track("wide", seed=1, dataset="housing") as run:
        ...     model = build()
        ...     model.fit(x, y, epochs=5, callbacks=[run.costs])
        ...     run.evaluate(model, x_test, y_test)
        ...     run.log_model(model, x_test[:8])
    """
    values = {"name": name, "seed": seed, "dataset": dataset, "measure": measure}
    settings = parse(ScriptSettings, {**values, "flush_timeout": flush_timeout, "quiet": quiet})
    return _tracked(Tracked(settings, params, data), seed)


@contextmanager
def _tracked(run: Tracked, seed: int | None) -> Iterator[Tracked]:
    with guard():
        run.open()
        try:
            run.start(seed)
            yield run
            run.finish()
        except BaseException as error:
            run.close(error)
            if isinstance(error, Interrupted) and error.signum == signal.SIGINT:
                # Python ends a program by SIGINT, as a shell's loop needs, for this class only.
                raise KeyboardInterrupt(str(error)) from error
            raise
        run.close()
