"""What a search knows of its trials, and what it wants to be done next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Trial:
    """Settings that are tried.

    Attributes:
        number: In the order of the proposals, from 0.
        settings: What was proposed, as text by name.
        cost: What it costs, by the search's cost; None where that is not known.
        values: The metric of the validation data by the number of epochs done; larger is better.
        bounded: Which bounds it exceeds, in words; it was not trained then.
        failed: Why it failed, in words.
        is_default: Whether these are the settings that the model has by itself.
    """

    number: int
    settings: Mapping[str, str]
    cost: float | None = None
    values: Mapping[int, float] = field(default_factory=dict)
    bounded: str = ""
    failed: str = ""
    is_default: bool = False

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return max(self.values, default=0)

    @property
    def value(self) -> float | None:
        """The metric after these."""
        return self.values[self.epochs] if self.values else None

    def up_to(self, epochs: int) -> Trial:
        """Return what was known of it after so many epochs."""
        kept = {done: value for done, value in self.values.items() if done <= epochs}
        failed = self.failed if self.epochs < epochs else ""
        return replace(self, values=kept, failed=failed)


@dataclass(frozen=True)
class Piece:
    """A trial and the number of epochs that it is to reach."""

    number: int
    settings: Mapping[str, str]
    epochs: int
    is_default: bool = False
