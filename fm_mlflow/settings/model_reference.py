"""A model as text: what builds it, and the arguments that it is built with.

`cnn`, `package.module:function`, `path/to/file.py:function`, each with arguments like those of a
web address: `cnn?filters=8,16&dense=32`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote, unquote

from fm_mlflow.errors import InputError
from fm_mlflow.settings.space import TRAINING_SETTINGS

BUILTIN_DEFAULTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"mlp": {"hidden": "256,128"}, "cnn": {"filters": "16,32", "dense": "64"}}
)
"""Arguments of the built-in models (`fm_mlflow.training.builtin_models`) and their defaults.

Runs that were logged before there were arguments have these."""

BUILTIN_MODELS = tuple(BUILTIN_DEFAULTS)
"""Names of the built-in models."""

MODEL_REFERENCE = re.compile(r"(?P<module>.+):(?P<function>[A-Za-z_<][\w.<>]*)")
"""A user's own model: `package.module:function` or `path/to/file.py:function`."""

MODEL_ACCEPTED = f"{', '.join(BUILTIN_MODELS)}, package.module:function or path/to/file.py:function"

ARGUMENT_PREFIX = "model."
"""Before the names of a model's arguments where they are a run's parameters: `model.width`."""

_ARGUMENTS_ACCEPTED = "a model and its arguments, each once: model?name=value&name=value"
_SAFE = ",.:/+|-_~()"


def is_model_name(name: str) -> bool:
    """Tell whether a text names what can build a model; whether it exists is another question."""
    return name in BUILTIN_MODELS or MODEL_REFERENCE.fullmatch(name) is not None


@dataclass(frozen=True)
class ModelReference:
    """A model by name, and the arguments that were given for it.

    Attributes:
        name: `mlp`, `package.module:function`, `path/to/file.py:function`.
        arguments: As text, by name; those with defaults may be missing.
    """

    name: str
    arguments: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Read a reference.

        Raises:
            InputError: It is none.
        """
        # A path may hold a question mark, too.
        for at in (match.start() for match in re.finditer(r"\?", text)):
            if is_model_name(text[:at]):
                return cls(text[:at], _arguments(text, text[at + 1 :]))
        if not is_model_name(text):
            accepted = f"{MODEL_ACCEPTED}; with arguments: model?name=value"
            raise InputError("model", text, accepted, BUILTIN_MODELS)
        return cls(text)

    def __str__(self) -> str:
        """The reference as it is typed."""
        query = "&".join(f"{name}={_quoted(value)}" for name, value in self.arguments.items())
        return f"{self.name}?{query}" if query else self.name


def _arguments(text: str, query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if not equals or not name.isidentifier() or name in found:
            raise InputError("model", text, _ARGUMENTS_ACCEPTED)
        found[name] = unquote(value)
    return found


def _quoted(value: str) -> str:
    """Write a value so that neither `&` nor a list of models (`split_models`) ends it early."""
    parts = [quote(part, safe=_SAFE) for part in value.split(",")]
    return "".join(
        part if not at else f"%2C{part}" if is_model_name(part) else f",{part}"
        for at, part in enumerate(parts)
    )


def split_models(text: str) -> tuple[str, ...]:
    """Split a list of models at its commas; those within arguments stay: `mlp?hidden=64,32,cnn`.

    A comma is within an argument where what follows it begins no model.
    """
    models: list[str] = []
    for part in text.split(","):
        if models and _has_arguments(models[-1]) and not _begins_a_model(part.strip()):
            models[-1] += f",{part}"
        else:
            models.append(part)
    return tuple(model.strip() for model in models)


def _has_arguments(model: str) -> bool:
    marks = (match.start() for match in re.finditer(r"\?", model))
    return any(is_model_name(model[:at].strip()) for at in marks)


def _begins_a_model(part: str) -> bool:
    """Tell whether what follows a comma after an argument is a model, no more of the argument."""
    ends = (match.start() for match in re.finditer(r"[?#]|$", part))
    # An ampersand begins the next argument, whose value may hold a colon.
    return any(is_model_name(part[:at]) and "&" not in part[:at] for at in ends)


def split_settings(entry: str) -> tuple[str, dict[str, str]]:
    """Split settings of the training off a benchmark's model: `cnn#learning_rate=0.003`.

    Raises:
        InputError: What follows the `#` are no settings of a training that models may have.
    """
    match = re.fullmatch(r"(?P<model>.+)#(?P<settings>[a-z_]+=[^#]*)", entry)
    if match is None:
        return entry, {}
    settings: dict[str, str] = {}
    for part in match["settings"].split("&"):
        name, _, value = part.partition("=")
        if name not in TRAINING_SETTINGS or name in settings or not value:
            names = ", ".join(TRAINING_SETTINGS)
            accepted = (
                f"settings of one model's training after #, name=value, of {names}; each once"
            )
            raise InputError("models", entry, accepted)
        settings[name] = value
    return match["model"], settings


def joined_settings(model: str, settings: Mapping[str, object]) -> str:
    """Return a model with settings of its training, as `split_settings` reads it."""
    query = "&".join(f"{name}={value}" for name, value in settings.items())
    return f"{model}#{query}" if query else model
