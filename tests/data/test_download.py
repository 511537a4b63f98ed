"""Downloads from servers that send too much, too slowly, packed, or from elsewhere."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fm_mlflow.data.download import DownloadError, pieces

_SECONDS = 30.0
_BODY = bytes(range(256)) * 1000


class Handler(BaseHTTPRequestHandler):
    """Answers by the last part of the path; `ended` is set when a test is over."""

    ended: threading.Event
    asked: list[str | None]
    sent_beside_redirections = 0

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.asked.append(self.headers["Accept-Encoding"])
        with suppress(ConnectionError):  # nobody listens any more
            getattr(self, self.path.strip("/"))()

    def answer(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def whole(self) -> None:
        self.answer(Content_Length=len(_BODY))
        self.wfile.write(_BODY)

    def without_a_length(self) -> None:
        self.answer()
        self.wfile.write(_BODY)

    def packed(self) -> None:
        content = gzip.compress(bytes(1 << 24))
        self.answer(Content_Length=len(content), Content_Encoding="gzip")
        self.wfile.write(content)

    def moved(self) -> None:
        self.answer(302, Location="/whole")
        for _ in range(1024):
            self.wfile.write(bytes(1 << 18))
            type(self).sent_beside_redirections += 1 << 18

    def endless(self) -> None:
        self.answer()
        while True:
            self.wfile.write(_BODY)

    def silent(self) -> None:
        self.ended.wait(_SECONDS)

    def dripping_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nServer: ")
        self._drip()

    def dripping(self) -> None:
        self.answer(Content_Length=len(_BODY))
        self._drip()

    def _drip(self) -> None:
        while not self.ended.wait(0.01):
            self.wfile.write(b"x")


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a server, to which the name of one of the handler's answers is added."""
    Handler.ended, Handler.asked, Handler.sent_beside_redirections = threading.Event(), [], 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        Handler.ended.set()
        server.shutdown()


def received(url: str, largest: int = 1 << 20, seconds: float = _SECONDS) -> bytes:
    return b"".join(content for content, _ in pieces(url, largest, seconds))


def test_a_file_arrives_with_the_length_that_the_server_says(url: str) -> None:
    assert received(f"{url}/whole") == _BODY
    assert {total for _, total in pieces(f"{url}/whole", 1 << 20, _SECONDS)} == {len(_BODY)}
    assert {total for _, total in pieces(f"{url}/without_a_length", 1 << 20, _SECONDS)} == {None}
    assert Handler.asked == ["identity"] * 3


def test_what_was_packed_on_the_way_is_refused(url: str) -> None:
    with pytest.raises(DownloadError, match="it has the Content-Encoding 'gzip'"):
        received(f"{url}/packed")


def test_the_page_beside_a_redirection_is_not_read(url: str) -> None:
    assert received(f"{url}/moved") == _BODY
    assert Handler.sent_beside_redirections < 1 << 26  # some of it lay in buffers


def test_more_than_the_largest_is_refused(url: str) -> None:
    with pytest.raises(DownloadError, match="it has more than 1,048,576 bytes"):
        received(f"{url}/endless")


@pytest.mark.thorough
@pytest.mark.parametrize("answer", ["silent", "dripping", "dripping_headers"])
def test_all_of_it_has_one_time_limit(url: str, answer: str) -> None:
    with pytest.raises(DownloadError, match=r"^it takes longer than 0\.3 s$"):
        received(f"{url}/{answer}", seconds=0.3)


@pytest.mark.parametrize("address", ["http://[", "ftp://127.0.0.1/x", "http://\0/", "whole"])
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(DownloadError, match=r"\w"):
        received(address)
