"""Whether servers are reached, told in the metrics by what each worker asks again and again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from common.metrics import UP

Server = Literal["postgresql", "redis"]

_IS_REACHABLE: dict[tuple[Server, str], bool] = {}


@contextmanager
def track_reachability(server: Server, purpose: str) -> Iterator[None]:
    """A try: what fails with an error did not reach it. All purposes must, for it to be up."""
    try:
        yield
    except Exception:
        _record(server, purpose, is_reachable=False)
        raise
    _record(server, purpose, is_reachable=True)


def _record(server: Server, purpose: str, *, is_reachable: bool) -> None:
    _IS_REACHABLE[server, purpose] = is_reachable
    UP.labels(server).set(
        all(
            is_up
            for (checked_server, _), is_up in _IS_REACHABLE.items()
            if checked_server == server
        )
    )
