"""Finds the cause in the message of an exception of Keras, TensorFlow or SQLAlchemy."""

from __future__ import annotations

import re

_STYLES = re.compile(r"\x1b\[[\d;]*m")
_CAUSE_FOLLOWS = re.compile(
    r"(?:Exception|Error) encountered(?: when calling [^\n]*| during deserialization)?[.:]\s*"
)
"""What Keras puts before the message of the exception that it caught."""
_CONFIGURATION = re.compile(r"\s(?:using )?config=\{")
_APPENDED = re.compile(
    r"\s(?:Full object config:|Arguments received by |List of objects that could not|\[SQL: )"
)
_TRACE_LINES = ("File ", "[[", "Detected at", "at ", "Stack trace", "(", "<")


def cause(message: str) -> str:
    r"""Return what a message says and why, on one line.

    Keras puts the cause after a whole configuration, or in bold between a layer and its arguments;
    TensorFlow below a traceback. Configurations, arguments, statements and styles are left out.

    Examples:
        >>> cause("Error when deserializing class A using config={}.\n\nException encountered: B")
        'Error when deserializing class A: B'
    """
    *before, last = _CAUSE_FOLLOWS.split(_STYLES.sub("", message))
    head = _first_paragraph(_CONFIGURATION.split(before[0])[0]) if before else ""
    head = head.partition(". ")[0]  # what follows is advice of all kinds
    lines = [line.strip() for line in last.splitlines() if line.strip()]
    if lines and lines[0].endswith(":"):  # TensorFlow's "Graph execution error:" says why last
        reasons = [line for line in lines[1:] if not line.startswith(_TRACE_LINES)]
        last = " ".join([lines[0], *reasons[-1:]])
    why = _first_paragraph(_APPENDED.split(last)[0])
    return f"{head.rstrip('.:')}: {why}" if head and why else why or head


def _first_paragraph(text: str) -> str:
    return " ".join(text.strip().partition("\n\n")[0].split())
