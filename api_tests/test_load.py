"""Promises under load, and at the end of it. Times are printed; -s shows them."""

import json
import os
import signal
import socket
import threading
import time

import numpy as np
import pytest

from service.tests.serving import Client, form, scene, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
WORK_S = 0.05


def ask(client, log):
    """One search; what was answered, and after how many seconds."""
    began = time.monotonic()
    status, headers, _ = client.send("POST", "/search", *form(scene(1, 1)))
    log.append((status, time.monotonic() - began, headers.get("retry-after")))


def load(port, clients, seconds, *, pause=0.0):
    """Answers to so many clients that ask, and ask again."""
    log, ends = [], time.monotonic() + seconds

    def run():
        with Client(port) as client:
            while time.monotonic() < ends:
                ask(client, log)
                time.sleep(pause)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return log


def p(share, seconds):
    return float(np.percentile(seconds, share))


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.soak)])
def test_ten_times_the_load_is_refused_quickly_and_the_rest_is_no_slower(tmp_path, seconds):
    queue = 4
    with served(tmp_path / "data", seconds=WORK_S, search_queue_max=queue) as service:
        normal = [took for _, took, _ in load(service.port, queue, 3)]
        # 20 clients that wait 0.1 s after each answer offer about ten times what one core can do.
        log = load(service.port, 20, seconds, pause=0.1)
        took = {status: [one[1] for one in log if one[0] == status] for status in (200, 503)}
        time.sleep(0.5)
        with Client(service.port) as client:
            after = []
            ask(client, after)

    print(  # noqa: T201
        f"normal p99 {p(99, normal):.3f} s; overloaded: {len(took[200])} answered, p99 "
        f"{p(99, took[200]):.3f} s; {len(took[503])} refused, p50 {p(50, took[503]):.3f} s, "
        f"p99 {p(99, took[503]):.3f} s"
    )
    assert {status for status, _, _ in log} == {200, 503}
    assert all(int(retry) >= 1 for status, _, retry in log if status == 503)
    assert p(50, took[503]) < p(50, took[200])
    assert p(50, took[200]) <= 3 * p(50, normal)
    assert after[0][0] == 200


@pytest.mark.parametrize("files", [150, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_search_waits_for_one_picture_of_an_import_at_most(tmp_path, files):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(files):
        (photos / f"{number}.png").write_bytes(scene(number))
    manifest = "".join(f'{{"file": "{number}.png"}}\n' for number in range(files))
    with (
        served(tmp_path / "data", seconds=WORK_S, import_dir=photos) as service,
        Client(service.port) as client,
    ):
        idle, busy = [], []
        for _ in range(40):
            ask(client, idle)
        sent = {"Content-Type": "application/jsonl"}
        began = time.monotonic()
        assert client.send("POST", "/gallery/imports", manifest, sent)[0] == 202
        for _ in range(40):
            ask(client, busy)
        running = client.get("/jobs?state=running")[1]["items"]
        assert running, "the import ended too soon"
        picture_s = (time.monotonic() - began) / running[0]["progress"]["done"]

    idle_p95, busy_p95 = (p(95, [took for _, took, _ in log]) for log in (idle, busy))
    print(f"search p95: idle {idle_p95:.3f} s, during an import {busy_p95:.3f} s")  # noqa: T201
    assert {status for status, _, _ in busy} == {200}
    idle_p50, busy_p50 = (p(50, [took for _, took, _ in log]) for log in (idle, busy))
    assert busy_p50 <= idle_p50 + 2 * picture_s


def test_a_second_signal_ends_it_now_and_loses_nothing(tmp_path):
    stored = []
    with served(tmp_path / "data", seconds=0.5) as service:

        def add(number):
            with Client(service.port) as client:
                try:
                    status, _, answer = client.send("POST", "/gallery/images", *form(scene(number)))
                except OSError:
                    return
                if status == 201:
                    stored.append(json.loads(answer)["id"])

        threads = [threading.Thread(target=add, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        time.sleep(1.2)
        began = time.monotonic()
        service.signal(signal.SIGTERM)
        time.sleep(0.3)
        service.signal(signal.SIGTERM)
        assert service.wait(10) == 0
        assert time.monotonic() - began < 4
        for thread in threads:
            thread.join()
    with served(tmp_path / "data") as service, Client(service.port) as client:
        present = {image["id"] for image in client.all_images()}
    assert stored
    assert set(stored) <= present


def test_clients_that_leave_free_their_place_and_leave_no_file(tmp_path):
    (tmp_path / "tmp").mkdir()
    os.environ["TMPDIR"] = str(tmp_path / "tmp")
    try:
        service = served(tmp_path / "data", seconds=0.3)
        with service as running, Client(running.port) as client:
            client.post_form("/gallery/images", scene(0))
            before = open_files(running.pid)
            body, headers = form(bytes(3_000_000))
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = f"Host: localhost\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode()
            for path in ("/gallery/images", "/search"):
                leaving = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(8)]
                for connection in leaving:  # mid-upload: larger than is kept in memory
                    connection.sendall(f"POST {path} HTTP/1.1\r\n".encode() + head + body[: 2**21])
                time.sleep(0.3)
                for connection in leaving:
                    connection.close()
            content, headers = form(scene(1))
            for _ in range(8):  # mid-inference, seven of them waiting for it
                with socket.create_connection(("127.0.0.1", running.port)) as connection:
                    head = f"Host: localhost\r\nContent-Length: {len(content)}\r\n"
                    kind = f"Content-Type: {headers['Content-Type']}\r\n\r\n"
                    connection.sendall(f"POST /search HTTP/1.1\r\n{head}{kind}".encode() + content)
                    time.sleep(0.02)
            began = time.monotonic()
            while waiting(client) or open_files(running.pid) > before:
                assert time.monotonic() - began < 1, (waiting(client), open_files(running.pid))
                time.sleep(0.02)
            assert list((tmp_path / "tmp").iterdir()) == []
    finally:
        del os.environ["TMPDIR"]


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


def waiting(client):
    text = client.send("GET", "/metrics")[2].decode().splitlines()
    return sum(
        float(line.split()[1])
        for line in text
        if line.startswith(("person_search_search_waiting ", "person_search_ingest_waiting "))
    )


@pytest.mark.parametrize("each", [300, pytest.param(2000, marks=pytest.mark.soak)])
def test_memory_does_not_grow_with_the_number_of_requests(tmp_path, each, seed):
    chance = np.random.default_rng(seed)
    with served(tmp_path / "data") as service, Client(service.port) as client:

        def round_of(first):
            people = int(chance.integers(1, 60))
            assert client.post_form("/gallery/images", scene(first, people))[0] == 201
            assert client.post_form("/search", scene(first, people))[0] == 200

        for number in range(100):
            round_of(number)
        sizes = [resident(service.pid)]
        for number in range(each):
            round_of(1000 + number)
            if number == each // 2:
                sizes.append(resident(service.pid))
        sizes.append(resident(service.pid))
    slope = (sizes[2] - sizes[1]) / each  # two requests a round, half of the rounds
    print(  # noqa: T201
        f"{2 * each} requests: +{(sizes[2] - sizes[0]) / 1e6:.1f} MB, in the last half "
        f"{slope / 1e3:.1f} kB/request"
    )
    assert sizes[2] - sizes[0] <= 100e6
    if each >= 2000:
        assert slope <= 5e3


def resident(pid):
    """Bytes of memory that a process holds."""
    with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
