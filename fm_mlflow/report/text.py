"""Sanitises text from runs (names, parameters, paths), which may be anything."""

from __future__ import annotations

import re

_MARKDOWN = re.compile(r"[\\`*_\[\]<>|&~$]")
_MARKDOWN_AT_START = re.compile(r"^(\s*\d*)([#+\-=.)])(?=[\s#+\-=]|$)")


def printable(text: str) -> str:
    r"""Return a text on one line, what cannot be seen spelt out: ESC becomes `\x1b`.

    The result moves no terminal's cursor, breaks no table's row, does not reverse the direction
    of the text after it, and can be encoded.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line, in a table's cell too."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", printable(text))
    return _MARKDOWN_AT_START.sub(r"\1\\\2", escaped)
