"""The lease of a run: which process may write to it, when another one has taken it over.

It is a tag of the run: a number that grows with each owner, and a token that no other process has.
MLflow's stores cannot compare and set: of two that take a lease at one moment, the one whose tag
stays is the owner, and the other one finds out by its next look.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fm_mlflow import keys
from fm_mlflow.tracking.outbox.records import Record, Reopen, RunStart

_FORM = re.compile(r"([0-9]{1,9}) ([0-9a-f]{12})")


@dataclass(frozen=True)
class Lease:
    """A process' right to write to a run.

    Attributes:
        number: Which owner of the run it is, from 1.
        token: The process' own.
    """

    number: int
    token: str

    @classmethod
    def after(cls, earlier: Lease | None) -> Lease:
        """Return a new one, of this process, that comes after another one."""
        return cls((earlier.number if earlier else 0) + 1, uuid.uuid4().hex[:12])

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Lease | None:
        """Read the tag of a run; None of one that has none, or something else there."""
        found = _FORM.fullmatch(tags.get(keys.LEASE, ""))
        return cls(int(found[1]), found[2]) if found else None

    @classmethod
    def of_journal(cls, records: Sequence[Record]) -> Lease | None:
        """Return the lease that a journal's last process had; version 0.1.0 wrote none."""
        opened = [each for each in records if isinstance(each, (RunStart, Reopen))]
        return next(filter(None, (cls.of(each.tags) for each in reversed(opened))), None)

    def __str__(self) -> str:
        """The value of the tag."""
        return f"{self.number} {self.token}"

    def is_lost_to(self, stored: Lease | None) -> bool:
        """Tell whether the store names another owner, of the same time or later."""
        return stored is not None and stored != self and stored.number >= self.number
