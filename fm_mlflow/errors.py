"""The errors that fm_mlflow raises on purpose; each class owns its message and its exit code."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable

from fm_mlflow.escaping import printable, shortened

_LONGEST_RECEIVED = 500
_LONGEST_PARAMETER = 200
_LONGEST_ACCEPTED = 2_000


class FmMlflowError(Exception):
    """Something failed at run time. The message is one line: what, why, what to do.

    Whatever foreign text the message quotes, it stays one line.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class InputError(FmMlflowError):
    """A parameter was refused before anything started.

    Args:
        parameter: Name of the refused parameter, as the user spells it.
        received: What was received.
        accepted: What would have been accepted, in words.
        among: Names that are accepted; the one that `received` may have meant is suggested.
    """

    exit_code = 2

    def __init__(
        self, parameter: str, received: object, accepted: str, among: Iterable[str] = ()
    ) -> None:
        shown = repr(received)
        if len(shown) > _LONGEST_RECEIVED:
            shown = f"{shown[:_LONGEST_RECEIVED]}… ({len(shown):,} characters)"
        # All three may quote what a user, a file or a library says, at any length.
        parameter = shortened(parameter, _LONGEST_PARAMETER)
        accepted = shortened(accepted, _LONGEST_ACCEPTED)
        message = f"{parameter}: received {shown}, accepted: {accepted}"
        if meant := difflib.get_close_matches(str(received)[:_LONGEST_RECEIVED], among, n=1):
            message += f"; did you mean {meant[0]!r}?"
        super().__init__(" ".join(message.split()))
        self.parameter = parameter


class DataError(FmMlflowError):
    """A data set is missing, truncated, corrupted or not what it says it is."""


class ModelError(InputError):
    """A user's model does not fit the data or cannot be built."""

    def __init__(self, received: object, accepted: str, among: Iterable[str] = ()) -> None:
        super().__init__("model", received, accepted, among)


class TrainingError(FmMlflowError):
    """Training itself went wrong, for example because the loss stopped being a number."""


class FlopsError(FmMlflowError):
    """A model's FLOPs cannot be counted.

    Args:
        what: What is in the way.
        remedy: What to do about it.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"FLOPs: {what}; {remedy}")


class ComparisonError(FmMlflowError):
    """There is nothing to compare, or no model that qualifies, or nowhere to write the report."""


class TrackingError(FmMlflowError):
    """The tracking store refused or did not answer."""


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop. A KeyboardInterrupt, so that no `except Exception` eats it.

    Args:
        signum: The signal that arrived (or that stands for the cause).
        cause: One line for the run's `fm_mlflow.error` tag; by default names the signal.

    Attributes:
        advice: What the user can do next; the run's tag does not need it.
    """

    advice = ""

    def __init__(self, signum: int, cause: str | None = None) -> None:
        self.signum = signum
        super().__init__(cause or f"interrupted by {signal.Signals(signum).name}")

    @property
    def exit_code(self) -> int:
        """The shell's convention: 128 + signal number (130 SIGINT, 143 SIGTERM)."""
        return 128 + self.signum
