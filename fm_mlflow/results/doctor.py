"""What `doctor` finds out about a place where fm_mlflow is to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fm_mlflow.results import Result


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: What it is.
        found: What was found, in words; what to do where it is wrong.
        state: Whether it is fine; a `note` is worth knowing and stops nothing.
    """

    what: str
    found: str
    state: Literal["ok", "note", "wrong"] = "ok"


@dataclass(frozen=True)
class DoctorResult(Result):
    """Everything that was looked at, in order."""

    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """What has to be put right before a training can work."""
        return tuple(each for each in self.findings if each.state == "wrong")
