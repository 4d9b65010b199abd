"""`tools/supply/install`, which `make run` begins with: it says what is missing."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "supply" / "install"
VERSION = "{}.{}".format(*sys.version_info)

Install = Callable[..., "subprocess.CompletedProcess[str]"]

OLD = "import sys; sys.version_info = (3, 9, 2, 'final', 0)"
OTHER = "import sys; sys.version_info = (3, 99, 0, 'final', 0)"
NO_VENV = "import sys; sys.modules['ensurepip'] = None"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the project that needs no package."""
    scripts = tmp_path / "tools" / "supply"
    scripts.mkdir(parents=True)
    shutil.copy(SCRIPT, scripts)
    (tmp_path / "requirements.txt").write_text("")
    return tmp_path


def command(*options: str) -> list[str]:
    return ["sh", "tools/supply/install", *options, "requirements.txt"]


def environment(python: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHON": python, "GOALS": "run"}


@pytest.fixture
def install(folder: Path) -> Install:
    def call(*options: str, python: str = sys.executable) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command(*options), cwd=folder, env=environment(python), capture_output=True, text=True
        )

    return call


def python_that(folder: Path, is_so: str) -> str:
    """This Python, but for one thing, which is done as it starts."""
    (folder / "odd").mkdir()
    (folder / "odd" / "sitecustomize.py").write_text(is_so)
    odd = folder / "odd" / "python3"
    odd.write_text(f'#!/bin/sh\nPYTHONPATH={odd.parent} exec {sys.executable} "$@"\n')
    odd.chmod(0o755)
    return str(odd)


def works(folder: Path) -> bool:
    pip = [str(folder / ".venv" / "bin" / "python"), "-m", "pip", "--version"]
    return subprocess.run(pip, capture_output=True).returncode == 0


def test_a_python_that_is_too_old_is_told_with_what_helps(folder: Path, install: Install) -> None:
    old = python_that(folder, OLD)
    done = install(python=old)
    assert done.returncode == 1
    first, _, named = done.stderr.splitlines()
    assert first == f"Python 3.11 or later is needed, and {old} is 3.9, which is older."
    assert named.startswith("    make PYTHON=python3.")
    assert named.endswith(" run")
    assert not (folder / ".venv").exists()
    assert install().returncode == 0  # what was wrong does not stick
    assert works(folder)


def test_a_python_that_is_not_there_is_told(folder: Path, install: Install) -> None:
    done = install(python="python3.0")
    assert done.returncode == 1
    assert done.stderr.startswith("Python 3.11 or later is needed, and python3.0 is missing.\n")


def test_the_package_that_is_missing_is_named(folder: Path, install: Install) -> None:
    done = install(python=python_that(folder, NO_VENV))
    assert done.returncode == 1
    assert "apt-get install python3-venv\n" in done.stderr or not shutil.which("apt-get")
    assert "    make run\n" in done.stderr or not shutil.which("apt-get")
    assert "Traceback" not in done.stderr
    assert not (folder / ".venv").exists()


def test_a_complete_environment_is_not_recreated(folder: Path, install: Install) -> None:
    assert install().returncode == 0
    mine = folder / ".venv" / "mine"
    mine.touch()
    for again in (install(), install("--this-python"), install(python="python3.0")):
        assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert mine.exists()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("rm -r .venv/lib/*/site-packages/pip", ".venv has no working pip"),
        ("ln -sf /nowhere/python3 .venv/bin/python", ".venv has no working Python"),
        ("touch .venv/unfinished", ".venv is incomplete"),
        ("rm -r .venv && touch .venv", ".venv has no working Python"),
    ],
)
def test_an_incomplete_environment_is_recreated(
    folder: Path, install: Install, damage: str, told: str
) -> None:
    made = [sys.executable, "-m", "venv", str(folder / ".venv")]
    subprocess.run(made, check=True)
    subprocess.run(["sh", "-euc", damage], cwd=folder, check=True)
    done = install()
    assert done.returncode == 0
    assert done.stderr.startswith(told)
    assert len(done.stderr.splitlines()) == 1
    assert works(folder)


def test_an_environment_of_another_python_is_recreated_on_request(
    folder: Path, install: Install
) -> None:
    assert install().returncode == 0
    other = python_that(folder, OTHER)
    assert install(python=other).stderr == ""
    message = f".venv has Python {VERSION}: it is created again.\n"
    assert install("--this-python", python=other).stderr.startswith(message)


def test_an_interrupted_installation_is_repeated(folder: Path, install: Install) -> None:
    """In the middle of an installation, whatever the reason."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        wanted = f"x @ http://127.0.0.1:{port}/x-1.tar.gz --hash=sha256:{'0' * 64}\n"
        (folder / "requirements.txt").write_text(wanted)
        cut = subprocess.Popen(
            command(),
            cwd=folder,
            env=environment(sys.executable),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            os.killpg(cut.pid, signal.SIGKILL)
            cut.wait(30)
    (folder / "requirements.txt").write_text("")
    assert install().stderr == ".venv is incomplete: it is created again.\n"
    assert works(folder)


def test_an_installation_that_fails_leaves_what_is_there(folder: Path, install: Install) -> None:
    assert install().returncode == 0
    mine = folder / ".venv" / "mine"
    mine.touch()
    (folder / "requirements.txt").write_text(f"./nothing-here --hash=sha256:{'0' * 64}\n")
    done = install()
    assert done.returncode != 0
    assert "nothing-here" in done.stderr
    (folder / "requirements.txt").write_text("")
    assert (install().returncode, mine.exists()) == (0, True)
