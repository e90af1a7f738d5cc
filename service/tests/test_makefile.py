"""make: an environment of a Python that fits, or one line that says what is wrong."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# Pythons that say another version and, instead of installing, write down what they were asked for.
PYTHON = """#!/bin/sh
case "$*" in
-c*) exec {real} -c "import sys; sys.version_info = {version} + (0, 'final', 0); $2" ;;
"-m venv .venv") mkdir -p .venv/bin && cp "$(dirname "$0")/new" .venv/bin/python ;;
esac
echo "$*" >> asked
"""
# As typed by hand, also where a make runs the tests.
ALONE = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(tmp_path):
    """A directory with the Makefile, and of Pythons one that is too old and one that is not."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "pythons").mkdir()
    for name, version in (("old", (3, 9)), ("new", (3, 12))):
        python = tmp_path / "pythons" / name
        python.write_text(PYTHON.format(real=sys.executable, version=version))
        python.chmod(0o755)
    return tmp_path


def environment(checkout, python):
    """What was made of `make`, for an environment that exists already if there is one."""
    ended = subprocess.run(
        ["make", ".venv/serve", f"PYTHON=pythons/{python}"],
        cwd=checkout, capture_output=True, text=True, env=ALONE,
    )  # fmt: skip
    asked = checkout / "asked"
    made = asked.read_text().splitlines() if asked.exists() else []
    asked.unlink(missing_ok=True)
    return ended, made


def test_an_environment_is_made_once(checkout):
    ended, made = environment(checkout, "new")
    assert ended.returncode == 0
    assert made[0] == "-m venv .venv" and "--editable .[cpu" in made[-1]

    ended, made = environment(checkout, "new")
    assert ended.returncode == 0
    assert made == []


def test_a_python_that_is_too_old_is_refused_in_one_line(checkout):
    ended, made = environment(checkout, "old")

    assert ended.returncode != 0
    line, *makes_own = ended.stderr.splitlines()
    assert line == (
        "error: Python 3.11 or newer is needed, pythons/old is 3.9; "
        "name another one with PYTHON=python3.12"
    )
    assert all(one.startswith("make: ***") for one in makes_own)
    assert made == []


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("broken", ["too old", "gone", "without pip"])
def test_an_environment_that_cannot_be_used_is_made_anew(checkout, broken, finished):
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    if broken == "too old":
        shutil.copy(checkout / "pythons" / "old", python)
    elif broken == "gone":
        python.symlink_to("/nowhere/python3.11")
    else:
        python.write_text("#!/bin/sh\nexit 1\n")
        python.chmod(0o755)
    stale = checkout / ".venv" / "stale"
    stale.write_text("")
    if finished:
        (checkout / ".venv" / "serve").write_text("")

    ended, made = environment(checkout, "new")

    assert ended.returncode == 0
    assert made[0] == "-m venv .venv"
    assert not stale.exists()


def test_an_environment_survives_a_python_that_is_too_old_to_replace_it(checkout):
    environment(checkout, "new")
    (checkout / "pyproject.toml").touch()

    ended, made = environment(checkout, "old")

    assert ended.returncode == 0
    assert "-m venv .venv" not in made
