"""What `track` gives a script: its run, the callback for its fits, epochs of its own loops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fm_mlflow import keys
from fm_mlflow.measure.memory import MODEL, TRAINING
from fm_mlflow.scripts.script_run import ScriptRun

if TYPE_CHECKING:
    import keras

    from fm_mlflow.scripts.cost_callback import CostCallback


class Tracked(ScriptRun):
    """The run of a script, inside the block of `track`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._costs: CostCallback | None = None
        self._seconds: list[float] = []
        self._examples = 0
        self._measured: tuple[keras.Model, Any, Any, int] | None = None

    def open(self) -> None:
        """Open the run, or join the active one; that of a fit which an error ended is closed."""
        from fm_mlflow.scripts.cost_callback import end_dead_fits

        end_dead_fits()
        super().open()

    def start(self, seed: int | None) -> None:
        """Set the random states; what follows is the building of a model."""
        import keras

        if seed is not None:
            keras.utils.set_random_seed(seed)
        self.phase(MODEL)

    @property
    def costs(self) -> CostCallback:
        """The callback for `model.fit`: logs each epoch here; the costs follow at the end."""
        from fm_mlflow.scripts.cost_callback import CostCallback

        if self._costs is None:
            self._costs = CostCallback(run=self)
        return self._costs

    @contextmanager
    def epoch(self, examples: int = 0) -> Iterator[dict[str, float]]:
        """Time one epoch of a loop of one's own, and log it.

        Args:
            examples: That it trains on.

        Yields:
            A dictionary for the epoch's metrics: `loss`, `val_loss`, …
        """
        if not self._seconds:
            self.phase(TRAINING)
        began = time.perf_counter()
        metrics: dict[str, float] = {}
        yield metrics
        seconds = time.perf_counter() - began
        self._seconds.append(seconds)
        self._examples = examples
        self.log_epoch({**self.names.logged(metrics), keys.EPOCH_SECONDS: seconds})

    def measure(self, model: keras.Model, x: Any, y: Any = None, *, batch_size: int = 64) -> None:
        """Say what a loop of one's own trained, so that its costs can be measured at the end.

        Args:
            model: The Keras model; where it is compiled, its training step is profiled too.
            x: A few hundred inputs.
            y: Their targets.
            batch_size: Examples a step.
        """
        self._measured = (model, x, y, batch_size)

    def finish(self) -> None:
        """Measure and log what was trained in the block."""
        if self._measured is not None:
            from fm_mlflow.measure.training import Trained

            model, x, y, batch_size = self._measured
            self.begin(model, None)
            self.log_fit({"batch_size": batch_size, "epochs": self.step})
            of_loop = (self._examples, batch_size, self._seconds, self.memory)
            self.log_costs(Trained(model, x, y, *of_loop), sum(self._seconds))
        elif self._costs is not None:
            self._costs.log_costs()
        else:
            self.notice("no costs: neither `run.costs` saw a fit nor did `run.measure` get a model")
