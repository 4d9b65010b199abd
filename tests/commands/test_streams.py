"""Commands whose input and output are closed, full or odd, and that are cut off by Ctrl-C."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli import run_cli
from tests.factories import event
from tests.wait_until import adjusted_for_load

ROOT = Path(__file__).parents[2]
ENDED = (-signal.SIGINT, 1, 128 + signal.SIGINT)
"""By Ctrl-C: before the command has begun, while it prepares, and at work."""
MAIN = [sys.executable, str(ROOT / "main.py")]

Start = Callable[..., "subprocess.Popen[str]"]
Sh = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    return {**os.environ, **urls, "PYTHON": sys.executable, "MAIN": str(ROOT / "main.py")}


@pytest.fixture
def sh(environment: dict[str, str], tmp_path: Path) -> Sh:
    """What a shell makes of a line; `$C` is the program."""

    def run(line: str) -> "subprocess.CompletedProcess[str]":
        script = f'C="$PYTHON $MAIN"; {line}'
        return subprocess.run(
            ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True
        )

    return run


@pytest.fixture
def start(environment: dict[str, str]) -> Start:
    def call(*words: str, **more: Any) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*MAIN, *words],
            env=environment,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            # Not ignored, as it is in what runs in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    return call


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "migrate",
        "demo --events 1",
        "rollup --once",
        "keys list",
        "keys create name --scope read",
        "keys create --help",
        "erase u --yes",
        "check-upgrade 17.1 18.1",
        "status",
        "status --json",
    ],
)
def test_output_that_cannot_be_written_is_an_error(sh: Sh, words: str) -> None:
    done = sh(f"$C {words} >/dev/full")
    assert done.returncode == 1
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert message.endswith(": No space left on device")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_output_that_is_closed_is_an_error(sh: Sh) -> None:
    done = sh("$C keys list >&-")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].endswith(": Bad file descriptor")


def test_who_stops_reading_hears_no_more(sh: Sh) -> None:
    done = sh("$C keys list | true; exit ${PIPESTATUS[0]}")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("words", ["erase u", "retain --raw 90d"])
@pytest.mark.parametrize("given", ["</dev/null", "<&-"])
def test_nobody_who_could_say_yes_means_no(sh: Sh, words: str, given: str) -> None:
    done = sh(f"$C {words} {given}")
    assert done.returncode == 1
    assert done.stderr.endswith("Aborted!\n")
    assert "Traceback" not in done.stderr


def test_a_key_is_needed(sh: Sh) -> None:
    done = sh("$C keys first name --scope read <&-")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the key must be ask_")


@pytest.mark.parametrize(
    "words",
    [
        r"adopt --table $'\xff' --check",
        r"keys rotate $'\xff'",
        r"keys revoke $'\xff'",
        r"erase --file <(printf '\xff') --yes",
    ],
)
def test_what_is_no_utf_8_is_told(sh: Sh, words: str) -> None:
    done = sh(f"$C {words}")
    assert done.returncode in (1, 2)
    assert "UTF-8" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("file", ["nothing.ndjson", ".", "/proc/self/mem"])
@pytest.mark.parametrize("command", ["load", "erase --yes --file"])
def test_a_file_that_cannot_be_read_is_told(sh: Sh, command: str, file: str) -> None:
    done = sh(f"$C {command} {file}")
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert done.stderr


def test_rejected_rows_that_cannot_be_written_are_told(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text(json.dumps(event(1)) + "\n" + "nonsense\n" * 10)
    done = subprocess.run(
        [*MAIN, "load", str(file)],
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert done.returncode == 1
    assert "inserted 1" in done.stdout
    assert "the rejected rows could not be written: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.4])
def test_ctrl_c_while_it_starts_ends_it(start: Start, seconds: float) -> None:
    returncode, stderr = interrupted(start, seconds)
    # On a busy machine the interpreter may not have come to main.py yet, where nothing of ours can
    # handle the signal.
    while is_before_main(stderr):
        seconds *= 2
        assert seconds < 20
        returncode, stderr = interrupted(start, seconds)
    assert returncode in ENDED
    assert "Traceback" not in stderr


def interrupted(start: Start, seconds: float) -> tuple[int, str]:
    """The exit code and the errors of a `load` that gets Ctrl-C after this time."""
    process = start("load", "-")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=adjusted_for_load(30))
    return process.returncode, stderr


def is_before_main(stderr: str) -> bool:
    """Whether this is the traceback of an interpreter that has not set the handler of main.py."""
    text = Path(MAIN[1]).read_text()
    handled_at = text[: text.index("signal.signal(signal.SIGINT")].count("\n") + 1
    reached = re.findall(r'main\.py", line (\d+)', stderr)
    return "Traceback" in stderr and all(int(line) < handled_at for line in reached)


def test_ctrl_c_while_it_works_ends_it(start: Start, environment: dict[str, str]) -> None:
    process = start("demo", "--events", "2000000")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode in ENDED
    assert "Traceback" not in stderr


def test_an_error_of_the_program_is_told_and_where_it_is_on_demand(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    def broken(_: str, **__: bool) -> bool:
        raise ZeroDivisionError("of the test")

    monkeypatch.setattr("commands.migrate.apply_migrations", broken)
    done = run_cli("migrate", DATABASE_URL=database_url)
    assert done.exit_code == 70
    assert done.stderr == (
        "Error: unexpected ZeroDivisionError, a bug in this program: run the command with "
        "ANALYTICS_LOG_LEVEL=debug for a traceback\n"
    )
    more = run_cli("migrate", DATABASE_URL=database_url, ANALYTICS_LOG_LEVEL="debug")
    assert more.exit_code == 70
    assert "ZeroDivisionError: of the test" in more.stderr
    assert 'raise ZeroDivisionError("of the test")' in more.stderr


def test_another_python_is_told_what_to_call(tmp_path: Path) -> None:
    bare = [os.path.realpath(sys.executable), "-I", "-S", str(ROOT / "main.py"), "load", "a b"]
    script = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); sys.argv = {bare[3:]!r}; "
    script += f"runpy.run_path({bare[3]!r}, run_name='__main__')"
    done = subprocess.run([*bare[:3], "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.endswith(
        f"run `make install`, and then `.venv/bin/python {bare[3]} load 'a b'`\n"
    )
    assert len(done.stderr.splitlines()) == 1
