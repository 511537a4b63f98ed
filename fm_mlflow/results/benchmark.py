"""What `benchmark` returns, and the error that carries it."""

from __future__ import annotations

from dataclasses import dataclass

from fm_mlflow.errors import FmMlflowError
from fm_mlflow.naming import training_name
from fm_mlflow.results import Result
from fm_mlflow.results.compare import CompareResult
from fm_mlflow.settings.config import BenchmarkConfig


@dataclass(frozen=True)
class BenchmarkTraining:
    """What came of one training of a benchmark.

    Attributes:
        status: FINISHED, FAILED, KILLED or, where the store has not heard of its end, RUNNING.
            While the store does not answer, it is what the training's process said.
        test_accuracy: Share of the test images classified correctly; None if it did not finish.
        seconds: From the creation of its run to its end; None where that is not known.
        error: Why it did not finish, in one line; None if it did.
    """

    model: str
    seed: int
    run_id: str
    status: str
    test_accuracy: float | None
    seconds: float | None
    error: str | None

    @property
    def name(self) -> str:
        """What a person calls it: model and seed."""
        return training_name(self.model, self.seed)


@dataclass(frozen=True)
class BenchmarkResult(Result):
    """A benchmark: its trainings and what they say.

    Attributes:
        run_id: The parent run.
        tracking_uri: The store, any password hidden.
        trainings: Those that finished before and now, and those that failed now.
        comparison: The report; None where no training finished.
        forecast: What was said of the trainings before there was one: what they could decide and
            would cost at most.
    """

    run_id: str
    run_name: str
    experiment_id: str
    tracking_uri: str
    config: BenchmarkConfig
    trainings: tuple[BenchmarkTraining, ...]
    comparison: CompareResult | None
    forecast: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[BenchmarkTraining, ...]:
        """The trainings that did not finish."""
        return tuple(training for training in self.trainings if training.error is not None)

    @property
    def causes(self) -> list[tuple[str, str]]:
        """Why trainings did not finish: each cause once, with whose it is, in words."""
        having: dict[str, list[str]] = {}
        for each in self.failed:
            having.setdefault(str(each.error), []).append(each.name)
        return [
            (cause, f"{names[0]} and {len(names) - 1:,} more" if names[1:] else names[0])
            for cause, names in having.items()
        ]


class BenchmarkError(FmMlflowError):
    """Trainings of a benchmark failed; the others were done, and compared if there were any.

    Args:
        message: Which, why, what to do.
        result: What came of the benchmark all the same.
    """

    def __init__(self, message: str, result: BenchmarkResult) -> None:
        super().__init__(message)
        self.result = result
