"""The command `check-upgrade`."""

import click

from commands._help import Command
from utils.postgres_releases import MAJORS, Release, find_release, upgrade_fault


def _parse_release(_: click.Context, __: click.Parameter, text: str) -> Release:
    release = find_release(text)
    if release is None:
        raise click.BadParameter(
            "must name a release of PostgreSQL "
            f"{MAJORS[0]} to {MAJORS[-1]}, such as {MAJORS[-1]}.1 or what `postgres --version` says"
        )
    return release


@click.command(
    cls=Command,
    settings=(),
    exit_codes={
        0: "The upgrade is possible.",
        1: "It is not possible: one line on standard error gives the reason.",
    },
    ends_at_signals=False,
)
@click.argument("old", callback=_parse_release)
@click.argument("new", callback=_parse_release)
def check_upgrade(old: Release, new: Release) -> None:
    """Check whether pg_upgrade can upgrade PostgreSQL from release OLD to release NEW.

    Give both as numbers, such as 18.6, or as `postgres --version` prints them.
    """
    if fault := upgrade_fault(old, new):
        raise click.ClickException(fault)
    click.echo(f"PostgreSQL {old.described} can be upgraded to {new.described}.")
