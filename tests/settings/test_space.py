"""Spaces of a sweep: as text, as points, with their ends checked."""

from __future__ import annotations

from typing import Any

import pytest

from fm_mlflow.errors import InputError
from fm_mlflow.settings.space import (
    Each,
    Float,
    Int,
    OneOf,
    Range,
    argument_text,
    dimensions,
    parse_space,
    point_text,
    space_text,
    text_point,
)

SPACE: dict[str, Range] = {
    "width": Int(8, 256, log=True),
    "rate": Float(3e-4, 3e-2, log=True),
    "drop": Float(0.0, 0.5),
    "kind": OneOf("relu", "gelu"),
    "filters": Each(Int(4, 32), Int(8, 64, log=True)),
    "hidden": OneOf("64", "256,128"),
}
TEXT = (
    "width=8:256:log; rate=0.0003:0.03:log; drop=0.0:0.5; kind=relu,gelu; "
    "filters=4:32,8:64:log; hidden=64|256,128"
)


def test_spaces_are_written_and_read() -> None:
    assert parse_space(TEXT) == SPACE
    assert space_text(SPACE) == TEXT
    assert parse_space(" ; ") == {}


@pytest.mark.parametrize(
    "text",
    [
        *("width", "width=", "=1:2", "a b=1:2", "width=1:2;width=1:3", "width=2:1", "width=1:1"),
        *("width=0:8:log", "width=1:2:lin", "width=1:2:log:log", "rate=a:b", "rate=0:inf"),
        *("kind=relu", "kind=relu,relu", "width=1:2,3"),
    ],
)
def test_what_is_no_space_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^space: "):
        parse_space(text)


@pytest.mark.parametrize(
    "make",
    [
        *(lambda: Int(1.0, 2), lambda: Float(0, float("nan")), lambda: OneOf("a")),  # type: ignore[arg-type]
        *(lambda: Each(), lambda: Each(OneOf("a", "b"))),  # type: ignore[arg-type]
    ],
)
def test_ranges_that_are_none_are_refused(make: Any) -> None:
    with pytest.raises(InputError, match=r"^space: "):
        make()


def test_points_are_texts_with_four_digits_within_the_range() -> None:
    point: dict[str, float | int | str] = {
        **{"width": 52, "rate": 0.00123456, "drop": 0.5, "kind": "gelu"},
        **{"filters.0": 4, "filters.1": 64, "hidden": "256,128"},
    }
    texts = point_text(SPACE, point)
    assert texts["rate"] == "0.001235"
    assert texts["filters"] == "4,64"
    assert point_text(SPACE, text_point(SPACE, texts) or {}) == texts
    assert list(dimensions(SPACE)) == [
        *("width", "rate", "drop", "kind", "filters.0", "filters.1", "hidden")
    ]
    assert point_text({"x": Float(0.33334, 1.0)}, {"x": 0.33334}) == {"x": "0.33334"}


@pytest.mark.parametrize(
    ("name", "text"),
    [("width", "4"), ("rate", "1"), ("kind", "elu"), ("filters", "4"), ("width", "x")],
)
def test_texts_outside_of_a_space_are_no_point(name: str, text: str) -> None:
    texts = point_text(
        SPACE,
        {
            **{"width": 8, "rate": 0.001, "drop": 0.1, "kind": "relu"},
            **{"filters.0": 4, "filters.1": 8, "hidden": "64"},
        },
    )
    assert text_point(SPACE, {**texts, name: text}) is None


def test_only_plain_values_have_a_text() -> None:
    assert [argument_text(each) for each in (True, None, 0.1, (1, 2), "a")] == [
        *("true", "none", "0.1", "1,2", "a")
    ]
    for value in (object(), ("a,b",), [[1]]):
        with pytest.raises(ValueError, match="is no number, text"):
            argument_text(value)
