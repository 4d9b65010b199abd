"""python main.py serve"""

import errno
import signal
import socket
import sys

import click
import uvicorn

from commands._prepare import one_line_errors, prepare
from config.logging import configure_logging
from config.settings import Settings, load_settings, variable
from services.servers import servers

_STOP_WITHIN_S = 8


@click.command()
@one_line_errors
def serve() -> None:
    """Answer questions over HTTP."""
    _stop_when_told()
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    with servers(settings) as endpoints, _listen(settings) as listening:
        if not settings.database_url:
            prepare(endpoints.database_url)
        _say_where_to_look(settings.host, listening.getsockname()[1])
        _answer(listening)


def _stop_when_told() -> None:
    """Being told to stop is no failure; uvicorn passes the signal on when it has stopped."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))


def _listen(settings: Settings) -> socket.socket:
    """Take the address before anything is told about it. Raises: click.ClickException."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as exc:
        place = f"{settings.host}:{settings.port}"
        reason = "is in use" if exc.errno == errno.EADDRINUSE else f"cannot be used ({exc})"
        raise click.ClickException(
            f"{place} {reason}: set {variable('port')} to another port"
        ) from None


def _answer(listening: socket.socket) -> None:
    config = uvicorn.Config(
        "main:create_app",
        factory=True,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_STOP_WITHIN_S,
    )
    uvicorn.Server(config).run(sockets=[listening])


def _say_where_to_look(host: str, port: int) -> None:
    base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(f"""
  questions and their parameters   {base}/docs
  a first question                 curl '{base}/analytics/event-counts?last=7d&interval=day'
  metrics                          {base}/metrics
""")
