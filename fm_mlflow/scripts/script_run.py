"""The tracked run of a training that somebody's own script does."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fm_mlflow import keys
from fm_mlflow.data.array_digest import arrays, text_digest
from fm_mlflow.measure import measurement
from fm_mlflow.measure.energy import EnergyMonitor
from fm_mlflow.measure.machine import describe_machine, load_average
from fm_mlflow.measure.memory import EVALUATION, MemoryMonitor, resident_mib
from fm_mlflow.naming import plain_name
from fm_mlflow.process.quiet import ignoring_deprecations
from fm_mlflow.report.describe import describe_script
from fm_mlflow.scripts.fit_params import FitParams
from fm_mlflow.scripts.memory_reasons import sound
from fm_mlflow.scripts.same_data import are_same, has_digest, inputs_of
from fm_mlflow.scripts.script_settings import (
    ScriptSettings,
    checked_data,
    checked_params,
    data_digest,
    named_params,
)
from fm_mlflow.settings.config import MOST_EPOCHS, measured_parts
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.training.run_contents import (
    clocks,
    log_costs,
    log_curve,
    log_kept,
    log_summary,
    summary_of,
)

if TYPE_CHECKING:
    import keras

    from fm_mlflow.fitting.metric_names import MetricNames
    from fm_mlflow.measure.training import Trained
    from fm_mlflow.scripts.evaluation import Evaluation
    from fm_mlflow.tracking.recorder import LoggedModel

_log = logging.getLogger("fm_mlflow")
_EXAMPLES_LOGGED = 2


class ScriptRun:
    """A training of somebody's own under a tracked run: from `open` to `close`.

    Args:
        settings: What the script says of it.
        params: Parameters of the script's own.
        data: Arrays by context (`training`, `validation`, `test`), each inputs or (inputs,
            targets): their digest is what tells data sets apart in a comparison.
        notice: Called with what a person should know, in one line.
    """

    def __init__(
        self,
        settings: ScriptSettings,
        params: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        notice: Callable[[str], None] = _log.warning,
    ) -> None:
        self.parts = measured_parts(settings.measure)
        self.memory = MemoryMonitor() if "memory" in self.parts else None
        self._energy = EnergyMonitor() if "energy" in self.parts else None
        self.notice = notice
        self._settings = settings
        self._params = checked_params(params)
        self._data = checked_data(data)
        self._digests = {context: data_digest(part) for context, part in self._data.items()}
        self._run: TrackedRun | None = None
        self._started = time.perf_counter()
        self._load = load_average()
        self._model: LoggedModel | None = None
        self._names: MetricNames | None = None
        self._step = 0
        self._fit_params = FitParams()
        self._validation: Any = None
        self._kept_epoch: int | None = None
        self._history: dict[str, list[float]] = {}
        self._metrics: dict[str, float] = {}
        self._title = settings.name or "training"

    @property
    def run(self) -> TrackedRun:
        """The tracked run, while it is open."""
        if self._run is None:
            raise RuntimeError("the run is open inside its `with` block only")
        return self._run

    @property
    def run_id(self) -> str:
        """The run's id in the store; the journal's, which `sync` takes, while it has none."""
        return self.run.run_id

    @property
    def step(self) -> int:
        """Epochs that have been logged."""
        return self._step

    def open(self) -> None:
        """Open the run, or join the active one; log what is known already."""
        run = TrackedRun(
            keys.KIND_TRAINING,
            self._run_name(),
            flush_timeout=self._settings.flush_timeout,
            notice=self.notice,
        )
        try:
            if self.memory is not None:
                self.memory.__enter__()
            if self._energy is not None:
                self._energy.__enter__()
            run.__enter__()
        except BaseException:
            self._stop_monitors()
            raise
        self._run = run
        try:
            self._log_known(run)
        except BaseException as error:
            self.close(error)
            raise

    def _log_known(self, run: TrackedRun) -> None:
        settings = self._settings
        known = {"seed": settings.seed, "dataset": settings.dataset or None}
        run.log_params({name: value for name, value in known.items() if value is not None})
        run.log_params(self._params)
        self._machine = describe_machine(self._load)
        run.set_tags(self._machine.tags())
        if settings.name:
            run.set_tags({keys.MODEL: settings.name})
        if self._data:
            run.set_tags({keys.DATASET_DIGEST: text_digest(*self._digests.values())})
        if "validation" in self._digests:
            self._validated(self._digests["validation"] == self._digests.get("test"))
        for context, part in self._data.items():
            inputs, targets = part if isinstance(part, tuple) else (part, None)
            run.log_arrays(
                settings.dataset or "data",
                context,
                arrays(inputs),
                None if targets is None else arrays(targets),
                self._digests[context],
                "arrays of a script",
            )
        self._data = {}  # not to be kept in memory for the run's sake

    def close(self, error: BaseException | None = None) -> None:
        """Close the run as it truly ended."""
        run, self._run, self._validation = self._run, None, None
        if run is not None:
            try:
                run.__exit__(type(error), error, None)
            finally:
                self._stop_monitors()
            if error is None and not self._settings.quiet and not run.pending:
                self._say_where(run)

    def _say_where(self, run: TrackedRun) -> None:
        from fm_mlflow.terminal.script import print_script_run
        from fm_mlflow.tracking.store import tracking_uri

        metrics = [*self._metrics, *self._history]
        with contextlib.suppress(OSError):  # nobody reads stderr
            print_script_run(run.run_id, run.name, tracking_uri(), run.experiment_id, metrics)

    def _stop_monitors(self) -> None:
        if self.memory is not None:
            self.memory.__exit__(None, None, None)
            self.memory = None
        if self._energy is not None:
            self._energy.__exit__(None, None, None)
            self._energy = None

    def phase(self, name: str) -> None:
        """Begin a phase of the figures of memory and energy."""
        if self.memory is not None:
            self.memory.phase(name)
        if self._energy is not None:
            self._energy.phase(name)

    def begin(
        self,
        model: keras.Model,
        epochs: int | None,
        *,
        alone: bool = True,
        validation_split: float = 0.0,
    ) -> None:
        """Log which model is trained, and how, before the first step of a fit.

        Args:
            model: Compiled, or trained by a loop of the script's own.
            epochs: Where they are known.
            alone: Whether nobody else logs the model's optimizer and summary to this run.
            validation_split: The fraction that Keras holds out, if it does.
        """
        from fm_mlflow.training.compilation import compiled_params

        self._fit_params.fits += 1
        is_first = self._fit_params.fits == 1
        if is_first and not self._settings.name:
            given, self._title = self._run_name(), plain_name(model)
            self.run.set_tags({keys.MODEL: self._title})
            if self.run.name == given:  # nobody gave it another
                self.run.rename(self._run_name())
        params = compiled_params(model) if model.compiled else {}
        if not alone:
            params = {name: value for name, value in params.items() if name == "loss"}
        elif is_first:
            log_summary(self.run, summary_of(model))
        if epochs is not None and 0 < epochs <= MOST_EPOCHS:
            params["epochs"] = epochs
        if validation_split:
            params["validation_split"] = validation_split
        self.log_fit(params)

    def log_fit(self, params: Mapping[str, Any]) -> None:
        """Log parameters of the fit that is under way; of a later one, what it does otherwise."""
        self.run.log_params(self._fit_params.named(params), unless_logged=True)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, unless the run holds them already."""
        self.run.log_params(named_params(params), unless_logged=True)

    def validate_on(self, data: Any) -> None:
        """Note what a fit is validated on: runs are chosen by it, unless they are tested on it."""
        self._validation = data
        test = self._digests.get("test")
        self._validated(test is not None and has_digest(data, test))

    def _validated(self, on_test_set: bool) -> None:
        self.run.set_tags({keys.VALIDATED_ON: keys.TEST_SET if on_test_set else keys.HELD_OUT})

    def keep_epoch(self, epoch: int | None, metrics: Mapping[str, float]) -> None:
        """Log that the model has the weights of an earlier epoch than the last, if it has."""
        self._kept_epoch = epoch
        log_kept(self.run, epoch, metrics)

    @property
    def names(self) -> MetricNames:
        """What the model's metrics are called in the store."""
        from fm_mlflow.fitting.metric_names import MetricNames

        if self._names is None:
            self._names = MetricNames()
        return self._names

    def log_epoch(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics of an epoch, by logged name, and the memory that is resident now."""
        self._step = self._step + 1 if step is None else step
        if "memory" in self.parts:
            metrics = {**metrics, keys.MEMORY_RSS: resident_mib()}
        self.run.log_metrics(metrics, step=self._step)
        for name, value in metrics.items():
            self._history.setdefault(name, []).append(value)

    def evaluate(
        self, model: keras.Model, x: Any, y: Any = None, *, batch_size: int | None = None
    ) -> Evaluation:
        """Evaluate a compiled model on test data; log its scores and its predictions."""
        from fm_mlflow.scripts.evaluation import evaluate

        self.phase(EVALUATION)
        validation = self._validation
        if validation is not None and are_same(
            x, validation if y is None else inputs_of(validation)
        ):
            self._validated(on_test_set=True)
        found = evaluate(model, x, y, batch_size, self.names)
        self.run.log_metrics(found.metrics, of_model=self._model is not None)
        self._metrics |= found.metrics
        if found.predictions:
            with self.run.artifacts() as folder:
                path = folder / keys.PREDICTIONS_FILE
                path.parent.mkdir(exist_ok=True)
                np.savez_compressed(path, allow_pickle=False, **found.predictions)
        else:
            self.notice(f"no {keys.PREDICTIONS_FILE}: {found.why_not}")
        return found

    def log_model(
        self, model: keras.Model, example: Any, *, class_names: tuple[str, ...] = ()
    ) -> LoggedModel:
        """Log a model as `train` does: signature, input example, optimizer state."""
        import keras

        from fm_mlflow.scripts.evaluation import gives_logits
        from fm_mlflow.scripts.fit_surroundings import rows
        from fm_mlflow.training.user_source import source_of_model

        example = keras.tree.map_structure(lambda part: rows(part, _EXAMPLES_LOGGED), example)
        source = source_of_model(model)
        outputs = keras.tree.map_structure(
            keras.ops.convert_to_numpy, model(example, training=False)
        )
        self._model = self.run.log_model(
            model,
            input_example=example,
            output_example=outputs,
            class_names=class_names,
            gives_logits=gives_logits(model) if model.compiled else None,
            code_folder=source.folder,
            code_files=source.files,
            requirements=source.requirements,
            params={"model": self._title, "epochs": self._step, "seed": self._settings.seed},
        )
        if self._metrics:
            self.run.log_metrics(self._metrics, of_model=True)
        return self._model

    def log_costs(self, trained: Trained, fit_seconds: float) -> None:
        """Measure what a training cost, now that it is over, and log that."""
        from fm_mlflow.measure.training import training_costs

        self.phase("measuring")
        trained = replace(trained, energy=self._energy)
        with ignoring_deprecations():
            costs, flops = training_costs(trained, self.parts)
        costs = [
            *(sound(each, self.memory) for each in costs),
            *clocks(fit_seconds, self._model, self._started),
        ]
        log_costs(self.run, self.run.name, costs, flops, self.memory, self._machine)
        self._metrics |= measurement.metrics(costs)
        if not self._history.keys().isdisjoint({keys.LOSS, keys.VAL_LOSS}):
            log_curve(self.run, self.run.name, self._history)
        if self._fit_params.fits > 1:
            self.run.log_params({"fits": self._fit_params.fits}, unless_logged=True)
        counts = (self._step, trained.images)
        self.run.describe(describe_script(self._title, *counts, self._metrics, self._kept_epoch))

    def _run_name(self) -> str:
        seed = self._settings.seed
        return self._title if seed is None else f"{self._title}, seed {seed}"
