"""A service whose disk is full, cannot be written, or is not there. Needs `unshare` (Linux)."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from models.image import encode_jpeg
from service.tests.serving import Client, free_port, scene

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
ALONE = ["unshare", "--map-root-user", "--mount", "--net"]


def can_be_alone():
    with suppress(OSError):
        return subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0
    return False


needs_namespaces = pytest.mark.skipif(not can_be_alone(), reason="no user namespaces here")


@contextmanager
def service_behind(script, directory, **settings):
    """The stub service in a mount namespace of its own, after a shell script; and its port."""
    port = free_port()
    command = [sys.executable, "-m", "service.tests.stub", "--port", str(port)]
    shell = ["unshare", "--map-root-user", "--mount", "sh", "-ec", f'{script}; exec "$@"']
    own = {f"PERSON_SEARCH_{name.upper()}": str(value) for name, value in settings.items()}
    with subprocess.Popen(
        [*shell, str(directory), *command, "--data-dir", str(directory / "data")],
        cwd=ROOT, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        try:
            yield child, port
        finally:
            child.kill()


def until_listening(child):
    lines = [""]
    while "listening" not in lines[-1]:
        lines.append(child.stderr.readline())
        assert lines[-1], "".join(lines)


def noise(number):
    """A picture that takes 150 kB or so."""
    pixels = np.random.default_rng(number).integers(0, 256, (256, 256, 3), np.uint8)
    return encode_jpeg(pixels)


@needs_namespaces
def test_a_full_disk_refuses_writes_only_and_they_go_on_once_there_is_space(tmp_path):
    full = 'mount -t tmpfs -o size=16m none "$0"'
    with service_behind(full, tmp_path, disk_floor_mib=0) as (child, port):
        until_listening(child)
        with Client(port) as client:
            stored, statuses = [], []
            for number in range(1000):
                status, answer = client.post_form("/gallery/images", noise(number))
                statuses.append(status)
                if status == 507:
                    assert answer["code"] == "insufficient_storage"
                    break
                stored.append(answer["id"])
            assert statuses == [201] * len(stored) + [507]
            assert len(stored) > 10
            for _ in range(5):
                assert client.post_form("/gallery/images", noise(5000))[0] == 507
                assert client.post_form("/search", scene(1, 1))[0] == 200
            for id in stored[::2]:
                assert client.json("DELETE", f"/gallery/images/{id}")[0] == 204
            assert client.post_form("/gallery/images", noise(6000))[0] == 201
            present = {image["id"] for image in client.all_images()}
            assert set(stored[1::2]) < present
            assert not present & set(stored[::2])
        inside = Path(f"/proc/{child.pid}/root{tmp_path}/data")
        (tmp_path / "out").mkdir()
        for file in inside.glob("gallery.sqlite3*"):
            shutil.copy(file, tmp_path / "out" / file.name)
        with closing(sqlite3.connect(tmp_path / "out" / "gallery.sqlite3")) as base:
            assert base.execute("pragma integrity_check").fetchall() == [("ok",)]
    print(f"{len(stored)} images fit")  # noqa: T201


@needs_namespaces
def test_a_read_only_directory_is_named_in_one_line(tmp_path):
    sealed = 'mount --bind "$0" "$0"; mount -o remount,ro,bind "$0"'
    with service_behind(sealed, tmp_path) as (child, _):
        words = child.stderr.read()
        assert child.wait(20) == 1
    assert "Traceback" not in words
    assert words.strip().splitlines()[-1].startswith("error:")
    assert str(tmp_path) in words


def test_a_directory_below_a_file_is_named_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    command = [
        sys.executable,
        "-m",
        "service.tests.stub",
        "--data-dir",
        str(tmp_path / "file/data"),
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith("error:")
    assert "Traceback" not in ended.stderr


@pytest.mark.sqlite
@needs_namespaces
def test_nothing_is_asked_of_the_network(tmp_path):
    """The service and the model that ships work where there is no network but loopback."""
    tests = [
        "api_tests/test_search.py",
        "api_tests/test_shipped_model.py::test_a_query_box_finds_its_own_detection_first",
    ]
    run = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    shell = ["sh", "-ec", 'ip link set lo up 2>/dev/null || true; exec "$@"', "sh"]
    began = time.monotonic()
    ended = subprocess.run(
        [*ALONE, *shell, *run, f"--basetemp={tmp_path / 'inner'}", *tests],
        cwd=ROOT, capture_output=True, text=True, timeout=250,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stdout[-3000:]
    assert " passed" in ended.stdout
    print(f"{time.monotonic() - began:.0f} s")  # noqa: T201
