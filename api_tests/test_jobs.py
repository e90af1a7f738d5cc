"""Promises about jobs: what was answered with 202 is done, can be followed, and can be ended."""

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from indexer.tests.servers import free_port
from service.tests.serving import Client, scene
from service.tests.stub import crop, picture

ROOT = Path(__file__).parent.parent
RED = ("red", (40, 40, 80, 160))
BLUE = ("blue", (200, 60, 236, 180))
JSONL = {"Content-Type": "application/jsonl"}


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(60):
        content = picture(RED, file_format="PNG", seed=number)
        (root / f"{number:02}.png").write_bytes(content)
    return root


def manifest(photos):
    names = sorted(file.name for file in photos.iterdir())
    return "\n".join(json.dumps({"file": name, "external_id": name}) for name in names)


def ended(client, job_id):
    ends = time.monotonic() + 30
    while True:
        job = client.get(f"/jobs/{job_id}").json()
        if job["finished_at"]:
            return job
        assert time.monotonic() < ends
        time.sleep(0.02)


def upload(client, *people, **options):
    files = [("image", picture(person, file_format="PNG")) for person in people]
    return client.post("/gallery/images", params={"wait": False}, files=files, **options)


def test_images_that_are_not_waited_for_become_a_job(client):
    metadata = json.dumps([{"camera_id": "a"}, {"external_id": "b", "tags": ["x"]}])
    answer = upload(client, RED, BLUE, data={"metadata": metadata})
    assert answer.status_code == 202
    accepted = answer.json()
    assert answer.headers["location"] == f"/jobs/{accepted['job_id']}"
    job = ended(client, accepted["job_id"])

    assert (job["kind"], job["state"], job["errors"]) == ("ingest", "succeeded", [])
    assert (job["progress"]["done"], job["progress"]["total"]) == (2, 2)
    assert job["result"].items() >= {"created": 2, "duplicates": 0, "failed": 0}.items()
    first, second = (
        client.get(f"/gallery/images/{image_id}").json() for image_id in job["result"]["image_ids"]
    )
    assert (first["camera_id"], second["external_id"], second["tags"]) == ("a", "b", ["x"])
    assert (
        client.post("/search", files={"image": crop("blue")}).json()["hits"][0]["image"]["id"]
        == (second["id"])
    )


def test_a_file_that_fails_is_listed_and_its_neighbours_are_stored(client):
    files = [("image", picture(RED)), ("image", b"not a picture"), ("image", picture(BLUE))]
    answer = client.post("/gallery/images", params={"wait": False}, files=files)
    job = ended(client, answer.json()["job_id"])

    assert (job["state"], job["progress"]["failed"]) == ("succeeded", 1)
    assert [bool(image_id) for image_id in job["result"]["image_ids"]] == [True, False, True]
    (error,) = job["errors"]
    assert (error["item"], error["problem"]["code"]) == ("1", "unsupported_image_format")


def test_a_job_all_of_whose_files_fail_has_failed(client):
    first = client.post("/gallery/images", files={"image": picture(RED)}).json()
    again = client.post(
        "/gallery/images",
        params={"wait": False, "on_duplicate": "error"},
        files={"image": picture(RED)},
    )
    job = ended(client, again.json()["job_id"])

    assert (job["state"], job["problem"]["code"]) == ("failed", "all_items_failed")
    assert job["errors"][0]["problem"]["code"] == "duplicate_image"
    assert client.get("/gallery/images").json()["items"][0]["id"] == first["id"]


def test_bad_requests_are_refused_before_there_is_a_job(client, start, tmp_path, photos):
    wrong = client.post("/gallery/images", params={"wait": False}, files={"image": b"x"},
                        data={"metadata": "[]"})  # fmt: skip
    assert (wrong.status_code, wrong.json()["code"]) == (422, "validation_failed")
    off = client.post("/gallery/imports", content=b'{"file": "a"}', headers=JSONL)
    assert (off.status_code, off.json()["code"]) == (409, "imports_off")
    assert client.get("/jobs").json() == {"items": [], "next_cursor": None}
    with start(data_dir=tmp_path / "other", import_dir=photos) as other:
        for content, headers, code in (
            (b"\n \r\n", JSONL, "validation_failed"),
            (b"", JSONL, "validation_failed"),
            (b"{}", {"Content-Type": "text/plain"}, "unsupported_media_type"),
        ):
            answer = other.post("/gallery/imports", content=content, headers=headers)
            assert answer.json()["code"] == code
        assert other.get("/jobs").json()["items"] == []
        assert list((tmp_path / "other" / "spool").iterdir()) == []


def test_jobs_are_listed_newest_first_by_state_and_kind(start, tmp_path, photos):
    with start(import_dir=photos) as client:
        first = upload(client, RED).json()["job_id"]
        content = b'{"file": "00.png"}\n{"file": "none.png"}'
        second = client.post("/gallery/imports", content=content, headers=JSONL).json()["job_id"]
        ended(client, second)

        def listed(**params):
            return [job["id"] for job in client.get("/jobs", params=params).json()["items"]]

        assert listed() == [second, first]
        assert listed(kind="ingest", state="succeeded") == [first]
        assert listed(state=["failed", "queued"]) == []
        page = client.get("/jobs", params={"limit": 1}).json()
        assert [job["id"] for job in page["items"]] == [second]
        assert listed(limit=1, cursor=page["next_cursor"]) == [first]
        for wrong in ({"state": "done"}, {"limit": 0}, {"limit": 9999}, {"kin": "x"}):
            assert client.get("/jobs", params=wrong).status_code == 422
        assert client.get("/jobs", params={"cursor": "x"}).json()["code"] == "invalid_cursor"


def test_only_so_many_clients_follow_jobs(client, monkeypatch):
    job_id = upload(client, RED).json()["job_id"]
    assert client.get(f"/jobs/{job_id}/events").text.count("event: end") == 1
    monkeypatch.setattr("service.jobs.routes.MAX_STREAMS", 0)

    answer = client.get(f"/jobs/{job_id}/events")
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")


def test_the_same_picture_in_many_jobs_and_requests_becomes_one_image(client):
    content = picture(RED)

    def post(number):
        answer = client.post(
            "/gallery/images", params={"wait": number % 2 == 0}, files=[("image", content)] * 3
        )
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(20)))
    created = 0
    for status, content in answers:
        if status == 202:
            created += ended(client, content["job_id"])["result"]["created"]
        else:
            created += [entry["status"] for entry in content["results"]].count("created")

    assert created == 1
    assert client.get("/gallery/images", params={"count": True}).json()["total"] == 1


def test_an_ended_job_cannot_be_cancelled(client):
    job_id = upload(client, RED).json()["job_id"]
    ended(client, job_id)

    answer = client.post(f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_conflict")
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events")):
        assert client.request(method, f"/jobs/job_none{path}").status_code == 404


def test_a_caller_sees_its_own_jobs_and_an_admin_all(start, tmp_path):
    secrets = {name: f"{name}-secret-0123456789" for name in ("me", "you", "boss")}
    keys = ",".join(
        f"{name}:{'admin' if name == 'boss' else 'ingest'}:{secret}"
        for name, secret in secrets.items()
    )
    with start(api_keys=keys) as client:
        as_ = {name: {"Authorization": f"Bearer {secret}"} for name, secret in secrets.items()}
        job_id = upload(client, RED, headers=as_["me"]).json()["job_id"]
        for name, seen in (("me", True), ("you", False), ("boss", True)):
            items = client.get("/jobs", headers=as_[name]).json()["items"]
            assert [job["id"] for job in items] == [job_id] * seen
            for path in ("", "/events"):
                answer = client.get(f"/jobs/{job_id}{path}", headers=as_[name])
                assert answer.status_code == (200 if seen else 404)
        assert client.post(f"/jobs/{job_id}/cancel", headers=as_["you"]).status_code == 404


# --- a process of its own


class Service:
    """A client of a running service."""

    def __init__(self, port, child):
        self.port, self.child = port, child

    def request(self, method, path, content=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, content, headers or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or "null")

    def events(self, job_id):
        """(event, job) as they come; the connection ends with the generator."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", f"/jobs/{job_id}/events")
            answer = connection.getresponse()
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            name = None
            for line in answer:
                field, _, value = line.decode().strip().partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)

    def until_done(self, job_id, count):
        ends = time.monotonic() + 20
        while (job := self.request("GET", f"/jobs/{job_id}")[1])["progress"]["done"] < count:
            assert time.monotonic() < ends
            time.sleep(0.01)
        return job


@contextmanager
def served(tmp_path, photos, *, seconds=0.02):
    """The service with the stub detector, in a process that is killed at the end."""
    port = free_port()
    command = [sys.executable, "-m", "service.tests.stub", "--port", str(port)]
    own = {"STUB_SECONDS": str(seconds), "PERSON_SEARCH_IMPORT_DIR": str(photos)}
    with subprocess.Popen(
        [*command, "--data-dir", str(tmp_path / "data")],
        cwd=ROOT, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        try:
            lines = []
            while not lines or "listening" not in lines[-1]:
                lines.append(child.stderr.readline())
                assert lines[-1], "".join(lines)
            yield Service(port, child)
        finally:
            child.kill()


@pytest.mark.slow
def test_an_import_can_be_followed_to_its_end(tmp_path, photos):
    with served(tmp_path, photos, seconds=0.05) as service:
        status, accepted = service.request("POST", "/gallery/imports", manifest(photos), JSONL)
        assert status == 202
        events = list(service.events(accepted["job_id"]))
        assert list(service.events(accepted["job_id"])) == [events[-1]]

    names = [name for name, _ in events]
    jobs = [job for _, job in events]
    assert names == ["progress"] * (len(names) - 1) + ["end"]
    assert len(names) >= 4
    assert (jobs[-1]["state"], jobs[-1]["progress"]["done"]) == ("succeeded", 60)
    for before, after in itertools.pairwise(jobs):
        assert before["progress"]["done"] <= after["progress"]["done"]
    working = [job["progress"] for job in jobs[:-1] if 0 < job["progress"]["done"] < 60]
    assert all(each["rate"] > 0 and each["eta_s"] > 0 for each in working)


@pytest.mark.slow
def test_a_follower_that_leaves_disturbs_nothing_and_quiet_streams_are_kept_alive(
    live, detector, photos, monkeypatch
):
    monkeypatch.setattr("service.jobs.routes.KEEP_ALIVE_S", 0.1)
    monkeypatch.setattr("service.jobs.routes.LOOK_S", 0.05)
    with live(import_dir=photos) as port:
        detector.go.clear()
        service = Service(port, None)
        _, accepted = service.request("POST", "/gallery/imports", manifest(photos), JSONL)
        path = f"/jobs/{accepted['job_id']}/events"
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                received = b""
                while b": still there" not in received:
                    received += connection.recv(4096)
        ends = time.monotonic() + 10
        counted = 'person_search_requests_total{method="GET",route="/jobs/{job_id}/events"'
        while (
            f'{counted},status="200"}} 3.0' not in (connection_text(port, "/metrics"))
        ) and time.monotonic() < ends:
            time.sleep(0.05)
        assert f'{counted},status="200"}} 3.0' in connection_text(port, "/metrics")
        detector.go.set()

        assert list(service.events(accepted["job_id"]))[-1][1]["state"] == "succeeded"


def connection_text(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read().decode()


@pytest.mark.slow
def test_no_more_clients_follow_jobs_than_may_however_fast_they_come(live, detector, monkeypatch):
    monkeypatch.setattr("service.jobs.routes.MAX_STREAMS", 5)
    statuses = []
    with live() as port, contextlib.ExitStack() as stack:
        detector.go.clear()
        with Client(port) as client:
            job = client.post_form("/gallery/images?wait=false", scene(1))[1]["job_id"]
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(20)
        ]
        for connection in connections:
            connection.sendall(
                f"GET /jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
        for connection in connections:
            statuses.append(connection.recv(12)[-3:])

        assert (statuses.count(b"200"), statuses.count(b"503")) == (5, 15)
        for connection in connections:
            connection.close()
        ends = time.monotonic() + 20
        with Client(port) as client:
            while client.send("HEAD", f"/jobs/{job}/events")[0] != 200:
                assert time.monotonic() < ends
                time.sleep(0.1)
        detector.go.set()


def test_a_stop_ends_streams_and_the_job_goes_on_after_the_next_start(tmp_path, photos):
    with served(tmp_path, photos, seconds=0.1) as service:
        _, accepted = service.request("POST", "/gallery/imports", manifest(photos), JSONL)
        events = service.events(accepted["job_id"])
        next(events)
        service.until_done(accepted["job_id"], 3)
        started = time.monotonic()
        service.child.send_signal(signal.SIGTERM)
        assert "end" not in [name for name, _ in events]
        assert service.child.wait(timeout=20) == 0
        assert time.monotonic() - started < 10
    with served(tmp_path, photos, seconds=0) as service:
        *_, (name, job) = service.events(accepted["job_id"])

    assert (name, job["state"], job["attempts"]) == ("end", "succeeded", 2)
    assert job["result"] == {"created": 60, "duplicates": 0, "failed": 0}


@pytest.mark.slow
def test_a_running_import_is_cancelled_within_two_seconds_over_http(tmp_path, photos):
    with served(tmp_path, photos, seconds=0.1) as service:
        _, accepted = service.request("POST", "/gallery/imports", manifest(photos), JSONL)
        _, waiting = service.request("POST", "/gallery/imports", manifest(photos), JSONL)
        service.until_done(accepted["job_id"], 2)
        started = time.monotonic()
        for job_id in (waiting["job_id"], accepted["job_id"]):
            assert service.request("POST", f"/jobs/{job_id}/cancel")[0] == 200
        *_, (name, job) = service.events(accepted["job_id"])
        assert time.monotonic() - started < 2

        assert (name, job["state"], job["cancel_requested"]) == ("end", "cancelled", True)
        assert 2 <= job["progress"]["done"] < 60
        assert service.request("GET", f"/jobs/{waiting['job_id']}")[1]["state"] == "cancelled"
        assert service.request("POST", f"/jobs/{job_id}/cancel")[0] == 200
        _, page = service.request("GET", "/gallery/images?count=true")
        assert page["total"] == job["progress"]["done"]


@pytest.mark.slow
def test_an_import_survives_being_killed_at_any_moment(tmp_path, photos):
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 (shown when the test fails)
    chance = random.Random(seed)
    progress = [0]
    with served(tmp_path, photos) as service:
        _, accepted = service.request("POST", "/gallery/imports", manifest(photos), JSONL)
        service.child.kill()
    for _ in range(5):
        with served(tmp_path, photos) as service:
            ends = time.monotonic() + chance.uniform(0.05, 0.5)
            while time.monotonic() < ends:
                _, job = service.request("GET", f"/jobs/{accepted['job_id']}")
                progress.append(job["progress"]["done"])
            service.child.kill()
    with served(tmp_path, photos, seconds=0) as service:
        *_, (_, job) = service.events(accepted["job_id"])
        _, page = service.request("GET", "/gallery/images?limit=100&count=true")

    assert progress == sorted(progress)
    assert job["state"] == "succeeded", job
    assert job["result"] == {"created": 60, "duplicates": 0, "failed": 0}
    assert sorted(image["external_id"] for image in page["items"]) == [
        file.name for file in sorted(photos.iterdir())
    ]
    assert page["total"] == 60
    assert list((tmp_path / "data" / "spool").iterdir()) == []
