"""What a pooler such as PgBouncer does to those who connect through it, without one.

It starts sessions as their logins are, whatever options it is asked for, and shows a process of its
own invention. PgBouncer 1.18 with `ignore_startup_parameters = options` does the same.
"""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_SSL_REQUEST = 80877103
_SHOWN_PROCESS = 1


@contextmanager
def pooled(url: str) -> Iterator[str]:
    """The same URL, through a pooler that runs until the end of the block."""
    port = urlsplit(url).port or 5432
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_accept, args=(listening, port), daemon=True)
        thread.start()
        yield url.replace(f":{port}/", f":{listening.getsockname()[1]}/")
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _accept(listening: socket.socket, port: int) -> None:
    with suppress(OSError):
        while True:
            client, _ = listening.accept()
            threading.Thread(target=_serve, args=(client, port), daemon=True).start()


def _serve(client: socket.socket, port: int) -> None:
    with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
        server.sendall(_without_options(_startup(client)))
        threading.Thread(target=_pump, args=(client, server), daemon=True).start()
        while (kind := _read(server, 1)) != b"K":
            client.sendall(kind + _message(server))
        _, secret = struct.unpack("!ii", _message(server)[4:])
        client.sendall(b"K" + struct.pack("!iii", 12, _SHOWN_PROCESS, secret))
        _pump(server, client)


def _startup(client: socket.socket) -> bytes:
    """The message that names user, database and options."""
    while True:
        message = _message(client)
        if struct.unpack("!i", message[4:8]) != (_SSL_REQUEST,):
            return message
        client.sendall(b"N")


def _without_options(message: bytes) -> bytes:
    words = message[8:].rstrip(b"\0").split(b"\0")
    pairs = [pair for pair in zip(words[::2], words[1::2], strict=True) if pair[0] != b"options"]
    body = message[4:8] + b"".join(word + b"\0" for pair in pairs for word in pair) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def _message(source: socket.socket) -> bytes:
    """Its length, which counts itself, and the rest."""
    length = _read(source, 4)
    return length + _read(source, struct.unpack("!i", length)[0] - 4)


def _read(source: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        if not (part := source.recv(count - len(found))):
            raise OSError("it hung up")
        found += part
    return found


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(65_536):
            target.sendall(block)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
