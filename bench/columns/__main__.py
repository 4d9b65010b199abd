"""Measure building, encoding and merging chunks of columns: `python -m bench.columns`.

Each set of events has other properties. The figures are in
docs/decisions/0058-write-columns-as-values-with-rows.md.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal

import click
import numpy as np

from bench.event_set import sample
from repo.columns.builder import EventBatch, EventRecord, build_batch, event_batch
from repo.columns.chunk import Chunk
from repo.columns.chunk_operations import concatenate, memory_bytes, select
from repo.columns.codec import decode_chunk, encode_chunk
from repo.columns.tied_events import without_untied_ids

EVENTS = 32_768
ROUNDS = 5

_random = random.Random(1)
_MIXED = [1, 2.5, "x", True, None, [1, "y"], {"z": 1}]


def bench_events() -> Iterator[str]:
    """Yield the properties of the benchmark's events, in no order."""
    texts = sample(10 * EVENTS, seed=1)["properties"].to_pylist()
    yield from _random.sample(texts, EVENTS)


def nested_objects() -> Iterator[str]:
    for _ in range(EVENTS):
        items = [{"sku": f"s{_random.randrange(100)}", "n": _random.randrange(5)} for _ in "abc"]
        cart = {"total": _random.randrange(1_000), "items": items}
        yield json.dumps({"cart": cart, "tags": ["a", "b", "c"]})


def sparse_paths() -> Iterator[str]:
    for _ in range(EVENTS):
        names = _random.sample(range(200), 8)
        yield json.dumps({f"p{name}": f"v{_random.randrange(100)}" for name in names})


def ten_floats() -> Iterator[str]:
    for _ in range(EVENTS):
        yield json.dumps({f"f{name}": round(_random.uniform(0, 1_000), 2) for name in range(10)})


def twenty_digits() -> Iterator[str]:
    for _ in range(EVENTS):
        yield f'{{"n": {_random.randrange(10**10)}.{_random.randrange(10**10):010}, "a": "x"}}'


def doubles() -> Iterator[str]:
    for _ in range(EVENTS):
        # PostgreSQL writes numbers of jsonb without exponents.
        latitude, share = (Decimal(_random.uniform(*ends)) for ends in ((-90, 90), (0, 1)))
        yield f'{{"lat": {latitude:.15f}, "share": {share:.18f}}}'


def mixed_types() -> Iterator[str]:
    for _ in range(EVENTS):
        yield json.dumps({"a": _random.choice(_MIXED), "b": _random.choice([1, "x"])})


def session_ids() -> Iterator[str]:
    for _ in range(EVENTS):
        yield json.dumps({"session": f"{_random.getrandbits(64):016x}", "country": "US"})


SETS: dict[str, Callable[[], Iterator[str]]] = {
    "the benchmark's events": bench_events,
    "objects and lists, 10 values": nested_objects,
    "200 paths, 8 in an event": sparse_paths,
    "10 floats": ten_floats,
    "20 digits": twenty_digits,
    "2 doubles of 17 digits": doubles,
    "mixed types": mixed_types,
    "texts that never repeat": session_ids,
}


@click.command()
def main() -> None:
    """Print for each set thousands of events per second of processor time, and bytes per event."""
    print("set | build | encode | decode | merge of 4 | select | bytes stored | in memory")
    for name, properties in SETS.items():
        print(" | ".join([name, *_figures(batch(properties()))]))


def batch(properties: Iterator[str]) -> EventBatch:
    """Return events in no order, of 10,000 users and 40 names, 30 in a transaction."""
    events = [
        EventRecord(
            number * 1_000_000, _random.randrange(10_000), number % 40, 1_000 + number // 30,
            _random.randbytes(16), text.encode(),
        )
        for number, text in enumerate(properties)
    ]  # fmt: skip
    return event_batch(_random.sample(events, len(events)))


def _figures(events: EventBatch) -> Iterator[str]:
    chunk = without_untied_ids(build_batch(events))
    ids = {path: number for number, path in enumerate({key.path for key in chunk.properties}, 1)}
    paths = {number: path for path, number in ids.items()}
    stored = encode_chunk(chunk, ids)
    parts = [replace(chunk, time=chunk.time + shift) for shift in range(4)]
    keep = np.asarray(chunk.user % 100 != 0)
    yield _rate(lambda: build_batch(events), EVENTS)
    yield _rate(lambda: encode_chunk(chunk, ids), EVENTS)
    yield _rate(lambda: decode_chunk(stored, paths), EVENTS)
    yield _rate(lambda: concatenate(parts), 4 * EVENTS)
    yield _rate(lambda: select(chunk, keep), EVENTS)
    yield f"{sum(map(len, stored.values())) / EVENTS:.1f}"
    yield f"{memory_bytes(without_ids(chunk)) / EVENTS:.1f}"


def without_ids(chunk: Chunk) -> Chunk:
    """Return a chunk as files have it: without the ids of rows that are not tied."""
    return replace(chunk, event_id=chunk.event_id[:0])


def _rate(call: Callable[[], object], events: int) -> str:
    """Return thousands of events per second, by the shortest of several rounds."""
    shortest = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        shortest = min(shortest, time.process_time() - began)
    return f"{events / shortest / 1_000:,.0f}"


if __name__ == "__main__":
    main()
