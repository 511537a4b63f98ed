"""JSON objects on the disk as dataclasses: checked when they are read, whatever became of them."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import (
    Field,
    InstanceOf,
    PlainValidator,
    StrictFloat,
    StrictInt,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import Self

from fm_mlflow.errors import TrackingError

_excerpt = reprlib.Repr()
_excerpt.maxstring = _excerpt.maxother = 60


class RecordError(TrackingError):
    """What was read is no record: it is damaged, or of a later version of fm_mlflow."""


def texts(value: object) -> dict[str, str]:
    """Return texts by name as they are; raise ValueError where they are something else."""
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise ValueError("Input should be text for each name")
    return value


def _sizes(value: object) -> dict[str, int]:
    if not isinstance(value, dict) or not all(type(each) is int for each in value.values()):
        raise ValueError("Input should be a size for each name")
    return value


# Not pydantic's own `str`, which takes no halves of surrogate pairs: paths may have them.
Text = InstanceOf[str]
# One error for the whole of it: pydantic would make one for each of a million values.
Texts = Annotated[Mapping[str, str], PlainValidator(texts)]
Sizes = Annotated[Mapping[str, int], PlainValidator(_sizes)]
Whole = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
"""A whole number that a store can hold."""
Number = StrictFloat


@dataclass(frozen=True, slots=True)
class Stored:
    """Values that are read from JSON and written to it."""

    TYPE: ClassVar[str] = ""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return what a JSON object holds; what is unknown in it is ignored.

        Raises:
            RecordError: A field is missing, or holds something else than it should.
        """
        read: Self = checked(cls, values)
        return read

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object; values of it may be `Stored` in turn."""
        written = {"type": self.TYPE} if self.TYPE else {}
        for each in fields(self):
            factory = each.default_factory
            value = getattr(self, each.name)
            if value != (each.default if factory is MISSING else factory()):
                written[each.name] = value
        return written


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def checked(kind: Any, values: object) -> Any:
    """Return a dataclass made of a JSON object.

    Raises:
        RecordError: A field is missing, or holds something else than it should.
    """
    try:
        return _adapter(kind).validate_python(values)
    except ValidationError as error:
        # Without what was given, which may be long.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RecordError(f"it is not complete: {where}: {first['msg']}") from None


def parsed(text: bytes) -> Any:
    """Return what JSON says; NaN and infinities included.

    Raises:
        RecordError: It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text.decode())  # as bytes it might be taken for UTF-16
    except (ValueError, RecursionError) as error:
        raise RecordError(f"it is not JSON: {type(error).__name__}") from None


def excerpt(value: object) -> str:
    """Return the beginning of a foreign value, printable and on one line."""
    return _excerpt.repr(value)
