"""What each command returns."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_jsonable_python


class Result:
    """Base of the dataclasses that commands return."""

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain values that JSON can hold; NaN and infinity are None."""
        fields = {
            name: value.to_dict() if hasattr(value, "to_dict") else value
            for name, value in vars(self).items()
        }
        plain: dict[str, Any] = to_jsonable_python(fields, inf_nan_mode="null")
        return plain
