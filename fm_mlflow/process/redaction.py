"""Keeps secrets out of everything that is stored or shown."""

from __future__ import annotations

import logging
import os
import re

from fm_mlflow.errors import FmMlflowError

HIDDEN = "***"
_SHORTEST_SECRET = 4

# A web address may hold a port, a slash and an @ further on; a database's password may hold both.
_WEB_PASSWORD = re.compile(r"(?P<start>\bhttps?://[^\s/:@]*:)[^\s/]+@", re.IGNORECASE)
_WEB_TOKEN = re.compile(r"(?P<start>\bhttps?://)[^\s/:@]+@", re.IGNORECASE)
_DATABASE_PASSWORD = re.compile(
    r"(?P<start>\b(?!https?:)[a-z][a-z0-9+.-]*://[^\s/:@]*:)\S+@", re.IGNORECASE
)
_QUERY_SECRET = re.compile(
    r"(?P<start>[?&;](?:password|passwd|pwd|token|secret|api_?key|access_?key|odbc_connect)=)[^\s&]+",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIALS?|API_?KEY|ACCESS_KEY|"
    r"ACCOUNT_KEY|PRIVATE_KEY|CONNECTION_STRING|(?<=_)PWD)(?:_|$)",
    re.IGNORECASE,
)
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
    for pattern in (_WEB_PASSWORD, _WEB_TOKEN, _DATABASE_PASSWORD):
        text = pattern.sub(rf"\g<start>{HIDDEN}@", text)
    return _QUERY_SECRET.sub(rf"\g<start>{HIDDEN}", text)


def redact_logs() -> None:
    """Redact every log record of this process, tracebacks included, whichever library writes it."""
    make_record = logging.getLogRecordFactory()
    formatter = logging.Formatter()

    def make_redacted_record(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return record  # logging itself reports a call that does not fit its arguments
        record.msg, record.args = redact(message), None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact(formatter.formatException(record.exc_info))
        return record

    logging.setLogRecordFactory(make_redacted_record)


def one_line(error: BaseException) -> str:
    """Return an error as one redacted line: its type, unless it is ours, and its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].endswith(":"):  # TensorFlow's "Graph execution error:" says why last
        reasons = [line for line in lines[1:] if not line.startswith(_TRACE_LINES)]
        message = " ".join([lines[0], *reasons[-1:]])
    else:
        message = "".join(lines[:1])
    if isinstance(error, (FmMlflowError, KeyboardInterrupt)) and message:
        return redact(message)
    return redact(": ".join(filter(None, [type(error).__name__, message])))
