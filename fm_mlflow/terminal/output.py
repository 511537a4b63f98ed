"""A command's result on stdout, for a person or as JSON; a refusal in the files of a pipeline."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fm_mlflow.errors import InputError
from fm_mlflow.process.quiet import stdout_to_stderr

if TYPE_CHECKING:
    from fm_mlflow.terminal.lines import SafeConsole

Shown = TypeVar("Shown")


@contextmanager
def progress_on_stderr(
    shown: Callable[[SafeConsole], AbstractContextManager[Shown]],
) -> Iterator[Shown]:
    """Show how a workflow goes on stderr, and keep stdout for its result."""
    from fm_mlflow.terminal.lines import SafeConsole  # rich, which `--help` does without

    with stdout_to_stderr(), shown(SafeConsole(stderr=True)) as progress:
        yield progress


def show_result(
    result: Any, print_result: Callable[[SafeConsole, Any], None], as_json: bool
) -> None:
    """Write a workflow's result to stdout, for a person or as one JSON object."""
    from fm_mlflow.terminal.lines import SafeConsole  # rich, which `--help` does without

    if as_json:
        text = f"{json.dumps(result.to_dict(), allow_nan=False)}\n"
    else:
        console = SafeConsole()
        with console.capture() as shown:
            print_result(console, result)
        # Tables are filled with blanks, which nobody wants in a file or after copying.
        text = "\n".join(line.rstrip(" ") for line in shown.get().split("\n"))
    # The run is complete; a reader who has gone does not change that.
    with suppress(BrokenPipeError):
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def report_refusal(error: BaseException, arguments: Sequence[str]) -> None:
    """Write the files that a refused `register` names, which a pipeline's next step looks for.

    What refuses the command line itself comes before the command knows them.

    Args:
        error: What was refused.
        arguments: The command line.
    """
    if not isinstance(error, InputError) or arguments[:1] != ["register"]:
        return
    from fm_mlflow.registration.reports import FORMS, write_refusal

    files = {}
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        option, is_joined, value = word.partition("=")
        given, name = value if is_joined else following, option.removeprefix("--")
        if name in FORMS and name != option and given.strip():
            files[name] = Path(given)
    write_refusal(files, error)
