"""A file from an HTTP server that may be anyone's: limits of its bytes and of all the time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from requests import Response

_PIECE = 1 << 16
_SILENT_SECONDS = 30
_IDENTITY = "identity"

Piece = tuple[bytes, "int | None"]


class DownloadError(Exception):
    """A file cannot be downloaded; says why, on one line."""


def pieces(url: str, largest: int, seconds: float) -> Iterator[Piece]:
    """Yield a file piece by piece, each with the bytes of the whole as the server says.

    A thread of its own receives them: a server that sends a byte now and then, in its headers too,
    never exceeds the time limit of a single read.

    Args:
        url: The file's address; redirections are followed.
        largest: Bytes beyond which it is refused.
        seconds: How long it may take from the request to the last byte.

    Raises:
        DownloadError: The server does not give it, or not within the limits.
    """
    received: SimpleQueue[Piece | Exception | None] = SimpleQueue()
    stopped = Event()
    # A daemon: where the server is silent, it may outlast this call by half a minute or more.
    Thread(target=_receive, args=(url, largest, received.put, stopped), daemon=True).start()
    until = time.monotonic() + seconds
    try:
        while piece := received.get(timeout=max(0, until - time.monotonic())):
            if isinstance(piece, Exception):
                raise DownloadError(_first_cause(piece)) from piece
            yield piece
    except Empty:
        raise DownloadError(f"it takes longer than {seconds:g} s") from None
    finally:
        stopped.set()


def _receive(
    url: str, largest: int, put: Callable[[Piece | Exception | None], None], stopped: Event
) -> None:
    import requests  # only a machine without the data needs it

    done = 0
    try:
        with requests.get(
            url,
            headers={"Accept-Encoding": _IDENTITY},
            hooks={"response": _leave_redirections_unread},
            stream=True,
            timeout=_SILENT_SECONDS,
        ) as response:
            response.raise_for_status()
            encoding = response.headers.get("Content-Encoding", _IDENTITY)
            if encoding != _IDENTITY:  # a piece of it may unpack to gigabytes
                raise DownloadError(f"it has the Content-Encoding {encoding!r}, none was asked for")
            length = response.headers.get("Content-Length")
            total = int(length) if length and re.fullmatch(r"[0-9]{1,12}", length) else None
            for content in response.iter_content(_PIECE):
                done += len(content)
                if done > largest:
                    raise DownloadError(f"it has more than {largest:,} bytes")
                if stopped.is_set():
                    return
                put((content, total))
    except Exception as error:  # whatever it is, `pieces` raises it
        put(error)
    else:
        put(None)


def _leave_redirections_unread(response: Response, **_: Any) -> None:
    """Close a response that leads elsewhere: `requests` would read all of its body to memory."""
    if response.is_redirect:
        response.close()


def _first_cause(error: BaseException) -> str:
    """Return the innermost reason of a chain of network errors, on one line."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    reason = error
    while isinstance(inner := getattr(reason, "reason", None) or reason.__context__, BaseException):
        reason = inner
    return " ".join(str(reason).split()) or type(reason).__name__
