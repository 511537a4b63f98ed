"""Keeps secrets out of everything that is stored or shown.

Every finder reads its text once, in steps that do not look further than a line or a few dozen
characters: the time is linear in the length of the text, whatever the text is.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import quote, quote_plus, unquote

from fm_mlflow.errors import FmMlflowError
from fm_mlflow.escaping import HIDDEN, indented, printable
from fm_mlflow.process.causes import cause
from fm_mlflow.process.secret_names import (
    is_secret,
    is_secret_name,
    is_stated,
    is_telling,
)

Span: TypeAlias = tuple[int, int]

_LONGEST_NAME = 64
_LONGEST_SCHEME = 30
_INSIDE_WORDS = 8  # a shorter secret is hidden where it stands alone: `hunt`, but not in `hunting`
_LONG_LINE = 16

_LONGEST_CAUSE = 400


def redact(text: str) -> str:
    """Hide secrets: by what the environment holds, by their names, and by their form.

    Examples:
        >>> redact("postgresql://ann:hunter22@db/mlflow")
        'postgresql://ann:***@db/mlflow'
    """
    # Not `items()`: another thread may remove a variable meanwhile.
    variables = frozenset((name, os.environ.get(name, "")) for name in os.environ)
    secrets = _environment_secrets(variables)
    spans = sorted([*_copies(text, secrets), *_found(text)])
    parts, position = [], 0
    for start, end in spans:
        if end <= position:
            continue
        # Where two overlap, what both cover becomes one.
        parts += [text[position:start], HIDDEN] if start >= position else []
        position = end
    return "".join([*parts, text[position:]])


def redact_named(name: str, value: str) -> str:
    """Return a value to be stored under a name: hidden, where the name is that of a secret."""
    return HIDDEN if is_secret(name, value) else redact(value)


@lru_cache(maxsize=4)
def _environment_secrets(variables: frozenset[tuple[str, str]]) -> tuple[str, ...]:
    """Return the secrets of environment variables, in every spelling in which they may appear."""
    secrets = set()
    for name, value in variables:
        # A path says where a secret is.
        if is_secret(name, value) and not os.path.exists(value[:4096]):
            secrets |= {value, *(line for line in value.splitlines() if len(line) >= _LONG_LINE)}
        secrets |= {value[start:end] for start, end in _found(value)}
    spellings = set()
    for secret in filter(is_telling, secrets):
        plain = unquote(secret)
        for each in (secret, plain):
            spellings |= {each, quote(each), quote(each, safe=""), quote_plus(each)}
            spellings |= {json.dumps(each)[1:-1], repr(each)[1:-1]}
    return tuple(filter(is_telling, spellings))


def _copies(text: str, secrets: Iterable[str]) -> Iterator[Span]:
    for secret in secrets:
        start = text.find(secret)
        while start >= 0:
            end = start + len(secret)
            inside = text[max(0, start - 1) : start].isalnum() or text[end : end + 1].isalnum()
            if len(secret) >= _INSIDE_WORDS or not inside:
                yield start, end
            start = text.find(secret, end)


def _found(text: str) -> Iterator[Span]:
    """Yield where secrets are by their form, in any order."""
    by_name, by_form = (_named, _arguments), (_in_addresses, _tokens, _before_hosts, _logins)
    for finder in (*by_name, *by_form, _private_keys):
        yield from ((start, end) for start, end in finder(text) if end > start)


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
_ADDRESS = re.compile(r"[^\s\"<>`]*")
_USER = re.compile(r"[^/?#@:]*")
_PORT = re.compile(r":\d{0,5}(?:[/?#]|\Z)")
_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|localhost|[\w-]+(?:\.[\w-]+)+|[\w-]+(?=:\d))(?::\d+)?(?:[/?#,]|\Z)"
)
# Beside a token as the user, GitHub and others take any password.
_NO_PASSWORDS = {"", "x", "x-oauth-basic"}
_LONG_USER = re.compile(r"(?=\D*\d)[\w-]{16,}")


def _in_addresses(text: str) -> Iterator[Span]:
    """Yield passwords and tokens of `scheme://user:password@host`."""
    position = text.find("://") if "@" in text else -1
    while position >= 0:
        start, following = position + 3, text.find("://", position + 3)
        end = following if following >= 0 else len(text)
        address = _ADDRESS.match(text, start, end)
        found = _SCHEME.search(text, max(0, position - _LONGEST_SCHEME), position)
        if address is not None and found is not None:
            is_web = found[0].lower().endswith(("http", "https", "ws", "wss"))
            for first, last in _in_address(address[0], is_web):
                yield start + first, start + last
        position = following


def _in_address(address: str, is_web: bool) -> Iterator[Span]:
    at = _end_of_user(address)
    colon = len(_USER.match(address)[0])  # type: ignore[index]  # it matches nothing, too
    if at < 0 or colon > at:
        return
    if address[colon] != ":":
        if is_web and colon == at:  # a user without a password is a token
            yield 0, at
        return
    if is_web and _PORT.match(address, colon):
        return  # a host and its port; what has an @ is further on
    password = address[colon + 1 : at]
    yield colon + 1, at
    if password in _NO_PASSWORDS or (is_web and _LONG_USER.fullmatch(address, 0, colon)):
        yield 0, colon


def _end_of_user(address: str) -> int:
    """Return the position of the @ before the host: a password may hold @ and / as well."""
    at = last = address.rfind("@")
    position = address.find("@")
    while 0 <= position < last:
        if _HOST.match(address, position + 1):
            return position
        position = address.find("@", position + 1)
    return at


_NAME_END = re.compile(
    r"(?:pass(?:word|wd|phrase|code)?|pwd|pin|t?otp|secrets?|token|apikey|key(?:[_-]?id)?|creds?|"
    r"credentials?|jwt|pat|sas|cookies?|authorization|bearer|auth|sig|signature|code|connect|"
    r"string|csrf|sessionid)\d?(?=[\\\"'\s=:%])"
)
_NAME = re.compile(r"[\w-]+\Z")
_SEPARATOR = re.compile(r"(?:\\?[\"'])?\s{0,2}(?:=>|:=|=|:|%3[dD])[ \t]{0,2}")
_QUOTED = re.compile(r"(\\?[\"'])([^\r\n]*?)\1")
_BARE = re.compile(r"\\?[\"']?(\{[^{}\s]{1,64}\}|[^\s&;\"'<>]+)")
_UNQUOTED = re.compile(r"[\"']?([^\r\n\"']*)")
_KNOWN_SCHEME = re.compile(r"[\"']?(?:bearer|basic|token|apikey)\s{1,2}", re.IGNORECASE)
_NO_PROSE = re.compile(r"[\d._~+/=-]")
_REST_OF_PROSE = re.compile(r"[a-z]+[,.]?[ \t]+\S")
_IN_QUERIES = {"sig", "signature", "key", "code", "auth", "pass", "pwd", "token"}


def _named(text: str) -> Iterator[Span]:
    """Yield what stands after the name of a secret: `--token x`, `"password": "x"`, `Cookie: x`."""
    # Of all characters, this one alone becomes two when it is lowered.
    lowered = text.replace("\u0130", "I").lower()
    position = 0
    for end in _NAME_END.finditer(lowered):
        if end.start() < position:  # within the value before
            continue
        for span in _after_name(text, end):
            position = span[1]
            yield span


def _after_name(text: str, end: re.Match[str]) -> Iterator[Span]:
    """Yield the value that follows, where the name that ends there is that of a secret."""
    name = _NAME.search(text, max(0, end.start() - _LONGEST_NAME), end.end())
    if name is not None:
        last = end[0].rstrip("0123456789")
        separator = _SEPARATOR.match(text, end.end())
        start = separator.end() if separator else end.end() + 1
        before = text[max(0, name.start() - 1) : name.start()]
        is_option = name[0].startswith("-") and text[end.end()].isspace()
        if last == "bearer" and separator is None:
            bare = _BARE.match(text, start)
            if bare and _NO_PROSE.search(bare[1]):
                yield bare.span(1)
        elif before and before in "?&;" and name[0].lower() in _IN_QUERIES:
            yield from _value(text, start, name[0], always=True)
        elif not (separator or is_option) or not is_secret_name(name[0]):
            return
        elif last in ("cookie", "cookies"):
            yield from _rest_of_line(text, start)
        elif last == "authorization":
            yield from _credentials(text, start)
        # A sentence may continue after a colon: "wrong password: the server says 401".
        elif not (separator and ": " in separator[0] and _REST_OF_PROSE.match(text, start)):
            yield from _value(text, start, name[0])


def _credentials(text: str, start: int) -> Iterator[Span]:
    """Yield what stands after `Authorization:`; of an unknown scheme, all of the line."""
    scheme = _KNOWN_SCHEME.match(text, start)
    if scheme is None:
        yield from _rest_of_line(text, start)
    elif credentials := _BARE.match(text, scheme.end()):
        yield credentials.span(1)


def _rest_of_line(text: str, start: int) -> Iterator[Span]:
    line = _UNQUOTED.match(text, start)
    if line is not None:
        yield line.span(1)


def _value(text: str, start: int, name: str, *, always: bool = False) -> Iterator[Span]:
    """Yield the value that begins there, if it is a secret by its name; or whatever it is."""
    quoted = _QUOTED.match(text, start)
    if quoted is not None:
        value, first = quoted[2], quoted.start(2)
    elif bare := _BARE.match(text, start):
        value, first = bare[1], bare.start(1)
        value = value if value.startswith("{") else value.rstrip(",)]}")
    else:
        return
    if is_secret(name, value) or (always and is_stated(value)):
        yield first, first + len(value)


_ARGUMENT = re.compile(r"(?<=[?&])([A-Za-z_]\w{0,63})=([^&#\s\"'<>\\]+)")
_NEXT_MODEL = re.compile(r",(?:(?:mlp|cnn)(?:[?,]|\Z)|[^,?=]*:[A-Za-z_])")


def _arguments(text: str) -> Iterator[Span]:
    """Yield secrets among the arguments of models, `f?token_dim=x`, as a run's parameters are."""
    for argument in _ARGUMENT.finditer(text):
        following = _NEXT_MODEL.search(argument[2])
        value = argument[2][: following.start()] if following else argument[2]
        if is_secret(f"model.{argument[1]}", unquote(value)):
            yield argument.start(2), argument.start(2) + len(value)


_TOKEN = re.compile(
    r"(?<![\w-])(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abeoprs]-|AKIA|ASIA|AIza|dapi|npm_|"
    r"pypi-|eyJ)[A-Za-z0-9_-]{16,}(?:\.[A-Za-z0-9_-]*){0,2}"
)


def _tokens(text: str) -> Iterator[Span]:
    """Yield access tokens, by how those of well-known issuers begin; JSON web tokens too."""
    for token in _TOKEN.finditer(text):
        if any(character.isdigit() for character in token[0]):
            yield token.span()


_PASSWORD_AT = re.compile(r":([^\s@/:\"'<>]{4,})@(?!sha\d)(?=[\w\[])")
_USER_BEFORE = re.compile(r"(?<![\w.%+-])[A-Za-z][\w.%+-]*\Z")
_NO_USERS = {"mailto", "to", "from", "cc", "bcc", "mail", "email", "author", "by"}


def _before_hosts(text: str) -> Iterator[Span]:
    """Yield passwords of `user:password@host`, without a scheme before it."""
    for password in _PASSWORD_AT.finditer(text):
        start = password.start()
        user = _USER_BEFORE.search(text, max(0, start - _LONGEST_NAME), start)
        if user is not None and user[0].lower() not in _NO_USERS:
            yield password.span(1)


_LOGIN = re.compile(
    r"(?<!\S)(?:(?:-u|--user)[ =][\"']?[^\s:\"']+:|login\s{1,3}\S{1,64}\s{1,3}password\s{1,3})"
    r"([^\s\"']+)"
)


def _logins(text: str) -> Iterator[Span]:
    """Yield passwords of `curl --user name:password`, and of `.netrc` files."""
    for login in _LOGIN.finditer(text):
        yield login.span(1)


_KEY_START = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY[A-Z ]{0,10}-----")
_KEY_END = re.compile(r"-----END [A-Z ]{0,30}PRIVATE KEY[A-Z ]{0,10}-----")


def _private_keys(text: str) -> Iterator[Span]:
    """Yield private keys in PEM form, between their first and their last line."""
    start = _KEY_START.search(text)
    while start is not None:
        end = _KEY_END.search(text, start.end())
        yield start.end(), end.start() if end else len(text)
        start = _KEY_START.search(text, end.end()) if end else None


class _SafeRecords:
    """Makes log records that hold no secret and forge no second one, tracebacks included."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make
        self._formatter = logging.Formatter()

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return record  # logging itself reports a call that does not fit its arguments
        record.msg, record.args = indented(redact(message)), None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = indented(redact(self._formatter.formatException(record.exc_info)))
        return record


def redact_logs() -> None:
    """Redact every log record of this process, whichever library writes it; once is enough."""
    make = logging.getLogRecordFactory()
    if not isinstance(make, _SafeRecords):
        logging.setLogRecordFactory(_SafeRecords(make))


def one_line(error: BaseException) -> str:
    """Return an error as one redacted line: its type, unless it is ours, and its cause.

    The only way in which an exception of other people's code is shown.
    """
    message = redact(str(error))
    is_ours = isinstance(error, (FmMlflowError, KeyboardInterrupt))
    if not is_ours:
        # Redacted before it is cut: of half a secret, nothing can be recognised.
        message = cause(message)
        if len(message) > _LONGEST_CAUSE:
            half = _LONGEST_CAUSE // 2
            message = f"{message[:half]} … {message[-half:]}"
    if not is_ours or not message:
        message = ": ".join(filter(None, [type(error).__name__, message]))
    return printable(message)
