"""What all settings have in common: strict classes, and errors that say what is accepted."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo

from fm_mlflow.errors import InputError
from fm_mlflow.escaping import HIDDEN
from fm_mlflow.settings.dataset import last_part

T = TypeVar("T")

_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text: not blank, in characters that can be written as UTF-8, none of them NUL",
    bool: "true or false",
}


class Settings(BaseModel):
    """What all settings are: frozen; unknown names and infinite numbers are refused.

    Attributes:
        group: Heading of a class's own fields in `--help`.
    """

    group: ClassVar[str] = "Options"

    # A command uses one class of a dozen: each builds its validators when it is first used.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: object) -> object:
        """Refuse text that is no name, id or path of anything; empty means not given."""
        if isinstance(value, str) and value:
            value.encode()
            if value.isspace() or "\0" in value:
                raise ValueError("blank, or with a NUL character")
        return value


Optional = Annotated[T | None, BeforeValidator(lambda value: None if value == "" else value)]
"""A setting without a default; empty means not given, because `mlflow run` always gives it."""


def _some_words(text: str) -> str:
    if text and not text.replace(",", " ").strip():
        raise ValueError("commas alone")
    return text


Words = Annotated[str, AfterValidator(_some_words)]
"""Words with commas; empty means not given, and commas alone mean nothing at all."""

ConfigT = TypeVar("ConfigT", bound=BaseModel)

_ID = re.compile(r"[\w-]{1,256}", re.ASCII)


def check_id(parameter: str, given: str) -> None:
    """Refuse what can be no id of a run or a journal, before it is looked for or named a file.

    Raises:
        InputError: It can be none.
    """
    if not _ID.fullmatch(given):
        raise InputError(parameter, given, "the id of a run or a journal")


def parse(config_class: type[ConfigT], values: Mapping[str, object]) -> ConfigT:
    """Validate settings; text as it comes from a command line is converted.

    Raises:
        InputError: Names the first refused parameter, what was received and what is accepted.
    """
    try:
        return config_class.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        field = config_class.model_fields.get(name)
        if field is None:
            names = [*config_class.model_fields]
            accepts = f"one of the parameters {', '.join(names)}"
            raise InputError(name, name, accepts, names) from None
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        raise InputError(name, first["input"], accepted(field), choices) from None


def resumed(
    given: ConfigT, params: Mapping[str, str], of_this_call: Collection[str], owner: str
) -> ConfigT:
    """Return the settings that a run was started with, and those that belong to this call.

    Args:
        given: This call's settings; `mlflow run` always gives the defaults.
        params: The run's parameters.
        of_this_call: Settings that may differ from call to call.
        owner: What the run is, with its id.

    Raises:
        InputError: A setting was given that the run has otherwise; or the run has none.
    """
    fields = type(given).model_fields
    names = [name for name in fields if name not in of_this_call]
    stored = {name: params[name] for name in names if name in params}
    # Its process was killed as it began; the data set is logged last. Defaults are another run's.
    if not stored or ("dataset" in names and "dataset" not in stored):
        accepted = f"a run that has its settings; {owner} ended before: start it anew"
        raise InputError("resume", getattr(given, "resume", ""), accepted)
    if hidden := [name for name, text in stored.items() if HIDDEN in text]:
        accepted = (
            f"a run whose settings its store shows; of {owner} it hides {hidden[0]}: a part "
            "looks like a secret"
        )
        raise InputError("resume", getattr(given, "resume", ""), accepted)
    if "dataset" in stored:
        stored["dataset"] = last_part(stored["dataset"])
    own = {name: getattr(given, name) for name in of_this_call}
    config = parse(type(given), {**stored, **own})
    for name in names:
        value, there = getattr(given, name), getattr(config, name)
        if value not in (there, fields[name].default):
            raise InputError(name, value, f"{there}, as {owner} has it (leave it out)")
    return config


def accepted(field: FieldInfo) -> str:
    """Say in words which values a field takes, from its type and bounds alone."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "accepted" in extra:
        return str(extra["accepted"])
    if get_origin(field.annotation) is Literal:
        return ", ".join(str(choice) for choice in get_args(field.annotation))
    kind = next(iter(get_args(field.annotation)), field.annotation)
    return " ".join([_KINDS[kind], *_bounds(field.metadata)])


def _bounds(metadata: Iterable[object]) -> Iterable[str]:
    for bound in metadata:
        match bound:
            case Ge(ge=value):
                yield f"from {value}"
            case Gt(gt=value):
                yield f"above {value}"
            case Le(le=value):
                yield f"to {value}"
            case Lt(lt=value):
                yield f"below {value}"
