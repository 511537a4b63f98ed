"""A second witness: FLOPs of the products and convolutions in what XLA makes of a training step.

It shares no code with the profiler and starts from another program's output: HLO text, before
XLA's own optimizations. It differs from the profiler in one thing: a convolution's taps that fall
on padding (or between the elements of a dilated input) are not counted.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

_COMPUTATION = re.compile(r"^(ENTRY )?%([^ ]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^  (ROOT )?%([^ ]+) = (.*)$")
_OPCODE = re.compile(r" ([a-z][a-z-]*)\(")
_SHAPE = re.compile(r"[a-z]+[0-9]+\[([0-9,]*)\]")
_CALLED = re.compile(r"(?:to_apply|body|calls|true_computation|false_computation)=%([^ ,]+)")


@dataclass
class Instruction:
    shape: tuple[int, ...]
    opcode: str
    operands: list[tuple[int, ...]]
    operand_names: list[str]
    attributes: str

    def attribute(self, pattern: str) -> str | None:
        found = re.search(pattern, self.attributes)
        return found[1] if found else None

    def numbers(self, name: str) -> list[int]:
        return [int(size) for size in (self.attribute(name + r"=\{([0-9,]*)\}") or "").split(",")]


@dataclass
class Computation:
    root: str = ""
    instructions: dict[str, Instruction] = field(default_factory=dict)

    def live(self) -> list[Instruction]:
        """What the result needs: HLO still holds what TensorFlow's runtime would prune."""
        waiting, seen = [self.root], set()
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += self.instructions[name].operand_names
        return [self.instructions[name] for name in seen]


def core_flops(model: keras.Model, inputs: Any, targets: Any, trips: int = 1) -> int:
    """FLOPs of the products and convolutions of one training step; each loop runs `trips` times."""
    model.optimizer.build(model.trainable_variables)

    def step(targets: Any, *flat: Any) -> Any:
        return model.train_step((keras.tree.pack_sequence_as(inputs, flat), targets))

    compiled = tf.function(step, autograph=False, jit_compile=True)
    flat = keras.tree.flatten(inputs)
    text = compiled.experimental_get_compiler_ir(targets, *flat)(stage="hlo")
    computations, entry = parse(text)

    def count(name: str) -> int:
        total = 0
        for instruction in computations[name].live():
            total += _flops(instruction)
            times = trips if instruction.opcode == "while" else 1
            if instruction.opcode in ("while", "call", "conditional"):
                total += times * sum(map(count, _CALLED.findall(instruction.attributes)))
        return total

    return count(entry)


def parse(text: str) -> tuple[dict[str, Computation], str]:
    computations: dict[str, Computation] = {}
    entry = current = ""
    for line in text.splitlines():
        if opened := _COMPUTATION.match(line):
            current = opened[2]
            computations[current] = Computation()
            entry = current if opened[1] else entry
        elif found := _INSTRUCTION.match(line):
            computations[current].instructions[found[2]] = _instruction(found[3])
            if found[1]:
                computations[current].root = found[2]
    return computations, entry


def _instruction(text: str) -> Instruction:
    text = text.partition(", metadata=")[0]
    opcode = _OPCODE.search(text)
    assert opcode, text
    head, tail = text[: opcode.start()], text[opcode.end() :]
    end = _closing(tail)
    operands = tail[:end]
    return Instruction(
        shape=_sizes(head)[0] if _SHAPE.search(head) else (),
        opcode=opcode[1],
        operands=_sizes(operands),
        operand_names=re.findall(r"%([^ ,)]+)", operands),
        attributes=tail[end:],
    )


def _closing(text: str) -> int:
    """Index of the parenthesis that closes the one before the text."""
    depth = 1
    for index, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if not depth:
            return index
    raise ValueError(text)


def _sizes(text: str) -> list[tuple[int, ...]]:
    return [tuple(map(int, sizes.split(","))) if sizes else () for sizes in _SHAPE.findall(text)]


def _flops(instruction: Instruction) -> int:
    if instruction.opcode == "dot":
        contracted = [
            instruction.operands[0][axis] for axis in instruction.numbers("lhs_contracting_dims")
        ]
        return 2 * math.prod(instruction.shape) * math.prod(contracted)
    if instruction.opcode == "convolution":
        return _convolution(instruction)
    return 0


def _convolution(instruction: Instruction) -> int:
    """2 x (batch and channels of the output) x channels summed x pairs of position and tap."""
    labels = instruction.attribute(r"dim_labels=([^ ,]+)")
    assert labels
    left, kernel, output = re.split("_|->", labels)
    image, filter_ = instruction.operands[:2]
    total = 2 * filter_[kernel.index("i")]
    total *= instruction.shape[output.index("b")] * instruction.shape[output.index("f")]
    for axis in (label for label in output if label.isdigit()):
        total *= _pairs(
            instruction, int(axis), image[left.index(axis)], instruction.shape[output.index(axis)]
        )
    return total


def _pairs(instruction: Instruction, axis: int, size: int, positions: int) -> int:
    """Pairs of an output position and a tap of the window that meet an element of the input."""

    def window(name: str, default: str) -> str:
        value = instruction.attribute(rf"window=\{{[^}}]*\b{name}=([^ }}]+)")
        return value.split("x")[axis] if value else default

    stride, inner = int(window("stride", "1")), int(window("lhs_dilate", "1"))
    outer, taps = int(window("rhs_dilate", "1")), int(window("size", "1"))
    before = int(window("pad", "0_0").split("_")[0])
    return sum(
        place % inner == 0 and 0 <= place < (size - 1) * inner + 1
        for position, tap in itertools.product(range(positions), range(taps))
        for place in [position * stride + tap * outer - before]
    )
