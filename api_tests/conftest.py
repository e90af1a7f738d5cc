"""A service with a stub detector: in this process, or at a port of its own."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.tests.stub import StubDetector, picture

BASE = "http://localhost"


@pytest.fixture
def detector():
    return StubDetector()


@pytest.fixture
def start(tmp_path, detector):
    """Start a service in this process with some settings; called with none, the defaults."""

    @contextmanager
    def started(**settings):
        settings = {"data_dir": tmp_path / "data", **settings}
        app = create_app(Settings(**settings), detector)
        with TestClient(app, base_url=BASE, raise_server_exceptions=False) as client:
            yield client

    return started


@pytest.fixture
def client(start):
    with start() as client:
        yield client


@pytest.fixture
def add(client):
    """Add a picture of some people and return its record."""

    def added(*people, metadata="{}", **options):
        content = picture(*people, **options)
        answer = client.post(
            "/gallery/images", files={"image": ("scene.jpg", content)}, data={"metadata": metadata}
        )
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    return added


@pytest.fixture
def live(tmp_path, detector):
    """Start a service on a loopback port; yields the port."""

    @contextmanager
    def started(**settings):
        settings = {"data_dir": tmp_path / "live", **settings}
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            config = uvicorn.Config(
                create_app(Settings(**settings), detector),
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            try:
                yield listening.getsockname()[1]
            finally:
                detector.go.set()
                server.should_exit = True
                thread.join()

    return started
