"""Templates that escape every text of a run, so that names cannot inject markup."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_FOLDER = Path(__file__).with_name("templates")


def environment(shown: Callable[[str], str], *, escaped: bool) -> Environment:
    """Return an environment that passes every text through `shown` before it is output.

    Args:
        shown: Makes any text fit for the format.
        escaped: Whether `shown` escapes too; otherwise the text is escaped for HTML after it.
    """

    def finalize(value: object) -> object:
        if isinstance(value, Markup) or not isinstance(value, str):
            return value
        return Markup(shown(value)) if escaped else shown(value)

    return Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
