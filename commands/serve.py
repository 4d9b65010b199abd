"""python main.py serve"""

import click
import uvicorn

from commands._prepare import one_line_errors, prepare
from config.logging import configure_logging
from config.settings import Settings, load_settings
from services.servers import servers

_STOP_WITHIN_S = 8


@click.command()
@one_line_errors
def serve() -> None:
    """Answer questions over HTTP."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    with servers(settings) as endpoints:
        if not settings.database_url:
            prepare(endpoints.database_url)
        _say_where_to_look(settings)
        _listen(settings)


def _listen(settings: Settings) -> None:
    uvicorn.run(
        "main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_STOP_WITHIN_S,
    )


def _say_where_to_look(settings: Settings) -> None:
    base = f"http://{settings.host}:{settings.port}"
    click.echo(f"""
  questions and their parameters   {base}/docs
  a first question                 curl '{base}/analytics/event-counts?last=7d&interval=day'
  metrics                          {base}/metrics
""")
