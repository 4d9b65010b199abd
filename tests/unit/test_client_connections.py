"""Which client connections are closed at the limit."""

import math

from utils.client_connections import Connections


class Client:
    """A connection that waits since an instant, and knows whether it was closed."""

    def __init__(self, waiting_since: float, *, is_active: bool = False) -> None:
        self.waiting_since = waiting_since
        self.is_active = is_active
        self.is_closed = False
        self.checked_at = 0.0

    def check(self, now: float) -> None:
        self.checked_at = now

    def close(self) -> None:
        self.is_closed = True


def closed(limit: int, *clients: Client) -> list[bool]:
    connections = Connections(limit)
    for client in clients:
        connections.add(client)
    connections.make_room(now=10.0)
    return [client.is_closed for client in clients]


def test_the_connection_that_waited_longest_is_closed() -> None:
    assert closed(3, Client(5.0), Client(2.0), Client(4.0)) == [False, True, False]


def test_a_sixteenth_of_the_limit_is_closed_at_once() -> None:
    assert closed(32, Client(3.0), Client(2.0), Client(1.0)) == [False, True, True]


def test_an_answer_in_progress_is_never_closed() -> None:
    assert closed(1, Client(math.inf, is_active=True)) == [False]


def test_a_new_request_has_half_a_second() -> None:
    assert closed(1, Client(9.6, is_active=True)) == [False]
    assert closed(1, Client(9.4, is_active=True)) == [True]


def test_each_open_connection_is_checked() -> None:
    connections, client, gone = Connections(9), Client(1.0), Client(1.0)
    connections.add(client)
    connections.add(gone)
    connections.discard(gone)
    connections.check(now=7.0)
    assert (len(connections), client.checked_at, gone.checked_at) == (1, 7.0, 0.0)
