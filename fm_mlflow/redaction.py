"""Keeps secrets out of everything that is stored or shown."""

from __future__ import annotations

import logging
import os
import re

HIDDEN = "***"
_SHORTEST_SECRET = 6
_URI_PASSWORD = re.compile(r"(?P<start>\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/]+@", re.IGNORECASE)
_URI_USER_TOKEN = re.compile(r"(?P<start>\bhttps?://)[^\s/:@]+@", re.IGNORECASE)
_SECRET_VARIABLE = re.compile(r"TOKEN|PASSW|SECRET|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE)
_TRACE_LINES = ("File ", "[[", "Detected at", "at ", "Stack trace", "(", "<")


def redact(text: str) -> str:
    """Hide passwords in URIs and the values of environment variables that hold secrets.

    Example:
        >>> redact("postgresql://ann:hunter22@db/mlflow")
        'postgresql://ann:***@db/mlflow'
    """
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_VARIABLE.search(name):
            text = text.replace(value, HIDDEN)
    text = _URI_PASSWORD.sub(rf"\g<start>{HIDDEN}@", text)
    return _URI_USER_TOKEN.sub(rf"\g<start>{HIDDEN}@", text)


def redact_logs() -> None:
    """Redact every log record of this process, whichever library writes it."""
    make_record = logging.getLogRecordFactory()

    def make_redacted_record(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        message = record.getMessage()
        safe = redact(message)
        if safe != message:
            record.msg, record.args = safe, None
        return record

    logging.setLogRecordFactory(make_redacted_record)


def one_line(error: BaseException) -> str:
    """Return an error as one redacted line: its first line, or its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if lines[0].endswith(":"):  # TensorFlow's "Graph execution error:" says why at its end
        reasons = [line for line in lines[1:] if not line.startswith(_TRACE_LINES)]
        return redact(" ".join([lines[0], *reasons[-1:]]))
    return redact(lines[0])
