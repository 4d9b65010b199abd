"""A minimal HTTP client, so that its own time hardly counts: one socket, one request at a time."""

import re
import socket
from collections.abc import Mapping

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TIMEOUT_S = 900


class HttpConnection:
    """A persistent connection; requests are built before they are timed."""

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self._port = port
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._socket = self._connect()

    def request(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{self._headers}\r\n".encode()

    def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Send a request; return the head and the body of the response.

        Raises: AssertionError if its status is not 200.
        """
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        match = _LENGTH.search(head)
        assert head.split(b" ", 2)[1] == b"200", received
        assert match, head
        blocks, missing = [body], int(match[1]) - len(body)
        while missing > 0:
            blocks.append(self._receive())
            missing -= len(blocks[-1])
        return head, b"".join(blocks)

    def reopen(self, path: str) -> None:
        """Connect again, as the server may have closed an idle connection, and request `path`."""
        self._socket.close()
        self._socket = self._connect()
        self.ask(self.request(path))

    def _connect(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self._port), _TIMEOUT_S)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def _receive(self) -> bytes:
        block = self._socket.recv(1 << 18)
        assert block, "the server closed the connection"
        return block
