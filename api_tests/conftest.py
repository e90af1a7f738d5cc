"""A service with a stub detector: in this process, or at a port of its own."""

import socket
import threading
import time
from contextlib import ExitStack, closing, contextmanager

import pytest
import uvicorn
from starlette.testclient import TestClient

from indexer.tests.scenery import settings_of_tests
from models.tests.machine import missing
from service.__main__ import server_config
from service.app import create_app
from service.demo.browser import NoBrowserError, chromium, find_chromium
from service.demo.local import Client
from service.demo.page_pictures import fill
from service.settings import Settings
from service.tests.stub import StubDetector, picture

BASE = "http://localhost"
SERVICE_ENDED = "Failed to load resource: net::ERR_CONNECTION_REFUSED"  # before its pages did


@pytest.fixture
def detector():
    return StubDetector()


@pytest.fixture
def start(tmp_path, detector):
    """Start a service in this process with some settings; called with none, the defaults."""

    @contextmanager
    def started(**settings):
        settings = {**settings_of_tests(tmp_path / "data"), **settings}
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


@contextmanager
def listening_service(settings, detector=None, others=()):
    """A service on a loopback port; yields the port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        app = create_app(settings, detector, other_detectors=others)
        config = server_config(app, settings, lifespan="on")
        config.timeout_graceful_shutdown = 5
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield listening.getsockname()[1]
        finally:
            if detector is not None:
                detector.go.set()
            server.should_exit = True
            thread.join()


@pytest.fixture
def live(tmp_path, detector):
    """Start a service on a loopback port; yields the port."""

    @contextmanager
    def started(others=(), **settings):
        settings = {**settings_of_tests(tmp_path / "live"), **settings}
        with listening_service(Settings(**settings), detector, others) as port:
            yield port

    return started


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium. Not longer than a module: its driver holds the thread's event loop."""
    try:
        find_chromium()
    except NoBrowserError as error:
        missing(f"the page was not tested: {error}")
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A service with the model that ships; its gallery holds the scenes that ship."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("site") / "data")
    with listening_service(settings) as port:
        base_url = f"http://127.0.0.1:{port}"
        with closing(Client(base_url)) as client:
            records = fill(client)
        yield base_url, records


@pytest.fixture
def visit(browser):
    """Open the page of a service; whatever the browser complains of fails the test.

    Complaints that a test expects are begun with by one of `expected`.
    """
    with ExitStack() as stack:
        complaints = []

        def opened(base_url, address="", *, expected=(), **options):
            context = browser.new_context(
                **{"viewport": {"width": 1280, "height": 900}, "timezone_id": "UTC", **options}
            )
            stack.callback(context.close)
            context.set_default_timeout(15_000)
            page = context.new_page()

            def complain(text):
                if not text.startswith((*expected, SERVICE_ENDED)):
                    complaints.append(text)

            page.on("pageerror", lambda error: complain(str(error)))
            page.on(
                "console", lambda said: said.type in ("error", "warning") and complain(said.text)
            )
            page.goto(base_url + "/" + address)
            return page

        yield opened
    assert not complaints
