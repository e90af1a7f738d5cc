"""Promises under load: bounded queues, deadlines, clients that leave, orderly ends."""

import contextlib
import http.client
import itertools
import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indexer.gallery.gallery import Gallery
from indexer.tests.servers import free_port
from service.images.pictures import upright_jpeg
from service.running.parts import DECODED_AT_ONCE, PICTURES_AT_ONCE
from service.tests.serving import Client
from service.tests.stub import crop, picture

ROOT = Path(__file__).parent.parent
RED = ("red", (40, 40, 80, 160))


def form(content):
    body = (
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        + content
        + b"\r\n--b--\r\n"
    )
    return body, {"Content-Type": "multipart/form-data; boundary=b"}


def post(port, path, content, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body, form_headers = form(content)
    connection.request("POST", path, body, form_headers | headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text), answer.headers


def wait_for(condition):
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def waiting(port, lane):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return next(
        float(x.split()[1]) for x in lines if x.startswith(f"person_search_{lane}_waiting ")
    )


def test_the_same_bytes_sent_at_once_become_one_image(client):
    content = picture(RED)
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda _: client.post("/gallery/images", files={"image": content}), range(100))
        )

    assert sorted(answer.status_code for answer in answers) == [200] * 99 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_searches_see_every_finished_change_while_others_write(client):
    def round_trip(number):
        content = picture(RED, file_format="PNG", seed=number)
        image = client.post("/gallery/images", files={"image": content}).json()
        found = client.post("/search", files={"image": crop("red")}).json()["hits"]
        client.delete(f"/gallery/images/{image['id']}")
        left = client.post("/search", files={"image": crop("red")}).json()["hits"]
        return (
            image["id"] in {hit["image"]["id"] for hit in found},
            image["id"] in {hit["image"]["id"] for hit in left},
        )

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(round_trip, range(24)))

    assert results == [(True, False)] * 24


def test_a_full_queue_refuses_further_work_at_once(live, detector):
    with live(search_queue_max=2) as port, ThreadPoolExecutor(4) as pool:
        detector.go.clear()
        warm_up = len(detector.asked)
        held = [pool.submit(post, port, "/detect", crop("red"))]
        # Only what waits counts: the first must run before two more may come.
        wait_for(lambda: len(detector.asked) > warm_up)
        held += [pool.submit(post, port, "/detect", crop("red")) for _ in range(2)]
        wait_for(lambda: waiting(port, "search") == 2)
        started = time.monotonic()
        status, content, headers = post(port, "/detect", crop("red"))

        assert (status, content["code"], content["retryable"]) == (503, "overloaded", True)
        assert int(headers["retry-after"]) >= 1
        assert time.monotonic() - started < 5
        detector.go.set()
        assert [future.result()[0] for future in held] == [200] * 3


def test_a_search_goes_before_images_that_wait(live, detector):
    with live() as port, ThreadPoolExecutor(8) as pool:
        detector.go.clear()
        warm_up = len(detector.asked)
        answers = [pool.submit(post, port, "/gallery/images", picture(RED))]
        wait_for(lambda: len(detector.asked) > warm_up)
        for number in range(3):
            content = picture(RED, file_format="PNG", seed=number)
            answers.append(pool.submit(post, port, "/gallery/images", content))
        wait_for(lambda: waiting(port, "ingest") == 3)
        answers.append(pool.submit(post, port, "/search", crop("red")))
        wait_for(lambda: waiting(port, "search") == 1)
        detector.go.set()
        statuses = [answer.result()[0] for answer in answers]

        assert statuses == [201] * 4 + [200]
        assert detector.asked[warm_up:] == ["detect", "embed_crop", *["detect"] * 3]


def test_work_that_takes_too_long_answers_504(live, detector):
    with live() as port:
        detector.go.clear()
        for path in ("/detect", "/search", "/gallery/images"):
            status, content, _ = post(port, path, crop("red"), **{"X-Timeout-Ms": "200"})
            assert (status, content["code"]) == (504, "deadline_exceeded")
        assert waiting(port, "search") == waiting(port, "ingest") == 0
        detector.go.set()
        assert post(port, "/detect", crop("red"))[0] == 200


def test_the_work_of_a_client_that_left_is_dropped(live, detector):
    with live() as port, ThreadPoolExecutor(2) as pool:
        detector.go.clear()
        held = pool.submit(post, port, "/detect", crop("red"))
        wait_for(lambda: len(detector.asked) > 3)
        body, headers = form(crop("red"))
        with socket.create_connection(("127.0.0.1", port)) as connection:
            lines = [f"{name}: {value}" for name, value in headers.items()]
            head = ["POST /detect HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
            connection.sendall("\r\n".join([*head, *lines, "", ""]).encode() + body)
            wait_for(lambda: waiting(port, "search") == 1)
        wait_for(lambda: waiting(port, "search") == 0)
        calls = len(detector.asked)
        detector.go.set()

        assert held.result()[0] == 200
        assert len(detector.asked) == calls


def test_slow_senders_do_not_hold_others_up(live):
    with live() as port:
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        for connection, path in zip(slow, itertools.cycle(["/search", "/gallery/images"])):
            connection.sendall(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
                "Content-Type: multipart/form-data; boundary=part\r\n\r\n--part\r\n"
                'Content-Disposition: form-data; name="image"; filename="scene.jpg"\r\n\r\n'
                "the first bytes".encode()
            )
        started = time.monotonic()
        status, _, _ = post(port, "/detect", crop("red"))
        answered, _, _ = select.select(slow, [], [], 0)
        for connection in slow:
            connection.close()

        assert not answered
        assert status == 200
        assert time.monotonic() - started < 10


@pytest.fixture
def process(tmp_path, monkeypatch):
    """A service of its own, with the stub detector; yields the process and its port."""
    monkeypatch.setenv("STUB_SECONDS", "0.5")
    monkeypatch.setenv("PERSON_SEARCH_DRAIN_S", "1")
    port = free_port()
    command = [sys.executable, "-m", "service.tests.stub", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--data-dir", str(tmp_path / "data")],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        lines = []
        while not lines or "listening" not in lines[-1]:
            lines.append(child.stderr.readline())
            assert lines[-1], "".join(lines)
        yield child, port
        child.kill()


def test_a_stop_answers_everyone_and_keeps_what_it_acknowledged(process, tmp_path):
    child, port = process

    def add(number):
        content = picture(RED, file_format="PNG", seed=number)
        try:
            return post(port, "/gallery/images", content)
        except ConnectionError:  # it came when the port was closed already
            return 503, {"code": "shutting_down"}, {}

    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(add, number) for number in range(20)]
        wait_for(lambda: waiting(port, "ingest") >= 10)
        child.send_signal(signal.SIGTERM)
        answers = [answer.result() for answer in answers]

    assert child.wait(timeout=20) == 0
    stored = {content["id"] for status, content, _ in answers if status == 201}
    refused = [content["code"] for status, content, _ in answers if status != 201]
    assert stored
    assert refused
    assert set(refused) == {"shutting_down"}
    with Gallery.reopen(tmp_path / "data") as gallery:
        assert {scene.id for scene in gallery.scenes.page().scenes} == stored


def test_a_second_service_on_the_same_data_says_so_in_one_line(process, tmp_path):
    command = [sys.executable, "-m", "service.tests.stub", "--data-dir", str(tmp_path / "data")]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert second.returncode == 1
    assert second.stderr.strip().splitlines()[-1].startswith("error:")
    assert "Traceback" not in second.stderr


def test_the_network_is_not_listened_to_without_a_key(tmp_path):
    command = [sys.executable, "-m", "service", "--host", "0.0.0.0", "--data-dir", str(tmp_path)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "without an API key" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_many_readers_of_pictures_hold_no_thread_and_too_many_are_refused(live, monkeypatch):
    begun, go = threading.Semaphore(0), threading.Event()

    def wait(pixels):
        begun.release()
        assert go.wait(60)
        return upright_jpeg(pixels)

    monkeypatch.setattr("service.images.gallery.upright_jpeg", wait)
    with live() as port, contextlib.ExitStack() as stack, Client(port) as client:
        image = client.post_form("/gallery/images", picture())[1]["id"]
        readers = [stack.enter_context(Client(port, timeout=60)) for _ in range(80)]
        with ThreadPoolExecutor(len(readers)) as pool:
            path = f"/gallery/images/{image}/content"
            answers = [pool.submit(reader.send, "GET", path) for reader in readers]
            assert all(begun.acquire(timeout=60) for _ in range(DECODED_AT_ONCE))
            refused = 0
            while refused < len(readers) - PICTURES_AT_ONCE:
                time.sleep(0.05)
                refused = sum(one.done() for one in answers)
            began = time.monotonic()
            for other in ("/readyz", "/gallery", f"/gallery/images/{image}"):
                assert client.get(other)[0] == 200
            assert time.monotonic() - began < 10
            go.set()
            statuses = [one.result()[0] for one in answers]

        assert statuses.count(503) == len(readers) - PICTURES_AT_ONCE
        assert statuses.count(200) == PICTURES_AT_ONCE
        assert client.send("GET", path)[0] == 200
