"""python main.py check-upgrade"""

import click

from commands._help import Command
from utils.postgres_releases import MAJORS, Release, release_in, upgrade_fault


def _release(_: click.Context, __: click.Parameter, text: str) -> Release:
    found = release_in(text)
    if found is None:
        raise click.BadParameter(
            "must name a release of PostgreSQL "
            f"{MAJORS[0]} to {MAJORS[-1]}, such as {MAJORS[-1]}.1 or what `postgres --version` says"
        )
    return found


@click.command(
    cls=Command,
    settings=(),
    exit_codes={
        0: "The upgrade is possible.",
        1: "It is not: one line on standard error says why.",
    },
    ends_at_signals=False,
)
@click.argument("old", callback=_release)
@click.argument("new", callback=_release)
def check_upgrade(old: Release, new: Release) -> None:
    """Whether pg_upgrade can go from the OLD release of PostgreSQL to the NEW one.

    Both as numbers, such as 18.6, or as `postgres --version` prints them.
    """
    if fault := upgrade_fault(old, new):
        raise click.ClickException(fault)
    click.echo(f"PostgreSQL {old.described} can be upgraded to {new.described}.")
