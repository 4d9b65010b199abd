"""Shells complete the words of the command `analytics`; zsh and fish are not on every machine."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.wait_until import adjusted_for_load

ROOT = Path(__file__).parents[2]
COMPLETIONS = ROOT / "completions"
PLAIN = {"PATH": os.environ["PATH"], "TERM": "dumb", "PS1": "$ ", "HOME": "/nonexistent"}


def completed(*words: str) -> list[str]:
    """What bash offers for the last of these words."""
    script = (
        f". {COMPLETIONS}/analytics.bash\n"
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _analytics\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words], env=PLAIN, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sta"], ["status"]),
        (["keys", ""], ["create", "first", "list", "revoke", "rotate"]),
        (["keys", "create", "'a name'", "--scope", ""], ["read", "write", "admin"]),
        (["status", "--j"], ["--json"]),
        (["retain", "--raw", "9"], []),
    ],
)
def test_bash_completes_commands_options_and_choices(words: list[str], expected: list[str]) -> None:
    assert completed("analytics", *words) == expected


def test_bash_lists_all_commands() -> None:
    from main import COMMANDS

    assert completed("analytics", "") == list(COMMANDS)


def test_bash_completes_at_the_tab_key(tmp_path: Path) -> None:
    """On a terminal, also names of files; and the command runs from anywhere."""
    (tmp_path / "events-of-may.ndjson").touch()
    output = typed(
        tmp_path,
        f". {COMPLETIONS}/analytics.bash\n",
        ("analytics load eve\t", "analytics load events-of-may.ndjson"),
        ("\x15analytics --ver\t\n", "Analytics Service "),
    )
    assert "analytics --version" in output


def typed(folder: Path, first: str, *steps: tuple[str, str]) -> str:
    """What a terminal shows when this is typed, each after what is expected of the one before."""
    process, terminal = pty.fork()
    if not process:
        os.chdir(folder)
        os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], PLAIN)
    output = ""
    try:
        os.write(terminal, first.encode())
        for text, expected in steps:
            os.write(terminal, text.encode())
            output += shown_until(terminal, expected)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)
    return output


def shown_until(terminal: int, expected: str) -> str:
    output, end = "", time.monotonic() + adjusted_for_load(20)
    while expected not in output:
        assert time.monotonic() < end, output
        if select.select([terminal], [], [], 0.1)[0]:
            output += os.read(terminal, 65536).decode(errors="replace")
    return output


@pytest.mark.parametrize(
    ("shell", "variables", "expected"),
    [
        ("zsh", {"COMP_WORDS": "analytics sta", "COMP_CWORD": "1"}, "plain\nstatus\n"),
        ("fish", {"COMP_WORDS": "analytics sta", "COMP_CWORD": "sta"}, "plain,status\t"),
    ],
)
def test_other_shells_are_answered_in_their_form(
    shell: str, variables: dict[str, str], expected: str
) -> None:
    """Their files ask in this way."""
    text = (COMPLETIONS / f"analytics.{shell}").read_text()
    assert f"_MAIN_PY_COMPLETE {shell}_complete" in text.replace("=", " ")
    assert {name for name in variables if name in text} == set(variables)
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py")],
        env={**PLAIN, **variables, "_MAIN_PY_COMPLETE": f"{shell}_complete"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(expected)
