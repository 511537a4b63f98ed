"""A way to a real server that can be cut, for tests of outages."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from enum import Enum
from urllib.parse import urlsplit

from tests.stores import Store


class Way(Enum):
    """What becomes of a request."""

    OPEN = "passes"
    CUT = "the connection is refused"
    SILENT = "taken and never answered"
    TOO_LARGE = "artifacts are answered 413, everything else passes"
    ILL = "answered 503"


class Line:
    """Forwards the connections of a port of 127.0.0.1 to a server, as long as it is told to.

    Args:
        server: Where to.
        tls: Clients come over TLS, and have to show what this context asks for.
    """

    def __init__(self, server: Store, tls: ssl.SSLContext | None = None) -> None:
        self._server = urlsplit(server.uri)
        self._tls = tls
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.uri = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._way = Way.OPEN
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def store(self, like: Store) -> Store:
        return Store(self.uri, like.folder)

    @staticmethod
    def _listen(port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        return listener

    def set(self, way: Way) -> None:
        """Change what becomes of requests, those under way included."""
        before, self._way = self._way, way
        if way in (Way.CUT, Way.SILENT):
            for connection in self._open:
                _close(connection)
            self._open.clear()
        if way is Way.CUT:
            _close(self._listener)
        elif before is Way.CUT:
            self._listener = self._listen(self.port)
            threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.set(Way.CUT)

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._open.append(client)
            if self._way is not Way.SILENT:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
                self._open.append(client)
            first = client.recv(65536)
            is_upload = (
                first.startswith(b"PUT ") and b"/mlflow-artifacts/" in first.split(b"\r\n")[0]
            )
            if self._way is Way.TOO_LARGE and is_upload:
                _answer(client, b"413 Request Entity Too Large")
                return
            if self._way is Way.ILL:
                _answer(client, b"503 Service Unavailable")
                return
            server = socket.create_connection(
                (self._server.hostname or "", self._server.port or 80)
            )
            self._open.append(server)
            # One request a connection, so that each is judged by what holds when it comes.
            head, _, rest = first.partition(b"\r\n\r\n")
            lines = [
                line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")
            ]
            server.sendall(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + rest)
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            _pump(server, client)


def _answer(client: socket.socket, status: bytes) -> None:
    client.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    client.settimeout(0.5)
    with contextlib.suppress(OSError):
        while client.recv(65536):
            pass
    _close(client)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
