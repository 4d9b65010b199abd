"""What messages tell to run can be pasted as it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.invocation import invocation

ROOT = Path(__file__).parents[2]
SCRIPT = "import sys; sys.path.insert(0, {!r}); from config.invocation import invocation; "
SCRIPT += "print(invocation('migrate'))"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a `.venv` whose Python is this one, and the program beside it."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n")
    (tmp_path / ".venv" / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    for name in ("main.py", "config", "utils"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def reported_invocation(
    checkout: Path, folder: Path, path: str = "/usr/bin:/bin", **more: str
) -> str:
    """By the Python of the checkout, called in this folder."""
    done = subprocess.run(
        [str(checkout / ".venv" / "bin" / "python"), "-c", SCRIPT.format(str(checkout))],
        cwd=folder,
        env={"PATH": path, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_in_a_checkout_it_begins_with_its_python(checkout: Path) -> None:
    assert reported_invocation(checkout, checkout) == ".venv/bin/python main.py migrate"


def test_elsewhere_paths_are_whole(checkout: Path) -> None:
    python, main = checkout / ".venv" / "bin" / "python", checkout / "main.py"
    assert reported_invocation(checkout, Path("/")) == f"{str(python)[1:]} {str(main)[1:]} migrate"
    assert reported_invocation(checkout, Path("/usr")) == f"{python} {main} migrate"


def test_where_the_shell_finds_this_python_its_name_is_enough(checkout: Path) -> None:
    active = f"{checkout / '.venv' / 'bin'}:/usr/bin:/bin"
    assert reported_invocation(checkout, checkout, active) == "python main.py migrate"


def test_a_path_with_a_blank_is_quoted(checkout: Path) -> None:
    with_blank = checkout.with_name("a b")
    checkout.rename(with_blank)
    other = f"'{with_blank}/.venv/bin/python' '{with_blank}/main.py' migrate"
    assert reported_invocation(with_blank, Path("/usr")) == other


def test_who_runs_it_otherwise_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_COMMAND", "docker compose exec analytics python /app/main.py")
    assert invocation("keys list") == "docker compose exec analytics python /app/main.py keys list"
