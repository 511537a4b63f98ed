"""Arguments of models: typed by what their functions declare, refused in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pytest

from fm_mlflow.errors import ModelError
from fm_mlflow.settings.model_reference import BUILTIN_DEFAULTS
from fm_mlflow.settings.space import Each, Float, Int, OneOf
from fm_mlflow.settings.sweep import SweepConfig
from fm_mlflow.training.builtin_models import BUILDERS
from fm_mlflow.training.model_arguments import (
    annotated_space,
    argument_texts,
    check_model,
    fitted_range,
    typed_arguments,
)
from fm_mlflow.training.search_space import search_space
from fm_mlflow.training.user_source import UnfitError

if TYPE_CHECKING:
    import keras


def build(  # type: ignore[no-untyped-def]
    width: Annotated[int, Int(8, 256, log=True)],
    rate: float = 0.1,
    kind: Literal["relu", "gelu"] = "relu",
    sizes: tuple[int, ...] = (4, 8),
    plain=3,
    top: int | None = None,
    *,
    norm: bool = False,
    marked: OneOf("a", "b") = "a",  # type: ignore[valid-type]
) -> keras.Model: ...


def test_text_becomes_what_the_annotations_say() -> None:
    given = {
        **{"width": "52", "rate": "1", "kind": "gelu", "sizes": "1, 2,3", "plain": "5"},
        **{"top": "none", "norm": "true", "marked": "b"},
    }
    assert typed_arguments(build, given) == {
        **{"width": 52, "rate": 1.0, "kind": "gelu", "sizes": (1, 2, 3), "plain": 5},
        **{"top": None, "norm": True, "marked": "b"},
    }


def more(  # type: ignore[no-untyped-def]
    depth: Literal[2, 4] | None = 2,
    flag: Literal[True, False] = True,
    bare: tuple = (4, 8),  # type: ignore[type-arg]
    each: Each(Int(4, 32), Int(8, 64)) = (4, 8),  # type: ignore[valid-type]
    mixed=(4, 0.5),
    abstract: Sequence[int] = (4,),
    mark: Annotated[list, Each(Int(4, 32))] = [4],  # type: ignore[type-arg] # noqa: B006
) -> keras.Model: ...


def test_elements_and_choices_have_types_too() -> None:
    given = {
        **{"depth": "4", "flag": "false", "bare": "1,2", "each": "5,6", "mixed": "7,0.25"},
        **{"abstract": "9,10", "mark": "11"},
    }
    assert typed_arguments(more, given) == {
        **{"depth": 4, "flag": False, "bare": (1, 2), "each": (5, 6), "mixed": (7, 0.25)},
        **{"abstract": [9, 10], "mark": [11]},
    }
    assert typed_arguments(more, {"depth": "none"})["depth"] is None
    with pytest.raises(UnfitError, match="one of 2, 4 or none for its argument depth"):
        typed_arguments(more, {"depth": "3"})


def test_numbers_of_numpy_are_numbers() -> None:
    values = {"a": np.float64(0.5), "b": (np.int64(3), 4), "c": np.bool_(True)}
    assert argument_texts(values) == {"a": "0.5", "b": "3,4", "c": "true"}


def test_what_is_not_given_has_its_default() -> None:
    texts = argument_texts(typed_arguments(build, {"width": "8"}))
    assert texts == {
        **{"width": "8", "rate": "0.1", "kind": "relu", "sizes": "4,8", "plain": "3"},
        **{"top": "none", "norm": "false", "marked": "a"},
    }
    assert typed_arguments(build, texts) == typed_arguments(build, {"width": "8"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "width .a whole number., which has no default"),
        ({"width": "x"}, "a whole number for its argument width; received 'x'"),
        ({"width": "1.5"}, "a whole number for its argument width"),
        ({"width": "1", "widht": "2"}, "not widht - did you mean width?"),
        ({"width": "1", "kind": "tanh"}, "one of relu, gelu for its argument kind"),
        ({"width": "1", "sizes": "1,x"}, "values with commas, each a whole number"),
        ({"width": "1", "norm": "perhaps"}, "true or false for its argument norm"),
    ],
)
def test_what_a_function_does_not_take_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(UnfitError, match=said):
        typed_arguments(build, given)


def test_ranges_stand_in_annotations() -> None:
    assert annotated_space(BUILDERS["cnn"]).keys() == {"filters", "dense"}
    assert annotated_space(build) == {"width": Int(8, 256, log=True), "marked": OneOf("a", "b")}


def test_ranges_take_the_type_of_their_argument() -> None:
    assert fitted_range(build, "rate", Int(1, 3)) == Float(1.0, 3.0)
    assert fitted_range(build, "sizes", Each(Int(1, 3), Int(2, 4))) == Each(Int(1, 3), Int(2, 4))
    assert fitted_range(build, "kind", OneOf("relu", "gelu")) == OneOf("relu", "gelu")
    refused: list[tuple[str, Any]] = [
        *(("width", Float(0.5, 2)), ("kind", Int(1, 3)), ("kind", OneOf("relu", "elu"))),
        *(("sizes", Int(1, 3)), ("width", Each(Int(1, 3))), ("depth", Int(1, 3))),
    ]
    for name, asked in refused:
        with pytest.raises(UnfitError):
            fitted_range(build, name, asked)


def test_defaults_of_built_in_models_are_those_of_earlier_runs() -> None:
    for name, function in BUILDERS.items():
        assert argument_texts(typed_arguments(function, {})) == BUILTIN_DEFAULTS[name]


def test_built_in_models_are_checked_before_anything_starts() -> None:
    check_model("cnn?filters=8&dense=16")
    for model in ("cnn?filter=8", "mlp?hidden=wide", "missing.py:build?width=1"):
        with pytest.raises(ModelError):
            check_model(model)


def hidden(
    low_pass: float = 0.25, token: int = 3, key: str = "own", width: int = 3
) -> keras.Model: ...


@pytest.mark.parametrize(
    ("arguments", "space", "name"),
    [
        *(("", "token=1:5000", "token"), ("?key=dense", "width=1:3", "key")),
        ("", "token=12,123456,13", "token"),
    ],
)
def test_a_sweep_refuses_what_its_store_would_hide(arguments: str, space: str, name: str) -> None:
    model = f"{__name__}:hidden{arguments}"
    with pytest.raises(ModelError, match=f"hidden in the store; not {name}"):
        search_space(SweepConfig(model=model, space=space))
    for space in ("width=1:3", "low_pass=0.1:0.5"):  # what it measures says that it is no secret
        assert search_space(SweepConfig(model=f"{__name__}:hidden", space=space)).is_inside
