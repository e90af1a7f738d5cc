"""What hinders a service's start is one line, and an exit code of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from indexer.tests.servers import free_port
from service.__main__ import CannotListenError, bind, main

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use_is_one_line_and_exit_code_1(taken, tmp_path, capsys):
    code = main(["--port", str(taken), "--data-dir", str(tmp_path / "data")])

    assert code == 1
    assert capsys.readouterr().err == (
        f"error: cannot listen on port {taken} of 127.0.0.1: it is in use; "
        "--port takes another one\n"
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.anyio
async def test_an_address_of_another_machine_is_refused():
    with pytest.raises(CannotListenError, match=r"192\.0\.2\.7: Cannot assign requested address"):
        await bind("192.0.2.7", 8000)


@pytest.mark.anyio
async def test_a_port_is_free_again_when_its_sockets_are_closed():
    port = free_port()

    for _ in range(2):
        for each in await bind("127.0.0.1", port):
            each.close()


@pytest.mark.slow
def test_ctrl_c_while_it_opens_its_gallery_is_one_line(tmp_path):
    """The lock of the data directory is the first thing that is made there."""
    data = tmp_path / "data"
    words = ["--port", str(free_port()), "--data-dir", str(data)]
    child = subprocess.Popen(
        [sys.executable, "-m", "service", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    while not data.exists():
        assert child.poll() is None
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)

    assert said == "interrupted\n"
    assert child.returncode == 130
