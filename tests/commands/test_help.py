"""What `--help` tells of each command: all of it, and the truth."""

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from psycopg2.extensions import connection

from commands._help import DATABASE, EVERYWHERE, Command
from config.settings import Settings, variable
from main import COMMANDS, cli
from tests.adoption import MAP, make_table, run_sql
from tests.cli import handle_signals, run_cli
from tests.commands.test_errors import MIGRATED, MIGRATING, SERVE, STATUS
from tests.commands.test_reports import MAIN, WAITING, environment, locked  # noqa: F401
from tests.pages import DOCS
from tests.wait_until import wait_until

ROWS = re.findall(
    r"^\| `(\w+)` \| .* \| (.*) \|$", (DOCS / "settings.md").read_text(), re.MULTILINE
)
EVENT = '{"event_id": "%s", "event_name": "e", "occurred_at": "2025-01-31T09:00:00Z"}\n'
URLS = {f"{name}_database_url" for name in ("query", "ingest", "rollup")}
READ_FOR_NOTHING = {"max_database_gb", "request_timeout_s", "cache_stale_s", *URLS}
"""Together with what is used: objects hold limits, times and URLs for others as well."""
READ_ELSEWHERE = {
    "data_dir",
    "host",
    "cache_ttl_open_s",
    "metric_events",
    "log_format",
    *EVERYWHERE,
}
"""With embedded servers, without Redis, by `rollup` without an option, and after errors."""


def leaves(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    """All commands that do something, with what is called to have them done."""
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        assert found
        if isinstance(found, click.Group):
            yield from leaves(found, *path, name)
        else:
            yield " ".join([*path, name]), found


LEAVES = dict(leaves(cli))
LONG = [name for name in LEAVES if name not in ("check-upgrade", "serve")]


def command(name: str) -> Command:
    found = LEAVES[name]
    assert isinstance(found, Command), "give it cls=Command"
    return found


def help_of(*words: str) -> str:
    """On one line, however it is wrapped."""
    done = run_cli(*words, "--help")
    assert done.exit_code == 0
    return " ".join(done.stdout.split())


def section(name: str, title: str) -> str:
    """What stands under a title of the help, which another one or nothing follows."""
    text = help_of(*name.split())
    return text.partition(f" {title}: ")[2].partition(" Exit codes: ")[0]


def first_paragraph(found: click.Command) -> str:
    return " ".join((found.help or "").split("\n\n")[0].split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_has_whole_sentences(name: str) -> None:
    found = cli.get_command(click.Context(cli), name)
    assert found
    assert first_paragraph(found).endswith(".")
    assert f" {name} {first_paragraph(found)}" in help_of()


@pytest.mark.parametrize("name", [name for name in LEAVES if name.startswith("keys ")])
def test_the_list_of_commands_for_keys_has_whole_sentences(name: str) -> None:
    assert f" {name.split()[1]} {first_paragraph(LEAVES[name])}" in help_of("keys")


@pytest.mark.parametrize("name", LEAVES)
def test_each_option_is_described(name: str) -> None:
    options = [each for each in LEAVES[name].params if isinstance(each, click.Option)]
    assert [option.name for option in options if not (option.help or option.hidden)] == []


@pytest.mark.parametrize("name", LEAVES)
def test_settings_are_described_as_in_the_docs(name: str) -> None:
    """Each setting of the help stands in docs/settings.md with the same words, and no other."""
    told = section(name, "Settings, from the environment")
    wanted = [variable(field) for field in command(name).settings]
    rows = dict(ROWS)
    # What follows a name is its description up to the next name, in any order.
    found = re.split(rf"(?:^| )({'|'.join(sorted(wanted, key=len, reverse=True))}) ", told)[1:]
    assert dict(zip(found[::2], found[1::2], strict=True)) == {
        name: " ".join(rows[name].split()) for name in wanted
    }


def test_serve_names_all_settings() -> None:
    assert set(command("serve").settings) == set(Settings.model_fields)


def test_all_commands_with_a_database_name_it() -> None:
    without = [name for name in LEAVES if not set(DATABASE) <= set(command(name).settings)]
    assert without == ["check-upgrade"]


def calls(folder: Path) -> dict[str, list[list[str]]]:
    """Calls of each command that go well, one after the other."""
    file = folder / "events.ndjson"
    file.write_text(EVENT % "00000000-0000-4000-8000-000000000001")
    table = "--table=app_events"
    return {
        "migrate": [["migrate"]],
        "load": [["load", str(file)]],
        "demo": [["demo", "--events", "1"]],
        "rollup": [["rollup", "--once"]],
        "verify": [["verify"]],
        "export": [["export", "--to", str(folder / "export")]],
        "erase": [["erase", "u", "--yes"]],
        "retain": [["retain", "--raw", "90d", "--yes"]],
        "adopt": [["adopt", table, *MAP, "--yes"], ["adopt", table, "--check"]],
        "keys create": [["keys", "create", "name", "--scope", "read"]],
        "keys first": [["keys", "first", "name", "--scope", "read"]],
        "keys list": [["keys", "list"]],
        "keys rotate": [["keys", "rotate", "tests"]],
        "keys revoke": [["keys", "revoke", "tests"]],
        "status": [["status"]],
        "check-upgrade": [["check-upgrade", "17.1", "18.1"]],
    }


@pytest.mark.parametrize("name", [name for name in LEAVES if name != "serve"])
def test_settings_are_those_that_are_read(
    name: str,
    conn: connection,
    environment: dict[str, str],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever a command reads it names, and the other way round."""
    make_table(conn, 3)
    assert run_cli("rollup", "--once", **environment).exit_code == 0
    read: set[str] = set()
    plain = Settings.__getattribute__

    def recorded(self: Settings, field: str) -> Any:
        read.add(field)
        return plain(self, field)

    monkeypatch.setattr(Settings, "__getattribute__", recorded)
    for words in calls(tmp_path)[name]:
        done = run_cli(*words, stdin="ask_" + "x" * 40, **environment)
        assert done.exit_code == 0, done.output
    named = set(command(name).settings)
    read &= set(Settings.model_fields)
    assert read - named <= READ_FOR_NOTHING
    assert named - read <= READ_ELSEWHERE


def test_a_call_that_goes_well_ends_with_0() -> None:
    """All of them are made above."""
    assert set(calls(Path("/tmp"))) == set(LEAVES) - {"serve"}
    assert all(0 in command(name).exit_codes for name in LEAVES)


@pytest.mark.parametrize("name", LEAVES)
def test_a_wrong_call_ends_with_2(name: str) -> None:
    assert run_cli(*name.split(), "--nothing").exit_code == 2
    assert command(name).exit_codes[2] == "An option or argument is wrong."


def one_call(name: str) -> list[str]:
    """One that needs a database, or finds that an upgrade is not possible."""
    upgrade = {"check-upgrade": ["check-upgrade", "18.1", "17.1"]}
    lines = {**MIGRATING, **MIGRATED, **SERVE, **STATUS, **upgrade}
    return next(words for key, words in lines.items() if key == name or key.startswith(f"{name} "))


@pytest.mark.parametrize("name", LEAVES)
def test_what_fails_ends_with_1_and_one_line(name: str, tmp_path: Path) -> None:
    """A setting that there is not stops all commands that read any."""
    file = tmp_path / "events.ndjson"
    file.write_text(EVENT % "00000000-0000-4000-8000-000000000001")
    words = [str(file) if word == "FILE" else word for word in one_call(name)]
    done = run_cli(*words, stdin="ask_" + "x" * 40, ANALYTICS_NOTHING="1")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert "one line on standard error gives the reason" in command(name).exit_codes[1]


@pytest.mark.parametrize("name", LEAVES)
def test_an_error_of_the_program_ends_with_70(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    file = tmp_path / "events.ndjson"
    file.write_text("")
    module = f"commands.{name.split()[0].replace('-', '_')}"
    does = {
        "check-upgrade": "upgrade_fault",
        "serve": "read_settings_and_log",
        "rollup": "read_settings_and_log",
    }.get(name, "read_settings")
    monkeypatch.setattr(f"{module}.{does}", broken)
    words = [str(file) if word == "FILE" else word for word in one_call(name)]
    assert run_cli(*words, stdin="ask_" + "x" * 40).exit_code == 70
    assert command(name).exit_codes[70] == "A bug in this program."


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["migrate", "keys list", "rollup", "status"])
def test_a_signal_ends_a_command_with_its_code(
    name: str,
    number: int,
    environment: dict[str, str],  # noqa: F811
    conn: connection,
) -> None:
    """The others are in tests/commands/test_reports.py; shells give 128 and its number for what
    a signal ends."""
    words = ["rollup"] if name == "rollup" else one_call(name)
    table = "fold_state" if name == "rollup" else "schema_migrations"
    lock = f"lock table {table} in access exclusive mode"
    with (
        locked(environment["DATABASE_URL"], lock) as holder,
        subprocess.Popen(
            [*MAIN, *words],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            preexec_fn=handle_signals,
        ) as process,
    ):
        wait_until(lambda: run_sql(conn, WAITING) != [(0,)], timeout_s=60)
        process.send_signal(number)
        holder.commit()
        _, complained = process.communicate(timeout=60)
    assert process.returncode in (128 + number, -number)
    assert "Traceback" not in complained
    assert command(name).exit_codes[128 + number].startswith("Ended by SIG")


@pytest.mark.parametrize("name", LEAVES)
def test_exit_codes_are_in_the_help_and_no_other(name: str) -> None:
    told = help_of(*name.split()).partition(" Exit codes: ")[2]
    codes = command(name).exit_codes
    assert told == " ".join(f"{code} {' '.join(text.split())}" for code, text in codes.items())
    signals = {129, 130, 141, 143} if name in LONG else set()
    assert set(codes) - {129} == ({0, 1, 2, 70} | signals) - {129}
