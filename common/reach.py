"""Whether servers are reached, told in the metrics by what each worker asks again and again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from common.metrics import UP

Server = Literal["postgresql", "redis"]

_REACHED: dict[tuple[Server, str], bool] = {}


@contextmanager
def reaching(server: Server, purpose: str) -> Iterator[None]:
    """A try: what fails with an error did not reach it. All purposes must, for it to be up."""
    try:
        yield
    except Exception:
        _tell(server, purpose, reached=False)
        raise
    _tell(server, purpose, reached=True)


def _tell(server: Server, purpose: str, *, reached: bool) -> None:
    _REACHED[server, purpose] = reached
    UP.labels(server).set(all(told for (of, _), told in _REACHED.items() if of == server))
