"""A copy of the event set that is folded, and may stay for the next run."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench.load import fold_rate
from bench.serving import make_key
from bench.set_state import describe_copy, describe_set, forget_copy, has_folded_copy
from bench.stored_set import COPY, Stores, working_copy
from tests.servers import url_of


@contextmanager
def folded_copy(
    stores: Stores, events: int, *, use_up: bool, keep: bool
) -> Iterator[tuple[str, float]]:
    """A copy of the set that is folded into rollups and columns, and has an API key.

    Returns its URL, and how many events per second were folded. With `keep` it remains after the
    block, and the next block with `keep` uses it again, with 0 events per second, unless the schema
    has changed.
    """
    folder = stores.folder
    if keep and has_folded_copy(folder, events):
        yield url_of(stores.endpoints.database_url, COPY), 0.0
        return
    forget_copy(folder)
    with working_copy(stores, COPY, use_up=use_up, keep=keep) as url:
        make_key(url)
        rate = fold_rate(url, events)
        if keep:
            describe_copy(folder, events)
        if keep and use_up:
            describe_set(folder, events, used_up=True)
        yield url, rate
