"""Text that tries to break out of a terminal, a page or a table, and results made of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from fm_mlflow import keys

HOSTILE = (
    "=x\x1b]8;;http://evil\x07link\x1b]8;;\x07\x1b[2J\x1b[1;31m\x9b31m\r\nFORGED\u2028FORGED\x0bFORGED"
    "\u202e\u2066\u200b\u3164\ufe0f e\u0301\u0301\u0301\u0301\u0301\u0301 [red]a[/red] :smile: "
    "<script>alert(1)</script>|`*_![i](http://evil/i.png) www.evil.org &amp; $x$"
)

_KNOWN = {*map(str, keys.all_keys()), "a_better", "b_better", "not_distinguishable"}
_OURS = re.compile(r"\x1b\[(?:[\d;]*m|2K|1A|\?25[lh])|\r")


def filled(kind: Any) -> Any:
    """Make a value of a type: every text in it is hostile, every number 1."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return arguments[0]
    if origin in (Union, UnionType):
        return filled(arguments[0])
    if origin is tuple:
        return (filled(arguments[0]),)
    if origin is list:
        return [filled(arguments[0])]
    if origin in (dict, Mapping):
        return {filled(arguments[0]): filled(arguments[1])}
    if kind is str:
        return HOSTILE
    if issubclass(kind, BaseModel):
        given = {name: field.default for name, field in kind.model_fields.items()}
        texts = {name: HOSTILE for name, value in given.items() if isinstance(value, str)}
        return kind.model_construct(**{**given, **texts})
    if issubclass(kind, Enum):
        return next(iter(kind))
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        make: Any = kind
        return make(**{field.name: filled(hints[field.name]) for field in fields(kind)})
    return kind(1)


def spoilt(value: Any) -> Any:
    """Append the hostile text to every text of a value but the names of metrics."""
    if isinstance(value, str):
        return value if value in _KNOWN else f"{value} {HOSTILE}"
    if isinstance(value, (tuple, list)):
        return type(value)(map(spoilt, value))
    if isinstance(value, dict):
        return {spoilt(name): spoilt(each) for name, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{each.name: spoilt(getattr(value, each.name)) for each in fields(value)}
        )
    return value


def check_terminal(text: str) -> None:
    """Fail if what a terminal gets holds a control sequence or line that is not ours."""
    shown = _OURS.sub("", text)
    assert {character for character in shown if not character.isprintable()} <= {"\n"}
    assert "\ufe0f" not in shown
    assert "\u3164" not in shown
    assert [line for line in shown.splitlines() if line.lstrip(" -").startswith("FORGED")] == []
    counts = {
        shown.count(part) for part in ("[red]a[/red]", ":smile:", "<script>alert(1)</script>")
    }
    assert len(counts) == 1, "some of the text was taken for markup"
