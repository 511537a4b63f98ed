"""What the results of all commands have in common."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_jsonable_python


class Result:
    """Base of the dataclasses that commands return."""

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain values that JSON can hold; NaN and infinity are None."""
        plain: dict[str, Any] = to_jsonable_python(self, inf_nan_mode="null")
        return plain
