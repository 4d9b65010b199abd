"""The addresses that `serve` prints when it accepts requests."""

from contextlib import suppress

import click

from config.invocation import invocation
from config.settings import Settings, variable

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""The address to call where the service listens on all addresses."""


def print_banner(settings: Settings, port: int, *, needs_key: bool, is_unreachable: bool) -> None:
    """Print addresses and a first request. `is_unreachable`: PostgreSQL is not reachable yet."""
    host = _ANY.get(settings.host, settings.host)
    base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    rows = [
        f"  {what:<31}  {where}" for what, where in _rows(settings, base, needs_key, is_unreachable)
    ]
    with suppress(OSError):  # standard output is closed
        click.echo("\n" + "\n".join(rows) + "\n")


def _rows(
    settings: Settings, base: str, needs_key: bool, is_unreachable: bool
) -> list[tuple[str, str]]:
    first = f"'{base}/analytics/event-counts?last=7d&interval=day'"
    rows = [("a page to begin with", f"{base}/")]
    rows.append(("questions and their parameters", f"{base}/docs"))
    if needs_key:
        rows.append(("a key", f"KEY=$({invocation('keys create me --scope read')})"))
        rows.append(("a first question", f'curl -H "Authorization: Bearer $KEY" {first}'))
    else:
        rows.append(("a first question", f"curl {first}"))
    rows.append(("metrics", _metrics(settings, f"{base}/metrics", needs_key)))
    if is_unreachable:
        rows.append(("PostgreSQL is unreachable", f"{base}/readyz"))
    return rows


def _metrics(settings: Settings, address: str, needs_key: bool) -> str:
    if not needs_key:
        return address
    token = variable("metrics_token")
    if not settings.metrics_token:
        return f"set {token}, and ask with it {address}"
    return f'curl -H "Authorization: Bearer ${token}" {address}'
