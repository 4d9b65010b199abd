"""The report of the long run, and its assertions."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator

from tests.faults.http_load import BROKEN
from tests.faults.long.faults import Fault
from tests.faults.long.queries import Outcome
from tests.faults.long.run import Run

BACK_S = 5.0
_LOST_S = 2.0
"""How long after a worker was killed its lost responses may still be noticed."""


def faults_of(run: Run) -> list[str]:
    """All violated assertions."""
    errors = [f"{o.kind} {o.status}: {o.error}" for o in run.outcomes if o.error]
    lost = [o for o in run.outcomes if o.status == BROKEN and not _may_be_lost(run, o)]
    late = [
        f"{fault.name}: back after {back:.1f} s ({instead})"
        for fault, back, instead in recoveries(run)
        if back > BACK_S
    ]
    return [*errors, *(f"{o.kind} lost at {o.at:.1f}" for o in lost), *late, *_grown(run)]


def _may_be_lost(run: Run, outcome: Outcome) -> bool:
    """Whether the worker that computed it was killed."""
    return any(
        fault.ends_connections and fault.began <= outcome.at <= fault.ended + _LOST_S
        for fault in run.faults
    )


def recoveries(run: Run) -> Iterator[tuple[Fault, float, str]]:
    """For each fault, the seconds from its end to the last failed or stale response.

    The text lists these failures.
    """
    ends = [fault.began for fault in run.faults[1:]] + [float("inf")]
    for fault, end in zip(run.faults, ends, strict=True):
        bad = [o for o in run.outcomes if fault.ended <= o.at < end and not _is_normal(o)]
        instead = Counter("stale" if o.is_stale else str(o.status) for o in bad)
        instead_counts = ", ".join(f"{count} x {what}" for what, count in instead.items())
        yield fault, max((o.at - fault.ended for o in bad), default=0.0), instead_counts


def _is_normal(outcome: Outcome) -> bool:
    return outcome.status == 200 and not outcome.is_stale


def _grown(run: Run) -> Iterator[str]:
    """Compare memory and sessions of the last third with the second; the first is warm-up."""
    third = len(run.samples) // 3
    measures: list[tuple[str, Callable[..., float], float]] = [
        ("MB of a process", lambda sample: sample.largest_mb, 1.10),
        ("sessions", lambda sample: sample.sessions, 1.25),
    ]
    for name, value, factor in measures:
        second, last = (
            statistics.median(map(value, part))
            for part in (run.samples[third : 2 * third], run.samples[2 * third :])
        )
        if last > second * factor + 5:
            yield f"{name}: {second:.0f} became {last:.0f}"


def summary(run: Run) -> str:
    """The report as text."""
    statuses = Counter(outcome.status for outcome in run.outcomes)
    stale = sum(o.is_stale for o in run.outcomes)
    lines = [
        f"{len(run.outcomes):,} requests in {run.seconds:.0f} s, "
        f"{len(run.outcomes) / run.seconds:.0f}/s; capacity {run.capacity:.0f}/s",
        f"statuses {dict(statuses)} (0: lost), {stale} answers were stale",
        f"at most {max(s.largest_mb for s in run.samples):.0f} MB in a process, "
        f"{max(s.sessions for s in run.samples)} sessions",
        *(_row(kind, run) for kind in sorted({o.kind for o in run.outcomes if o.status == 200})),
        *(_back(*recovery) for recovery in recoveries(run)),
    ]
    return "\n".join(lines)


def _back(fault: Fault, back: float, instead: str) -> str:
    took = f"{fault.name}: took {fault.ended - fault.began:.1f} s"
    return f"{took}, all well {back:.1f} s later {instead}".rstrip()


def _row(kind: str, run: Run) -> str:
    durations = sorted(o.seconds * 1000 for o in run.outcomes if o.kind == kind and o.status == 200)
    indexes = (min(int(len(durations) * part), len(durations) - 1) for part in (0.5, 0.99, 0.999))
    percentiles = ", ".join(f"{durations[index]:.1f}" for index in indexes)
    return f"{kind}: {len(durations):,}, ms p50, p99, p99.9: {percentiles}"
