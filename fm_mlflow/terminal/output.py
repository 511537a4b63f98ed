"""A command's result on stdout: text for a person, or one JSON object."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fm_mlflow.terminal.lines import SafeConsole


def show_result(
    result: Any, print_result: Callable[[SafeConsole, Any], None], as_json: bool
) -> None:
    """Write a workflow's result to stdout, for a person or as one JSON object."""
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
