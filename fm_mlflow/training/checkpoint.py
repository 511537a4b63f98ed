"""What a training needs to continue as if nothing had happened, written after each epoch.

A checkpoint is one `.npz` file: the values of all variables of the model (weights, states of seed
generators) and of its optimizer, and `meta`, JSON with the settings, Python's and NumPy's random
state, the epoch and the learning curve so far. Two files take turns, so that there is a whole one
at any moment. The order of the images needs no state: it follows from seed and epoch.
"""

from __future__ import annotations

import json
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from fm_mlflow.process.atomic_file import atomic_file, durable_folder
from fm_mlflow.process.redaction import one_line
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.training.array_file import ArrayFile, open_arrays

if TYPE_CHECKING:
    import keras

    from fm_mlflow.tracking.ownership import Resumption

_log = logging.getLogger(__name__)

_FORMAT = 1
_LARGEST_META = 16 * 2**20
_MOST_ARRAYS = 100_000
_FILES = ("even.npz", "odd.npz")
_META = "meta"


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        epoch: Epochs that are done.
        history: One value of each of them for each metric, by logged name.
        seconds: Wall time since the call of `train`, of all parts together.
        fit_seconds: Of it, the fit's.
        parts: How many processes have trained so far.
    """

    epoch: Annotated[int, Field(ge=0, lt=2**31)] = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    fit_seconds: float = 0.0
    parts: Annotated[int, Field(ge=1, lt=2**31)] = 1


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        settings: The run's settings, by name.
        dataset_digest: What it trains on.
        progress: How far it has come.
        variables: Values of the model's variables, in Keras' order.
        optimizer: Values of the variables of its optimizers, in Keras' order.
        random_state: Python's and NumPy's, as plain values.
    """

    settings: dict[str, Any]
    dataset_digest: str
    progress: Progress
    variables: list[NDArray[Any]]
    optimizer: list[NDArray[Any]]
    random_state: dict[str, Any]

    @classmethod
    def of(
        cls, model: keras.Model, settings: dict[str, Any], digest: str, progress: Progress
    ) -> Checkpoint:
        """Copy the state of a training at the end of an epoch."""
        name, keys, *rest = np.random.get_state()
        numpy_state = [name, np.asarray(keys).tolist(), *rest]
        return cls(
            settings,
            digest,
            progress,
            _values(_variables(model)),
            _values(_optimizer_variables(model)),
            {"python": random.getstate(), "numpy": numpy_state},
        )

    def restore(self, model: keras.Model) -> None:
        """Bring a freshly built and compiled model to this point.

        Raises:
            ValueError: It is not the model that the checkpoint is of.
        """
        if model.optimizer is not None:
            model.optimizer.build(model.trainable_variables)
        _assign(_variables(model), self.variables)
        variables = _optimizer_variables(model)
        if len(variables) != len(self.optimizer) and model.optimizer is None:
            raise ValueError("its optimizers have no variables before a step: build them with it")
        _assign(variables, self.optimizer)

    def restore_random_state(self) -> None:
        """Have Python and NumPy draw what they would have drawn next."""
        version, values, gauss = self.random_state["python"]
        random.setstate((version, tuple(values), gauss))
        name, keys, *rest = self.random_state["numpy"]
        np.random.set_state((name, np.array(keys, np.uint32), *rest))

    def write(self, path: Path) -> None:
        """Write a file that is either whole or, after a crash, missing."""
        values = [*self.variables, *self.optimizer]
        meta = {
            "format": _FORMAT,
            "settings": self.settings,
            "dataset_digest": self.dataset_digest,
            "random_state": self.random_state,
            "progress": asdict(self.progress),
            "counts": [len(self.variables), len(self.optimizer)],
            "types": [array.dtype.name for array in values],
        }
        arrays = {f"{number:05}": _plain(array) for number, array in enumerate(values)}
        arrays[_META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        with atomic_file(path, durable=True) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read a file.

        Raises:
            Exception: It is missing or damaged. What parsers raise at damage, no list is sure of.
        """
        with open_arrays(path) as file:
            meta = _read_meta(file)
            arrays = [_typed(file.read(f"{n:05}"), name) for n, name in enumerate(meta.types)]
        split = meta.counts[0]
        return cls(
            meta.settings,
            meta.dataset_digest,
            meta.progress,
            arrays[:split],
            arrays[split:],
            {"python": meta.random_state.python, "numpy": meta.random_state.numpy},
        )


_Word = Annotated[int, Field(ge=0, lt=2**32)]
_Count = Annotated[int, Field(ge=0, lt=2**31)]


@dataclass(frozen=True)
class _RandomState:
    python: tuple[
        Literal[3], Annotated[list[_Word], Field(min_length=625, max_length=625)], float | None
    ]
    numpy: tuple[
        Literal["MT19937"],
        Annotated[list[_Word], Field(min_length=624, max_length=624)],
        Annotated[int, Field(ge=0, le=624)],
        Literal[0, 1],
        float,
    ]


@dataclass(frozen=True)
class _Meta:
    """What a file says beside its arrays."""

    format: Literal[1]
    settings: dict[str, Any]
    dataset_digest: str
    random_state: _RandomState
    progress: Progress
    counts: tuple[_Count, _Count]
    types: Annotated[list[str], Field(max_length=_MOST_ARRAYS)]


def _read_meta(file: ArrayFile) -> _Meta:
    values = json.loads(file.read(_META, _LARGEST_META).tobytes())
    meta: _Meta = TypeAdapter(_Meta).validate_python(values)
    random.Random().setstate(
        (meta.random_state.python[0], tuple(meta.random_state.python[1]), None)
    )
    if sum(meta.counts) != len(meta.types):
        raise ValueError("it has another number of arrays than it says")
    return meta


def _typed(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array of the type that it was written as (`_plain`)."""
    dtype = np.dtype(name)
    if dtype.hasobject or dtype.itemsize != array.dtype.itemsize:
        raise ValueError(f"{array.dtype} is no {dtype}")
    return array.view(dtype)


def newest(folders: Iterable[Path]) -> Checkpoint | None:
    """Return the checkpoint in these folders that is furthest on; damaged files do not count."""
    paths = [path for folder in folders for name in _FILES if (path := folder / name).exists()]
    found: list[tuple[int, Path]] = []
    for path in paths:
        with _damage_told(path), open_arrays(path) as file:
            found.append((_read_meta(file).progress.epoch, path))
    for _, path in sorted(found, reverse=True):
        with _damage_told(path):
            return Checkpoint.read(path)
    if paths:
        _log.warning("no checkpoint is left; what is resumed starts at its first epoch")
    return None


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Leave out a file that cannot be read, whatever that raises, and say so."""
    try:
        yield
    except Exception as error:
        _log.warning("%s is damaged and left out: %s", path, one_line(error))


@dataclass(frozen=True)
class Start:
    """The point at which a training starts: the beginning, or a checkpoint.

    Attributes:
        time: When the call began, on the clock of `time.perf_counter`.
        load: Load average of the machine at that time.
        checkpoint: The checkpoint that it continues from, if it does.
        epochs: Number of epochs to reach, where that is not the run's setting.
        resumption: The run that is resumed.
        parts: Processes that have trained the run, this one included.
    """

    time: float
    load: float | None
    checkpoint: Checkpoint | None = None
    epochs: int | None = None
    resumption: Resumption | None = None
    parts: int = 1

    @property
    def progress(self) -> Progress:
        """The progress of the training so far."""
        done = self.checkpoint.progress if self.checkpoint else Progress()
        return replace(done, parts=self.parts)

    def until(self, config: TrainConfig) -> int:
        """Return the number of epochs to reach."""
        return self.epochs or config.epochs


class CheckpointWriter:
    """Writes checkpoints on a thread of its own; of those that come too fast, the last.

    A full disk keeps the checkpoint before, says so once, and does not stop the training.

    Args:
        folder: Where the files go.
        on_written: Called with the file, on that thread, once it is on the disk.
    """

    def __init__(self, folder: Path, on_written: Callable[[Path], None]) -> None:
        self._folder = folder
        self._on_written = on_written
        self._waiting: deque[Checkpoint] = deque(maxlen=1)
        self._has_failed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fm_mlflow-checkpoint")
        for left in folder.glob(".*.part.npz"):  # by a process that was killed as it wrote
            with suppress(OSError):  # it does no harm where it is
                left.unlink()

    def write(self, checkpoint: Checkpoint) -> None:
        """Have a checkpoint written; returns at once."""
        self._waiting.append(checkpoint)
        self._thread.submit(self._write)

    def close(self) -> None:
        """Wait until the last one is written."""
        self._thread.shutdown()

    def _write(self) -> None:
        try:
            checkpoint = self._waiting.pop()
        except IndexError:  # the call before has written a newer one
            return
        path = self._folder / _FILES[checkpoint.progress.epoch % 2]
        try:
            durable_folder(self._folder, exist_ok=True)
            checkpoint.write(path)
            self._on_written(path)
            self._has_failed = False
        except Exception as error:  # nobody waits for the result of this thread
            if not self._has_failed:
                _log.warning(
                    "the checkpoint of epoch %d cannot be written (%s); the one before is kept",
                    checkpoint.progress.epoch,
                    getattr(error, "strerror", None) or error,
                )
            self._has_failed = True


def _variables(model: keras.Model) -> list[Any]:
    """All that a model carries from batch to batch, but for the metrics, which an epoch resets."""
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in metrics]


def _optimizer_variables(model: keras.Model) -> list[Any]:
    """Those of all its optimizers: a model's own step may have several."""
    from fm_mlflow.measure.flops.rows import own_optimizers

    return [variable for each in own_optimizers(model).values() for variable in each.variables]


def _values(variables: Sequence[Any]) -> list[NDArray[Any]]:
    # Not of Keras' variable itself, whose conversion copies twice.
    return [variable.value.numpy() for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[NDArray[Any]]) -> None:
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [value.shape for value in values]:
        raise ValueError("the model is not the one that was trained: its variables differ")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of a type that NumPy's files know: bfloat16 and its like are not."""
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array
