"""The arguments of a function that builds a model: from text to the types that it declares."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from fm_mlflow.errors import InputError, ModelError
from fm_mlflow.settings.model_reference import BUILTIN_MODELS, ModelReference
from fm_mlflow.settings.space import Each, Float, Int, OneOf, Range, argument_text
from fm_mlflow.training.user_source import UnfitError, check_reference, refused_as

_KINDS = {
    **{int: "a whole number", float: "a number", bool: "true or false", str: "text"},
    type(None): "none",
}
_SEQUENCES = (tuple, list, Sequence)
_UNIONS = (Union, UnionType)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def typed_arguments(function: Callable[..., Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of a call by name: those given, in their types, and the defaults.

    Types are those of the annotations, else those of the defaults.

    Args:
        function: Builds a model.
        given: Values as text; the elements of a sequence with commas.

    Raises:
        UnfitError: It has no such argument, a value is not of its type, or one is missing.
    """
    parameters = _parameters(function)
    arguments: dict[str, Any] = {}
    for name in given:
        if name not in parameters:
            raise UnfitError(_unknown(name, parameters))
    for name, parameter in parameters.items():
        if name in given:
            arguments[name] = _typed(name, parameter, given[name])
        elif parameter.default is not inspect.Parameter.empty:
            arguments[name] = parameter.default
        else:
            raise UnfitError(
                f"a value for its argument {name} ({_words(_type_of(parameter))}), which has no "
                f"default: ?{name}=value"
            )
    return arguments


def named_model(model: object, arguments: Mapping[str, Any] | None = None) -> object:
    """Return what names a model in the store: itself, or where its function stands.

    Raises:
        ModelError: It cannot be named.
        InputError: An argument has no text, or is given twice.
    """
    if callable(model):
        if not hasattr(model, "__qualname__"):
            accepted = "a name, or a function (def or lambda) that returns a Keras model"
            raise ModelError(type(model).__name__, accepted)
        model = f"{model.__module__}:{model.__qualname__}"
    if not arguments or not isinstance(model, str):
        return model
    named = ModelReference.parse(model)
    texts = dict(named.arguments)
    for name, value in arguments.items():
        try:
            text = argument_text(value)
        except ValueError as error:
            raise InputError("model_args", value, f"{name} as a value: {error}") from error
        if name in texts or not name.isidentifier():
            raise InputError("model_args", name, "names of arguments, each given once")
        texts[name] = text
    return str(ModelReference(named.name, texts))


def check_model(text: str) -> None:
    """Check a model without importing a user's code: that it exists, and a built-in's arguments.

    Raises:
        ModelError: It does not exist, or takes other arguments.
    """
    reference = ModelReference.parse(text)
    if reference.name not in BUILTIN_MODELS:
        check_reference(reference.name)
        return
    from fm_mlflow.training.builtin_models import BUILDERS

    with refused_as(text):
        typed_arguments(BUILDERS[reference.name], reference.arguments)


def argument_texts(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return arguments as texts by name, without what has no text: a default that is an object."""
    texts = {}
    for name, value in arguments.items():
        try:
            texts[name] = argument_text(value)
        except ValueError:
            continue
    return texts


def annotated_space(function: Callable[..., Any]) -> dict[str, Range]:
    """Return the ranges and choices that stand in a function's annotations, by argument."""
    found: dict[str, Range] = {}
    for name, parameter in _parameters(function).items():
        annotation = parameter.annotation
        marks = [annotation, *getattr(annotation, "__metadata__", ())]
        for mark in marks:
            if isinstance(mark, (Int, Float, OneOf, Each)):
                found[name] = mark
    return found


def fitted_range(function: Callable[..., Any], name: str, asked: Range) -> Range:
    """Return a range or choices for an argument, of its type.

    Raises:
        UnfitError: There is no such argument, or it takes other values.
    """
    parameters = _parameters(function)
    if name not in parameters:
        raise UnfitError(_unknown(name, parameters))
    parameter = parameters[name]
    kind = _type_of(parameter)
    element = get_args(kind)[0] if get_origin(kind) in _SEQUENCES and get_args(kind) else kind
    if isinstance(asked, OneOf):
        for choice in asked.choices:
            _typed(name, parameter, argument_text(choice))
        return asked
    if isinstance(asked, Each) != (get_origin(kind) in _SEQUENCES or kind in _SEQUENCES):
        raise UnfitError(f"a range for each element where {name} is a sequence, else one range")
    parts = asked.parts if isinstance(asked, Each) else (asked,)
    if element is int and any(isinstance(part, Float) for part in parts):
        raise UnfitError(f"whole numbers as ends of the range of {name}")
    if element is float:
        parts = tuple(Float(part.low, part.high, part.log) for part in parts)
    elif element not in (int, Any):
        raise UnfitError(f"choices for {name}, which is {_words(kind)}: {name}=one,another")
    return Each(*parts) if isinstance(asked, Each) else parts[0]


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # of C
        return {}
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return {
        name: each.replace(annotation=_evaluated(each.annotation, names))
        for name, each in signature.parameters.items()
        if each.kind in _NAMED
    }


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    """Return what an annotation means that is text: `from __future__ import annotations`.

    One by one, because others, of the result say, may name what only type checkers import.
    """
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)
    except Exception:  # then the default's type counts
        return annotation


def _type_of(parameter: inspect.Parameter) -> Any:
    """Return the type that an argument takes: of its annotation, else of its default."""
    annotation = parameter.annotation
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, Int):
        return int
    if isinstance(annotation, Float):
        return float
    if isinstance(annotation, Each):
        kinds = {int if isinstance(part, Int) else float for part in annotation.parts}
        return tuple[kinds.pop() if len(kinds) == 1 else Any, ...]  # type: ignore[misc]
    if isinstance(annotation, OneOf):
        annotation = _common_type(annotation.choices)
    default = parameter.default
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        known = default is not inspect.Parameter.empty and default is not None
        annotation = _common_type([default]) if known else Any
    elif annotation in _SEQUENCES and isinstance(default, (tuple, list)):
        annotation = _common_type([default])  # which says what its elements are
    return annotation


def _common_type(values: Any) -> Any:
    kinds = {type(value) for value in values}
    kind = kinds.pop() if len(kinds) == 1 else Any
    if kind in (tuple, list):
        elements = {type(part) for value in values for part in value}
        element = elements.pop() if len(elements) == 1 else Any
        return tuple[element, ...] if kind is tuple else list[element]  # type: ignore[valid-type]
    return kind


def _typed(name: str, parameter: inspect.Parameter, text: str) -> Any:
    kind = _type_of(parameter)
    if kind in (Any, object):
        return _guessed(text)
    adapted: Any = Annotated[kind, BeforeValidator(lambda value: _split(kind, value))]
    try:
        return TypeAdapter(adapted).validate_python(text)
    except ValidationError:
        raise UnfitError(f"{_words(kind)} for its argument {name}; received {text!r}") from None
    except PydanticSchemaGenerationError:
        raise UnfitError(
            f"no value for its argument {name}, whose type cannot be given as text"
        ) from None


def _split(kind: Any, value: Any) -> Any:
    if isinstance(value, str):
        if value == "none" and type(None) in get_args(kind):
            return None
        kinds = [kind, *(get_args(kind) if get_origin(kind) in _UNIONS else ())]
        for each in kinds:
            if get_origin(each) is Literal:
                for choice in get_args(each):
                    if _choice_text(choice) == value:
                        return choice
        for each in kinds:
            if (get_origin(each) or each) in _SEQUENCES:
                parts = [part.strip() for part in value.split(",")] if value else []
                is_said = set(get_args(each)) - {Any, ...}
                return parts if is_said else [_guessed(part) for part in parts]
    return value


def _choice_text(choice: Any) -> str:
    try:
        return argument_text(choice)
    except ValueError:  # a member of an enumeration, say
        return str(choice)


def _guessed(text: str) -> Any:
    """Return what a text looks like, where nothing says what it should be."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text, text)


def _words(kind: Any) -> str:
    if kind in _KINDS:
        return _KINDS[kind]
    if (get_origin(kind) or kind) in _SEQUENCES:
        element = next(iter(get_args(kind)), Any)
        return f"values with commas, each {_KINDS.get(element, 'a number or text')}"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(_choice_text, get_args(kind)))
    return " or ".join(map(_words, get_args(kind))) if get_origin(kind) in _UNIONS else "a value"


def _unknown(name: str, parameters: Mapping[str, inspect.Parameter]) -> str:
    if not parameters:
        return f"no arguments: its function has none; not {name}"
    known = ", ".join(
        f"{each} ({_words(_type_of(parameter))})" for each, parameter in parameters.items()
    )
    alike = difflib.get_close_matches(name, parameters, 1)
    hint = f" - did you mean {alike[0]}?" if alike else ""
    return f"the arguments {known}; not {name}{hint}"
