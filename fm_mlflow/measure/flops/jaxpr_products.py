"""Matrix products and convolutions of a jaxpr, counted exactly from their shapes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from jax import numpy as jnp

_WITHOUT_FORMULA = {
    *("cholesky", "eig", "eigh", "fft", "householder_product", "lu", "qr", "ragged_dot_general"),
    *("schur", "svd", "triangular_solve", "tridiagonal_solve"),
    *("custom_partitioning", "ffi_call", "pallas_call", "shard_map"),
}
"""Primitives that multiply, or may, and are not counted: they are listed instead."""


@dataclass
class Products:
    """What a jaxpr's matrix products and convolutions cost.

    Attributes:
        flops: Each multiply-add is 2.
        unsupported: Primitives that may multiply and are not counted: how many, by name.
    """

    flops: int = 0
    unsupported: Counter[str] = field(default_factory=Counter)

    def add(self, other: Products, times: int = 1) -> None:
        """Add what runs so many times."""
        self.flops += times * other.flops
        self.unsupported += other.unsupported


def count_products(jaxpr: Any) -> Products:
    """Count the products that an output or an effect of a jaxpr (not a closed one) needs.

    A loop's body is taken as often as it runs (`while`: once), of a condition the dearest branch.
    """
    found = Products()
    for equation in live_equations(jaxpr):
        name = equation.primitive.name
        if name in _FORMULAS:
            if jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.inexact):
                found.flops += 2 * _FORMULAS[name](equation)
        elif name in _WITHOUT_FORMULA:
            found.unsupported[name] += 1
        else:
            inner = [count_products(each) for each in inner_jaxprs(equation)]
            if name == "cond":
                inner = [max(inner, key=lambda each: each.flops)]
            for each in inner:
                found.add(each, equation.params["length"] if name == "scan" else 1)
    return found


def live_equations(jaxpr: Any) -> Iterator[Any]:
    """Yield the equations whose results an output or an effect needs, the last first."""
    needed = set(map(id, jaxpr.outvars))
    for equation in reversed(jaxpr.eqns):
        if equation.effects or not needed.isdisjoint(map(id, equation.outvars)):
            needed.update(map(id, equation.invars))
            yield equation


def inner_jaxprs(equation: Any) -> list[Any]:
    """Return what an equation calls, repeats or chooses from; not closed."""
    found = []
    for value in equation.params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            each = getattr(each, "jaxpr", each)  # a closed one
            if hasattr(each, "eqns"):
                found.append(each)
    return found


def _of_product(equation: Any) -> int:
    """Multiply-adds of `dot_general`: each output is a sum over the contracted sizes."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    outputs: tuple[int, ...] = equation.outvars[0].aval.shape
    return math.prod([*outputs, *_sizes(equation.invars[0], contracted)])


def _of_convolution(equation: Any) -> int:
    """Multiply-adds of `conv_general_dilated`: each tap at each position of the smaller map.

    So the forward pass, its two gradients and a transposed convolution cost the same, as they do
    without the zeros that JAX puts around and between the values. The taps are the kernel's sizes.
    The gradient of a kernel has them as its outputs; its sums run over the batch, which therefore
    does not come first.
    """
    left, right = equation.invars[:2]
    outputs = equation.outvars[0]
    of_left, of_right, of_outputs = equation.params["dimension_numbers"]
    taps, others = _sizes(right, of_right[2:]), _sizes(outputs, of_outputs[2:])
    if of_left[0] != 0:
        taps, others = others, taps
    positions = map(min, others, _sizes(left, of_left[2:]))
    channels = [*_sizes(outputs, of_outputs[:2]), *_sizes(right, of_right[1:2])]
    return math.prod([*channels, *taps, *positions])


def _sizes(variable: Any, axes: Iterable[int]) -> list[int]:
    return [variable.aval.shape[axis] for axis in axes]


_FORMULAS = {"conv_general_dilated": _of_convolution, "dot_general": _of_product}
