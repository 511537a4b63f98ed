"""What processes a command starts, noted by the command itself, which is executed as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.processes import PROJECT

_NOTES = """
import os, sys
def note(event, arguments):
    if event in ("os.fork", "subprocess.Popen") and os.getpid() == first:
        frame = sys._getframe(1)
        while os.path.basename(frame.f_code.co_filename) == "subprocess.py":
            frame = frame.f_back
        name = os.path.basename(frame.f_code.co_filename)
        with open(NOTES, "a") as file:
            print(name, file=file)
        if name == ENDS_AT:
            os._exit(os.EX_TEMPFAIL)
first = os.getpid()
sys.addaudithook(note)
"""


def noting(folder: Path, ends_at: str = "") -> tuple[Callable[[], list[str]], dict[str, str]]:
    """Have a Python program note which files of the source start processes.

    Args:
        folder: For the notes.
        ends_at: The file with whose first process the program ends, by `os.EX_TEMPFAIL`.

    Returns:
        What gives the names of the files, and what is to be added to the program's environment.
    """
    place, notes = folder / "noting", folder / "notes"
    place.mkdir()
    code = _NOTES.replace("NOTES", repr(str(notes))).replace("ENDS_AT", repr(ends_at))
    (place / "sitecustomize.py").write_text(code)
    path = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", str(PROJECT))])
    return lambda: notes.read_text().split(), {"PYTHONPATH": path}
