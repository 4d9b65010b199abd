"""Settings of a command, with a warning for each deprecated variable."""

import logging

import click

from config.logging import configure_logging
from config.settings import Settings, deprecation_warnings, load_settings

log = logging.getLogger("analytics.settings")


def read_settings() -> Settings:
    """Settings of a command that writes no log; warnings go to standard error.

    Raises: SettingsError.
    """
    settings = load_settings()
    for warning in deprecation_warnings():
        click.echo(f"Warning: {warning}", err=True)
    return settings


def read_settings_and_log(*, warns: bool = True) -> Settings:
    """Settings of a command that writes a log, which is configured. Raises: SettingsError.

    A process that `serve` starts does not warn, because `serve` has done so.
    """
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    for warning in deprecation_warnings() if warns else ():
        log.warning(warning)
    return settings
