"""What a sweep may set: ranges of numbers and choices, beside a model's arguments or as text.

Beside the model: `def build(width: Annotated[int, Int(8, 256, log=True)] = 64, ...)`. As text:
`width=8:256:log`, `activation=relu,gelu`, `filters=4:32:log,8:64:log` (one range an element).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from fm_mlflow.errors import InputError

TRAINING_SETTINGS = ("learning_rate", "batch_size", "optimizer")
"""Settings of the training that a sweep may search; all others are those of every trial."""

RANGES_ACCEPTED = (
    "name=low:high, name=low:high:log (numbers; several with commas, one for each element) or "
    "name=one,another (choices; with | between them where they hold commas); several with ;"
)
_DIGITS = 4
"""Significant digits of a proposed number: more of them make no other model."""


@dataclass(frozen=True)
class Int:
    """A range of whole numbers, both ends included.

    Attributes:
        low: The smallest.
        high: The largest.
        log: Whether a doubling counts alike everywhere; `low` is at least 1 then.
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        is_whole = all(type(end) is int for end in (self.low, self.high))
        if not is_whole or not _is_range(self.low, self.high, self.log):
            accepted = "whole numbers, low below high, above 0 where the scale is log"
            raise InputError("space", f"{self.low}:{self.high}", accepted)


@dataclass(frozen=True)
class Float:
    """A range of numbers.

    Attributes:
        low: The smallest.
        high: The largest.
        log: Whether a doubling counts alike everywhere; `low` is above 0 then.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        ends = (self.low, self.high)
        is_number = all(isinstance(end, (int, float)) and math.isfinite(end) for end in ends)
        if not is_number or not _is_range(self.low, self.high, self.log):
            accepted = "finite numbers, low below high, above 0 where the scale is log"
            raise InputError("space", f"{self.low}:{self.high}", accepted)


@dataclass(frozen=True, init=False)
class OneOf:
    """Choices without an order.

    Attributes:
        choices: Different ones, at least two.
    """

    choices: tuple[Any, ...]

    def __init__(self, *choices: Any) -> None:
        object.__setattr__(self, "choices", choices)
        if len(choices) < 2 or any(choices.count(choice) > 1 for choice in choices):
            raise InputError("space", choices, "two choices or more, each once")


@dataclass(frozen=True, init=False)
class Each:
    """The ranges of the elements of a tuple, in their order: `Each(Int(4, 32), Int(8, 64))`.

    Attributes:
        parts: One for each element.
    """

    parts: tuple[Int | Float, ...]

    def __init__(self, *parts: Int | Float) -> None:
        object.__setattr__(self, "parts", parts)
        if not parts or not all(isinstance(part, (Int, Float)) for part in parts):
            raise InputError("space", parts, "an Int or a Float for each element")


Range: TypeAlias = "Int | Float | OneOf | Each"


def _is_range(low: float, high: float, log: bool) -> bool:
    return low < high and (low > 0 or not log)


def argument_text(value: Any) -> str:
    """Return a value as the text of an argument, which `typed_arguments` reads.

    Raises:
        ValueError: It has none.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # of NumPy
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, str)):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (tuple, list)) and not any(
        isinstance(part, (tuple, list)) or (isinstance(part, str) and "," in part) for part in value
    ):
        return ",".join(map(argument_text, value))
    raise ValueError(f"{type(value).__name__} is no number, text, true, false or none of them")


def parse_space(text: str) -> dict[str, Range]:
    """Read a space as text: ranges and choices by name.

    Raises:
        InputError: It is none.
    """
    found: dict[str, Range] = {}
    for item in filter(None, map(str.strip, text.split(";"))):
        name, equals, spec = (part.strip() for part in item.partition("="))
        if not equals or not spec or not name.isidentifier() or name in found:
            raise InputError("space", item, f"{RANGES_ACCEPTED}; each name once")
        parts = [part.strip() for part in spec.split(",")]
        if all(":" in part for part in parts):
            ranges = [_parse_range(item, part) for part in parts]
            found[name] = ranges[0] if len(ranges) == 1 else Each(*ranges)
        else:
            if "|" not in spec and any(":" in part for part in parts):
                raise InputError("space", item, RANGES_ACCEPTED)
            choices = [part.strip() for part in spec.split("|")] if "|" in spec else parts
            found[name] = OneOf(*choices)
    return found


def _parse_range(item: str, text: str) -> Int | Float:
    low, high, *scale = text.split(":")
    if scale not in ([], ["log"]):
        raise InputError("space", item, RANGES_ACCEPTED)
    with suppress(ValueError):  # not whole numbers, then
        return Int(int(low), int(high), bool(scale))
    try:
        return Float(float(low), float(high), bool(scale))
    except ValueError:
        raise InputError("space", item, RANGES_ACCEPTED) from None


def dimensions(space: Mapping[str, Range]) -> dict[str, Int | Float | OneOf]:
    """Return what is to be searched, one by one: of `Each`, its parts as `name.0`, `name.1`."""
    found: dict[str, Int | Float | OneOf] = {}
    for name, each in space.items():
        if isinstance(each, Each):
            found |= {f"{name}.{at}": part for at, part in enumerate(each.parts)}
        else:
            found[name] = each
    return found


def point_text(
    space: Mapping[str, Range], point: Mapping[str, float | int | str]
) -> dict[str, str]:
    """Return a point of a space as texts by name; numbers with four significant digits.

    Args:
        space: The ranges by name.
        point: A value for each of its `dimensions`; of choices, the text.
    """
    texts: dict[str, str] = {}
    for name, each in space.items():
        if isinstance(each, Each):
            parts = (_number(part, point[f"{name}.{at}"]) for at, part in enumerate(each.parts))
            texts[name] = ",".join(parts)
        elif isinstance(each, OneOf):
            texts[name] = str(point[name])
        else:
            texts[name] = _number(each, point[name])
    return texts


def _number(within: Int | Float, value: float | int | str) -> str:
    if isinstance(within, Int):
        return str(int(value))
    rounded = float(f"{float(value):.{_DIGITS}g}")
    return argument_text(float(min(max(rounded, within.low), within.high)))


def text_point(
    space: Mapping[str, Range], texts: Mapping[str, str]
) -> dict[str, float | int | str] | None:
    """Return the point that texts stand for; None where it lies outside of the space."""
    point: dict[str, float | int | str] = {}
    for name, each in space.items():
        text = texts.get(name)
        if text is None:
            return None
        if isinstance(each, OneOf):
            if text not in choice_texts(each):
                return None
            point[name] = text
            continue
        parts: Sequence[Int | Float] = each.parts if isinstance(each, Each) else [each]
        values = text.split(",") if isinstance(each, Each) else [text]
        if len(values) != len(parts):
            return None
        keys = [f"{name}.{at}" for at in range(len(parts))] if isinstance(each, Each) else [name]
        for key, part, value in zip(keys, parts, values, strict=True):
            try:
                number = int(value) if isinstance(part, Int) else float(value)
            except ValueError:
                return None
            if not part.low <= number <= part.high:
                return None
            point[key] = number
    return point


def choice_texts(choices: OneOf) -> tuple[str, ...]:
    """Return choices as texts."""
    return tuple(argument_text(choice) for choice in choices.choices)


def space_text(space: Mapping[str, Range]) -> str:
    """Return a space as text, which `parse_space` reads."""

    def text(part: Int | Float) -> str:
        ends = f"{argument_text(part.low)}:{argument_text(part.high)}"
        return f"{ends}:log" if part.log else ends

    def of(each: Range) -> str:
        if isinstance(each, OneOf):
            choices = choice_texts(each)
            return ("|" if any("," in choice for choice in choices) else ",").join(choices)
        parts: Iterable[Int | Float] = each.parts if isinstance(each, Each) else [each]
        return ",".join(map(text, parts))

    return "; ".join(f"{name}={of(each)}" for name, each in space.items())
