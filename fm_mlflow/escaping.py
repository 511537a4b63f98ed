"""Makes foreign text safe to show, one function a medium.

Foreign is what a store, a file, a model or a user's code says: names, parameters, paths, messages.
"""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup, escape

HIDDEN = "***"
"""Stands where a secret was."""

# Printable to Python, and yet nothing is seen: fillers, joiners, selectors of variants.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_MOST_MARKS = 4  # on one letter; more of them climb over the lines above and below

# A `<` that begins no tag, as in p < 0.05, is left: MLflow's pages would show the backslash.
_MARKDOWN = re.compile(
    r"[\\`*_\[\]>|&~$]|<(?=[a-z/!?]|$)|:(?=//)|(?<=www)\.|@(?=\w)", re.IGNORECASE
)
_MARKDOWN_AT_START = re.compile(r"^(\s*\d*)([#+\-=.)])(?=[\s#+\-=]|$)")
_BACKTICKS = re.compile("`+")

_FORMULA = re.compile("[=+\\-@\uff1d\uff0b\uff0d\uff20]")
_FORMULA_LATER = re.compile(f"(?<=;)(?=\\s*{_FORMULA.pattern})")


def printable(text: str) -> str:
    r"""Return a text for a terminal, on one line, what cannot be seen spelt out: ESC as `\x1b`.

    The result moves no cursor, breaks no table's row, does not reverse the direction of the text
    after it, hides nothing and can be encoded. To apply it twice is to apply it once.
    """
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if character.isprintable() and marks <= _MOST_MARKS and not _INVISIBLE.match(character):
            shown.append(character)
        else:
            shown.append(character.encode("unicode_escape").decode("ascii"))
    return "".join(shown)


def shortened(text: str, longest: int) -> str:
    """Return a text with its middle left out, where it is too long; both ends identify it."""
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


def indented(text: str) -> str:
    """Return a text of several lines for a log: no line after the first looks like a new record.

    To apply it twice is to apply it once.
    """
    first, *others = text.splitlines() or [""]
    return "\n    ".join(
        [printable(first), *(printable(each.removeprefix("    ")) for each in others)]
    )


def html(text: str) -> Markup:
    """Return a text that HTML shows as it is, between tags and in quoted attributes."""
    return escape(printable(text))


def markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line, in a table's cell too.

    It makes no link, and no image is loaded.
    """
    # Four blanks at the start would make it code.
    escaped = _MARKDOWN.sub(r"\\\g<0>", printable(text).strip())
    return _MARKDOWN_AT_START.sub(r"\1\\\2", escaped)


def code_span(text: str) -> str:
    """Return a text as code within a line of Markdown; its own backticks do not end it."""
    shown = printable(text)
    fence = "`" * (1 + max(map(len, _BACKTICKS.findall(shown)), default=0))
    blank = " " if "`" in (shown[:1], shown[-1:]) else ""
    return f"{fence}{blank}{shown}{blank}{fence}"


def code_line(text: str) -> str:
    """Return a text as a line of an indented code block of Markdown."""
    return f"    {printable(text)}"  # nothing within a line can end the indentation


def csv_field(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula; numbers stay numbers."""
    shown = _FORMULA_LATER.sub("'", printable(text))  # where ; separates the fields
    if not _FORMULA.match(shown.lstrip()):
        return shown
    try:
        float(shown)
    except ValueError:
        return f"'{shown}"
    return shown
