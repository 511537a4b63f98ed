"""FLOPs on PyTorch: its own counter, on a prediction and a training step that are really run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fm_mlflow import keys
from fm_mlflow.errors import FlopsError
from fm_mlflow.measure.backends.on_torch import kept_value
from fm_mlflow.measure.flops.model_code import build_metrics, first_step, model_code
from fm_mlflow.measure.flops.result import FlopsProfile
from fm_mlflow.measure.flops.rows import optimizers
from fm_mlflow.measure.flops.specs import Structure, with_batch_size
from fm_mlflow.measure.measurement import Measurement

_COUNTED = (
    "PyTorch's FlopCounterMode, with our formulas for products with vectors and gradients "
    "of grouped convolutions ({}); matrix products and convolutions only, taps on padding too, "
    "1 multiply-add = 2 FLOPs; left out: all arithmetic by element, losses, optimizer and metrics"
)
_WITHOUT_FORMULA = (
    *("_cdist_forward", "_cudnn_rnn", "_fft_c2c", "_fft_c2r", "_fft_r2c", "_int_mm"),
    *("_linalg_det", "_linalg_eigh", "_linalg_solve_ex", "_linalg_svd", "_trilinear", "addbmm"),
    *("_scaled_dot_product_flash_attention_for_cpu", "cholesky_inverse", "linalg_cholesky_ex"),
    *("linalg_eig", "linalg_inv_ex", "linalg_lstsq", "linalg_lu_factor_ex", "linalg_qr"),
    *("linalg_solve_triangular", "miopen_rnn", "mkldnn_rnn_layer", "triangular_solve"),
)
"""Operations of PyTorch's that multiply and are not counted: they are listed instead."""

_INFERENCE = "one image, batch {}"
_TRAINING = "training step at batch {}, given {}, on values of one, / batch size"
_WITNESS = "keras-flops (TensorFlow's op profiler), one image, batch 1"


def profile_prediction(
    model: keras.Model, images: int, inputs: Structure, batch_size: int, _keras_flops: bool
) -> tuple[FlopsProfile, Structure]:
    """Profile a prediction of so many images; return the specs of its outputs, too."""
    counter = _Counter()
    with model_code("prediction cannot be run"), _state_kept(model), counter, torch.no_grad():
        outputs = model(_ones(inputs), training=False)
    flops = counter.get_total_flops()
    if not flops:
        what = f"PyTorch's counter sees no matrix product or convolution in {model.name!r}"
        raise FlopsError(what, "take JAX or TensorFlow as the backend to count other arithmetic")
    profile = FlopsProfile(
        batch_size=batch_size,
        inference=round(flops / images),
        integer_ops={},
        keras_flops=None,
        witness=Measurement.missing(keys.FLOPS_KERAS, _WITNESS, "Keras' backend is PyTorch"),
        layers=(),
        inference_unsupported=dict(counter.unsupported),
        inference_coverage=None,
        inference_method=_COUNTED.format(_INFERENCE.format(images)),
    )
    return profile, with_batch_size(outputs, 1)


def with_training(
    profile: FlopsProfile, model: keras.Model, steps: Mapping[str, Structure]
) -> FlopsProfile:
    """Add a training step to the profile of a prediction: the first that the model takes."""

    def run(data: Structure) -> _Counter:
        counter = _Counter()
        with model_code("training step cannot be run"):
            build_metrics(model, data)
            with _state_kept(model), counter:
                model.train_step(_ones(data))
        return counter

    counter, given = first_step(model, steps, run)
    flops = counter.get_total_flops() / profile.batch_size
    return replace(
        profile,
        training=flops,
        training_core=flops,
        unsupported=dict(counter.unsupported),
        coverage=None,
        method=_COUNTED.format(_TRAINING.format(profile.batch_size, given)),
    )


class _Counter(FlopCounterMode):  # type: ignore[misc]  # torch may not be installed
    """PyTorch's counter; it counts products with vectors, too, and lists what it cannot count.

    Attributes:
        unsupported: Operations that multiply and are not counted: how many, by name.
    """

    def __init__(self) -> None:
        self.unsupported: Counter[str] = Counter()
        listed = {
            getattr(torch.ops.aten, name): partial(self._list, name)
            for name in _WITHOUT_FORMULA
            if hasattr(torch.ops.aten, name)  # versions differ
        }
        super().__init__(display=False, custom_mapping={**_FORMULAS, **listed})

    def _list(self, name: str, *_: Any, **__: Any) -> int:
        self.unsupported[name] += 1
        return 0


def _of_vector(_: Any, vector: Sequence[int], *, out_shape: Sequence[int]) -> int:
    """FLOPs of a matrix or a vector times a vector: each output is a sum over the latter."""
    return 2 * math.prod(out_shape) * vector[0]


def _of_vector_added(_: Any, matrix: Sequence[int], *__: Any, **___: Any) -> int:
    return 2 * math.prod(matrix)


def _of_gradients(
    gradient: Sequence[int],
    images: Sequence[int],
    weights: Sequence[int],
    *settings: Any,
    **_: Any,
) -> int:
    """FLOPs of a convolution's gradients: each of those that are wanted costs what it did."""
    _bias, _stride, _padding, _dilation, is_transposed, _output_padding, _groups, wanted = settings
    positions = images if is_transposed else gradient
    forward = 2 * images[0] * math.prod(positions[2:]) * math.prod(weights)
    return forward * sum(map(bool, wanted[:2]))


_FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.addmv: _of_vector_added,
    torch.ops.aten.convolution_backward: _of_gradients,
    torch.ops.aten.dot: _of_vector,
    torch.ops.aten.mv: _of_vector,
    torch.ops.aten.vdot: _of_vector,
}
"""Products with vectors, which PyTorch's counter has no formulas for, and the gradients of grouped
convolutions, of which it counts each group as if it were all of them."""


@contextmanager
def _state_kept(model: keras.Model) -> Iterator[None]:
    """Run a model and leave no trace: variables, gradients and random states stay.

    Attention is computed by its products, which the counter knows, and not by a kernel for it.
    """
    variables = {id(variable): variable for variable in _all_variables(model)}.values()
    before = [(variable, kept_value(variable), variable.value.grad) for variable in variables]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for variable, value, gradient in before:
            variable.assign(value)
            variable.value.grad = gradient


def _all_variables(model: keras.Model) -> Iterator[keras.Variable]:
    yield from model.variables
    if model.compiled:
        yield from model.metrics_variables
    for optimizer in optimizers(model).values():
        yield from optimizer.variables
    try:
        from keras.src.backend.common.global_state import get_global_attribute
    except ImportError:  # another version of Keras
        return
    # What keras.random draws from without a seed of its own.
    seed = get_global_attribute("global_seed_generator")
    if seed is not None:
        yield seed.state


def _ones(structure: Structure) -> Structure:
    """Return tensors for specs: of ones, of whole numbers zeros, which any vocabulary has."""

    def tensor(spec: Any) -> Any:
        if spec is None:
            return None
        make = keras.ops.ones if "float" in spec.dtype else keras.ops.zeros
        return make(spec.shape, spec.dtype)

    return keras.tree.map_structure(tensor, structure)
