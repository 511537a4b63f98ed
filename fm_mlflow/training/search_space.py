"""What a sweep searches: ranges of the command line and of a model's annotations, checked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fm_mlflow.errors import InputError, ModelError
from fm_mlflow.escaping import HIDDEN
from fm_mlflow.process.redaction import redact, redact_named
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.settings.model_reference import ARGUMENT_PREFIX, ModelReference
from fm_mlflow.settings.space import (
    TRAINING_SETTINGS,
    Each,
    Float,
    Int,
    OneOf,
    Range,
    argument_text,
    choice_texts,
    parse_space,
    text_point,
)
from fm_mlflow.settings.sweep import SweepConfig
from fm_mlflow.training.builtin_models import BUILDERS
from fm_mlflow.training.model_arguments import (
    annotated_space,
    argument_texts,
    fitted_range,
    typed_arguments,
)
from fm_mlflow.training.user_source import UnfitError, find_function, refused_as

_NOTHING = (
    "a range or choices for a setting: --space name=low:high, or annotations of the model's "
    "function, as `width: Annotated[int, Int(8, 256, log=True)]`"
)


@dataclass(frozen=True)
class SearchSpace:
    """What is searched, and where the model stands by itself.

    Attributes:
        ranges: By name: arguments of the model, then settings of the training.
        defaults: The value of each by default, as text; None where one has none.
        is_inside: Whether the defaults lie in the space, so that the search may try them.
    """

    ranges: dict[str, Range]
    defaults: dict[str, str] | None
    is_inside: bool


def search_space(config: SweepConfig) -> SearchSpace:
    """Return what a sweep searches. A user's own module is imported for it.

    Raises:
        InputError: There is nothing to search, or a name or value that the model or the training
            does not take.
        ModelError: The model's function cannot be found.
    """
    asked = parse_space(config.space)
    reference = ModelReference.parse(config.model)
    with refused_as(config.model):
        function = BUILDERS.get(reference.name) or find_function(reference.name)
        ranges = _of_model(function, reference, asked)
        ranges |= {name: _of_training(name, asked[name]) for name in asked if name not in ranges}
        if not ranges:
            raise InputError("space", config.space, _NOTHING)
        settings = {name: str(getattr(config, name)) for name in TRAINING_SETTINGS}
        own = {name: each for name, each in ranges.items() if name not in TRAINING_SETTINGS}
        given = {**{name: _texts(each)[0] for name, each in own.items()}, **reference.arguments}
        typed_arguments(function, given)  # all others have values
        tried = {name: _texts(each) for name, each in own.items()}
        for name, texts in {**tried, **{n: (v,) for n, v in reference.arguments.items()}}.items():
            _check_not_hidden(reference.name, name, texts)
        try:
            arguments = argument_texts(typed_arguments(function, reference.arguments))
        except UnfitError:  # one that is searched has no default
            arguments = {}
    known = {**arguments, **settings}
    if not ranges.keys() <= known.keys():
        return SearchSpace(ranges, None, is_inside=False)
    defaults = {name: known[name] for name in ranges}
    return SearchSpace(ranges, defaults, is_inside=text_point(ranges, defaults) is not None)


def importable_reference(model: object) -> object:
    """Return a model of Python as what other processes can import.

    Args:
        model: What `sweep` was given: text, or a function.

    Raises:
        ModelError: A function that no module or file has at its top.
    """
    if not callable(model):
        return model
    name, module = getattr(model, "__qualname__", ""), getattr(model, "__module__", "")
    accepted = "a name, or a function that a module or a file has at its top"
    if not name.isidentifier():
        raise ModelError(name or type(model).__name__, accepted)
    if module == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        if file is None:
            raise ModelError(name, accepted)
        module = str(Path(file).absolute())
    return f"{module}:{name}"


def _of_model(
    function: Callable[..., Any], reference: ModelReference, asked: Mapping[str, Range]
) -> dict[str, Range]:
    """Return the ranges of the model's arguments, those that were asked for before annotations."""
    fixed = reference.arguments
    for name in fixed:
        if name in asked:
            raise InputError("space", name, f"what the model does not fix: {reference}")
    annotated = {
        name: each
        for name, each in annotated_space(function).items()
        if name not in fixed and name not in TRAINING_SETTINGS
    }
    own = {name: each for name, each in asked.items() if name not in TRAINING_SETTINGS}
    return {name: fitted_range(function, name, each) for name, each in {**annotated, **own}.items()}


def _check_not_hidden(model: str, argument: str, values: Iterable[str]) -> None:
    """Refuse an argument that the store would not show: trials are read from there.

    Raises:
        UnfitError: It has the name of a secret, or a value looks like one.
    """
    for value in values:
        text = str(ModelReference(model, {argument: value}))
        as_logged = redact_named(f"{ARGUMENT_PREFIX}{argument}", value)
        if HIDDEN in redact(text) or HIDDEN in as_logged:
            accepted = "arguments whose names and values are not those of a secret"
            raise UnfitError(f"{accepted}, which is hidden in the store; not {argument}")


def _of_training(name: str, asked: Range) -> Range:
    """Return the range of a setting of the training, every end and choice checked."""
    if isinstance(asked, Each):
        raise InputError("space", name, "one range or choices: it is one value")
    if isinstance(asked, OneOf):
        ends: tuple[Any, ...] = choice_texts(asked)
    elif name == "optimizer":
        raise InputError("space", f"{asked.low}:{asked.high}", "choices for optimizer: adam,sgd")
    else:
        if name == "learning_rate":
            asked = Float(asked.low, asked.high, asked.log)
        elif isinstance(asked, Float):
            raise InputError("space", f"{asked.low}:{asked.high}", f"whole numbers for {name}")
        ends = (asked.low, asked.high)
    for end in ends:
        parse(TrainConfig, {name: end})
    return asked


def _texts(each: Range) -> tuple[str, ...]:
    """Return every choice, or the two ends of a range."""
    if isinstance(each, OneOf):
        return choice_texts(each)
    parts: tuple[Int | Float, ...] = each.parts if isinstance(each, Each) else (each,)
    return tuple(
        ",".join(argument_text((part.low, part.high)[at]) for part in parts) for at in (0, 1)
    )
