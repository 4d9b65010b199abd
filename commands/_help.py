"""The text of `--help`: whole sentences, the settings of the command, its exit codes."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from config.settings import Settings, variable

DATABASE = ("database_url", "database_schema", "data_dir")
"""Settings of all commands that use PostgreSQL as the owner of the tables."""
EVERYWHERE = ("command", "log_level")
"""Settings of all commands: they control how errors are shown."""

FAILED = "The command failed: one line on standard error gives the reason."
_EXIT_CODES = {
    2: "An option or argument is wrong.",
    70: "A bug in this program.",
}
_SIGNALS = {
    129: "Ended by SIGHUP.",
    130: "Ended by SIGINT (Ctrl-C).",
    143: "Ended by SIGTERM.",
}
_CLOSED_OUTPUT = {141: "Standard output was closed by its reader."}


class WholeHelp(click.Command):
    """A command whose line in the list of commands is not cut."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """The first paragraph of the help, whatever the limit."""
        first, *_ = (self.help or "").split("\n\n")
        return " ".join(first.split())


class Command(WholeHelp):
    """A command that says which settings it reads and what its exit codes mean."""

    def __init__(
        self,
        *args: Any,
        settings: Sequence[str] = (),
        exit_codes: Mapping[int, str] | None = None,
        ends_at_signals: bool = True,
        **more: Any,
    ) -> None:
        """`settings` are names of fields of Settings; `exit_codes` are those that differ from the
        common ones, 0 at least."""
        super().__init__(*args, **more)
        self.settings = tuple(dict.fromkeys((*settings, *EVERYWHERE)))
        signals = {**_SIGNALS, **_CLOSED_OUTPUT} if ends_at_signals else {}
        self.exit_codes = dict(
            sorted({**_EXIT_CODES, **signals, 1: FAILED, **(exit_codes or {})}.items())
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, then the settings and the exit codes."""
        super().format_options(ctx, formatter)
        with formatter.section("Settings, from the environment"):
            formatter.write_dl([(variable(name), _described(name)) for name in self.settings])
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in self.exit_codes.items()])


class Group(WholeHelp, click.Group):
    """Commands whose lines in the list are whole."""

    command_class = Command


def _described(name: str) -> str:
    return Settings.model_fields[name].description or ""
