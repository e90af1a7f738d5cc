"""What is tracked works wherever it is cloned."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = "120000"


def git(directory, *words):
    ran = subprocess.run(["git", "-C", directory, *words], capture_output=True, check=True)
    return ran.stdout.decode()


def links_out_of(checkout):
    """The tracked symbolic links whose targets are not in the checkout, with their targets."""
    out = []
    for entry in git(checkout, "ls-files", "--stage", "-z").split("\0")[:-1]:
        about, _, path = entry.partition("\t")
        mode, blob, _ = about.split()
        if mode == LINK:
            target = git(checkout, "cat-file", "blob", blob)
            place = Path(os.path.normpath(checkout / Path(path).parent / target))
            if Path(target).is_absolute() or not place.is_relative_to(checkout):
                out.append((path, target))
    return out


@pytest.fixture
def checkout(tmp_path):
    """A checkout of nothing yet."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git(tmp_path, "init", "--quiet")
    return tmp_path.resolve()


def test_no_tracked_link_leads_out_of_the_repository():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked is not known here")

    assert links_out_of(ROOT) == []


def test_links_that_lead_out_are_found(checkout):
    (checkout / "folder").mkdir()
    for name, target in {
        "folder/up": "../README",
        "folder/out": "../../README",
        "anywhere": "/usr/bin/env",
        "back": str(checkout / "folder"),
        "gone": "nowhere",
    }.items():
        (checkout / name).symlink_to(target)
    git(checkout, "add", ".")

    assert {path for path, _ in links_out_of(checkout)} == {"folder/out", "anywhere", "back"}


@pytest.fixture
def bare_machine(tmp_path):
    """Runs .ci/run where there is no browser, nothing can be installed, and `make` ends with 7."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "env", "ls", "mktemp", "rm"):
        (programs / name).symlink_to(shutil.which(name))
    for name, script in {"id": "echo 1000", "python3": "exit 1", "make": "exit 7"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")

    def run(**environment):
        return subprocess.run(
            [tmp_path / ".ci" / "run"],
            env={"PATH": str(programs), **environment},
            capture_output=True,
            text=True,
        )

    return run


def test_what_cannot_be_installed_is_skipped_with_a_word_and_fails_where_ci_is_set(bare_machine):
    anywhere, in_ci = bare_machine(), bare_machine(CI="true")

    assert anywhere.returncode == 7
    assert "Chromium cannot be installed: skipped are the tests of the page" in anywhere.stderr
    assert "Milvus cannot be installed: skipped are" in anywhere.stderr
    assert in_ci.returncode == 1
    assert "CI is set, so nothing may be skipped" in in_ci.stderr
