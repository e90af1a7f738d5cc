"""What the tests that prove promises share: a service that can be killed, a client."""

import contextlib
import http.client
import io
import json
import multiprocessing
import os
import sys
import time
from contextlib import contextmanager

import numpy as np
from PIL import Image

from indexer.rows import jobs as job_rows
from indexer.tests.scenery import settings_of_tests
from indexer.tests.servers import free_port
from service.__main__ import main
from service.running import jobs as running_jobs
from service.tests.stub import GREY, KeenStub, StubDetector

START_S = 30
# Forked from a process that has imported everything: a restart takes a tenth of a second.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["service.tests.stub"])


def _serve(arguments, environment, detector, seconds, lease_s, log):
    with open(log, "ab") as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    job_rows.LEASE_S = running_jobs.LEASE_S = lease_s
    sys.exit(main(arguments, detector(seconds), [KeenStub(seconds)]))


class Served:
    """A service with the stub detectors in a process of its own.

    Args:
        lease_s: after so long another process takes over the jobs of one that was killed.
    """

    def __init__(
        self,
        data,
        *,
        port=None,
        detector=StubDetector,
        seconds=0.0,
        lease_s=job_rows.LEASE_S,
        **settings,
    ):
        self.data, self.port, self.log = data, port or free_port(), data.parent / "service.log"
        environment = {
            f"PERSON_SEARCH_{name.upper()}": "" if value is None else str(value)
            for name, value in {**settings_of_tests(data), **settings}.items()
        }
        environment |= {name: v for name, v in os.environ.items() if name.startswith("AWS_")}
        arguments = ["--port", str(self.port), "--data-dir", str(data)]
        self.process = FORKS.Process(
            target=_serve,
            args=(arguments, environment, detector, seconds, lease_s, str(self.log)),
            daemon=True,
        )
        self.process.start()
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def _wait_until_ready(self):
        ends = time.monotonic() + START_S
        while True:
            with contextlib.suppress(ConnectionError), Client(self.port) as client:
                assert client.get("/readyz")[0] == 200, self.words()
                return
            assert self.process.is_alive(), self.words()
            assert time.monotonic() < ends, self.words()
            time.sleep(0.005)

    @property
    def pid(self):
        return self.process.pid

    def words(self):
        """What it logged, the end of it."""
        return self.log.read_text(errors="replace")[-4000:]

    def signal(self, number):
        os.kill(self.process.pid, number)

    def wait(self, seconds=40):
        """The exit code."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "the service does not end"
        return self.process.exitcode

    def kill(self):
        self.process.kill()
        self.process.join()


@contextmanager
def served(data, **options):
    service = Served(data, **options)
    try:
        yield service
    finally:
        service.kill()


class Client:
    """One connection; not for several threads."""

    def __init__(self, port, *, timeout=30, headers=None):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._headers = headers or {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._connection.close()

    def send(self, method, path, content=None, headers=None):
        """Status, headers and bytes of the answer."""
        try:
            self._connection.request(method, path, content, {**self._headers, **(headers or {})})
            answer = self._connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except BaseException:
            self._connection.close()
            raise

    def json(self, method, path, document=None, headers=None):
        """Status and JSON of the answer."""
        content = None if document is None else json.dumps(document)
        sent = {"Content-Type": "application/json"} if document is not None else {}
        status, _, body = self.send(method, path, content, {**sent, **(headers or {})})
        return status, json.loads(body or "null")

    def get(self, path):
        return self.json("GET", path)

    def post_form(self, path, *files, headers=None, **documents):
        """Status and JSON of the answer to a form of `image` files and JSON parts."""
        status, _, body = self.send("POST", path, *form(*files, headers=headers, **documents))
        return status, json.loads(body or "null")

    def all_images(self):
        """Every record, by walking the list."""
        found, cursor = [], ""
        while cursor is not None:
            status, page = self.get(f"/gallery/images?limit=500{cursor and '&cursor=' + cursor}")
            assert status == 200, page
            found += page["items"]
            cursor = page.get("next_cursor")
        return found


def form(*files, headers=None, **documents):
    """Body and headers of a form."""
    parts = [('name="image"; filename="a.png"', content) for content in files]
    parts += [(f'name="{name}"', json.dumps(value).encode()) for name, value in documents.items()]
    body = b"".join(
        f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    )
    sent = {"Content-Type": "multipart/form-data; boundary=b", **(headers or {})}
    return body + b"--b--\r\n", sent


def scene(number, people=2):
    """A small PNG of its own with some people, for the stub detector; number is below 2**24."""
    chance = np.random.default_rng(number)
    width = 24 * people + 8
    pixels = np.full((max(60, width // 10), width, 3), GREY, np.uint8)  # no thin strip
    for person in range(people):
        colour = chance.choice([0, 255], 3) if person else chance.integers(0, 256, 3)
        colour[person % 3] = 250  # far enough from grey to be a person
        pixels[10:50, 8 + 24 * person : 24 + 24 * person] = colour
    pixels[-1, -1] = [GREY + (number >> shift & 15) for shift in (0, 4, 8)]  # too faint to be one
    pixels[-1, -2] = [GREY + (number >> shift & 15) for shift in (12, 16, 20)]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
