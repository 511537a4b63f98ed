"""What a script says of its training, checked before anything starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from fm_mlflow import keys
from fm_mlflow.data.array_digest import array_digest
from fm_mlflow.errors import InputError
from fm_mlflow.process.redaction import one_line
from fm_mlflow.settings.base import Optional, Settings
from fm_mlflow.settings.config import MEASURED_PARTS, measured_parts

_CONTEXTS = ("training", "validation", "test")
_PARAM_NAME = re.compile(r"(?!.{251})[\w\-. :]+(/[\w\-. :]+)*")
_RESERVED = {
    **dict.fromkeys(("optimizer", "loss", "learning_rate"), "the compiled model says it"),
    **dict.fromkeys(("epochs", "batch_size", "validation_split", "fits"), "the fit says it"),
    **dict.fromkeys(keys.PARAMS_OF_STOP, "the fit says it"),
    **{"model": "the argument name says it", "seed": "there is an argument seed"},
    "dataset": "there is an argument dataset",
}


class ScriptSettings(Settings):
    """What a script says of its training. Frozen; unknown names are refused."""

    name: str = Field("", description="What is trained; empty takes the Keras model's name.")
    seed: Optional[int] = Field(None, ge=0, le=2**32 - 1, description="Seed of the random state.")
    dataset: str = Field("", description="Name of the data.")
    measure: str = Field(
        ",".join(MEASURED_PARTS), description="Costs to measure, with commas; or none."
    )
    flush_timeout: float = Field(
        60.0, ge=0, description="Seconds that the end waits for a store that does not answer."
    )
    quiet: bool = Field(False, description="Do not say at the end where the run is.")

    @field_validator("measure")
    @classmethod
    def _check_measure(cls, measure: str) -> str:
        measured_parts(measure)
        return measure


def checked_data(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a script's arrays by context.

    Raises:
        InputError: They are not by context.
    """
    if data is None:
        return {}
    if not isinstance(data, Mapping) or not data or not set(data) <= set(_CONTEXTS):
        given = sorted(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
        accepted = f"a mapping from {', '.join(_CONTEXTS)} to inputs or (inputs, targets)"
        raise InputError("data", given, accepted)
    return dict(data)


def data_digest(part: Any) -> str:
    """Return the digest of arrays, or structures of them.

    Raises:
        InputError: They are none.
    """
    try:
        return array_digest(part)
    except ValueError as error:
        accepted = (
            "arrays, data frames, tensors, or lists, tuples and mappings of them (a tf.data, which "
            "has no digest: the arrays that it was made of)"
        )
        raise InputError("data", one_line(error), accepted) from None


def checked_params(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return parameters of a script's own.

    Raises:
        InputError: A name is none of MLflow's, or one that the fit or another argument says.
    """
    given = named_params({} if params is None else params)
    for name in given:
        if name in _RESERVED:
            raise InputError("params", name, f"names of your own: {_RESERVED[name]}")
    return given


def named_params(params: Any) -> dict[str, Any]:
    """Return parameters by name.

    Raises:
        InputError: MLflow would refuse a name, and with it all that is logged in one record.
    """
    if not isinstance(params, Mapping):
        raise InputError("params", type(params).__name__, "a mapping from names to values")
    for name in params:
        if not isinstance(name, str) or not _PARAM_NAME.fullmatch(name):
            raise InputError("params", name, "names of letters, digits, space and _ - . : /")
    return dict(params)
