"""Promises about requests that are sent again: done once, answered alike."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import service
from indexer.rows import replies as reply_store
from service.tests import dying_add
from service.tests.stub import picture

RED = ("red", (40, 40, 80, 160))
BLUE = ("blue", (200, 60, 236, 180))
SECRETS = {"me": "me-secret-0123456789", "you": "you-secret-0123456789"}


def post(client, *people, key="k", params=None, path="/gallery/images", data=None, **headers):
    files = [("image", ("a.png", picture(person, file_format="PNG"))) for person in people]
    headers = {"Idempotency-Key": key} | headers
    return client.post(path, files=files, params=params, data=data, headers=headers)


def count(client):
    return client.get("/gallery/images", params={"count": True}).json()["total"]


def test_the_same_request_is_answered_as_the_first_time(client, detector):
    first = post(client, RED)
    calls = len(detector.asked)
    again = post(client, RED)

    assert (first.status_code, first.json()["status"]) == (201, "created")
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert len(detector.asked) == calls


def test_the_first_answer_stands_also_when_the_image_is_gone_meanwhile(client):
    first = post(client, RED)
    client.delete(first.headers["location"])

    assert post(client, RED).content == first.content
    assert count(client) == 0


@pytest.mark.parametrize(
    "other",
    [
        {"params": {"on_duplicate": "error"}},
        {"params": {"wait": False}},
        {"data": {"metadata": '{"camera_id": "a"}'}},
    ],
)
def test_another_request_under_the_same_key_is_refused(client, other):
    post(client, RED)
    answer = post(client, RED, **other)

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    answer = post(client, BLUE)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert post(client, RED, RED).status_code == 422
    assert count(client) == 1


def test_fifty_at_once_under_one_key_do_the_work_once(client, detector):
    detector.seconds = 0.2
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: post(client, RED), range(50)))

    done = [each for each in answers if each.status_code == 201]
    first = [each for each in done if "idempotency-replayed" not in each.headers]
    waiting = [each for each in answers if each.status_code == 409]
    assert len(first) == 1
    assert {each.content for each in done} == {first[0].content}
    assert len(done) + len(waiting) == 50
    assert {each.json()["code"] for each in waiting} <= {"idempotency_in_progress"}
    assert all(int(each.headers["retry-after"]) >= 1 for each in waiting)
    assert all(each.json()["retryable"] for each in waiting)
    assert count(client) == 1


def test_while_the_first_is_in_work_others_are_told_so(client, detector):
    detector.go.clear()
    calls = len(detector.asked)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, client, RED)
        while len(detector.asked) == calls:
            threading.Event().wait(0.01)
        same, other = post(client, RED), post(client, BLUE)
        free = post(client, key="other", path="/gallery/images")
        detector.go.set()

        assert (same.status_code, same.json()["code"]) == (409, "idempotency_in_progress")
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert free.json()["code"] in ("validation_failed", "unsupported_media_type")
        assert first.result().status_code == 201
    assert post(client, RED).headers["idempotency-replayed"] == "true"


def test_answers_survive_a_restart(start):
    with start() as client:
        first = post(client, RED, BLUE)
        client.delete(f"/gallery/images/{first.json()['results'][0]['id']}")
    with start() as client:
        again = post(client, RED, BLUE)

        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["idempotency-replayed"] == "true"
        assert post(client, BLUE).json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("step", ["placed", "inserted", "committed", "indexed"])
def test_a_death_while_an_image_is_added_leaves_the_image_with_its_answer_or_neither(
    tmp_path, step
):
    command = [sys.executable, "-m", "service.tests.dying_add", str(tmp_path), step]
    root = Path(service.__file__).parent.parent
    assert subprocess.run(command, cwd=root, check=False).returncode == dying_add.DEATH

    with dying_add.served(tmp_path) as client:
        stored = count(client)
        answer = dying_add.post(client)
        again = dying_add.post(client)
        (image,) = client.get("/gallery/images").json()["items"]

        assert stored == (1 if step in ("committed", "indexed") else 0)
        assert (answer.status_code, answer.json()["status"]) == (201, "created")
        assert ("idempotency-replayed" in answer.headers) == bool(stored)
        assert answer.headers["location"] == f"/gallery/images/{image['id']}"
        assert image.items() <= answer.json().items()
        assert again.content == answer.content


@pytest.mark.parametrize("on_duplicate", ["return", "error"])
def test_who_leaves_and_asks_again_gets_the_answer_to_what_was_done_nevertheless(
    client, detector, on_duplicate
):
    detector.go.clear()
    options = {"params": {"on_duplicate": on_duplicate}}
    left = post(client, RED, **options, **{"X-Timeout-Ms": "200"})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, client, RED, **options)
        while not client.app.state.parts.worker.waiting("ingest"):
            threading.Event().wait(0.01)
        detector.go.set()
        answer = waiting.result()

    assert left.status_code == 504
    assert (answer.status_code, answer.json()["status"]) == (201, "created")
    assert answer.headers["idempotency-replayed"] == "true"
    assert post(client, RED, **options).content == answer.content


def test_a_refusal_is_kept_and_a_fault_that_may_pass_is_not(client, monkeypatch):
    refused = [post(client, path="/gallery/images", data={"metadata": "{}"}) for _ in range(2)]
    assert [each.status_code for each in refused] == [415, 415]  # before anything was begun

    post(client, RED, key="first")
    taken = [post(client, RED, key="dup", params={"on_duplicate": "error"}) for _ in range(2)]
    assert [each.json()["code"] for each in taken] == ["duplicate_image"] * 2
    assert taken[0].content == taken[1].content
    assert taken[1].headers["content-type"] == "application/problem+json"
    assert taken[1].headers["idempotency-replayed"] == "true"

    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda path: _Full())
        full = post(client, BLUE, key="full")
    again = post(client, BLUE, key="full")
    assert (full.status_code, again.status_code) == (507, 201)
    assert "idempotency-replayed" not in again.headers


class _Full:
    total, used, free = 100 * 2**30, 0, 2**20


def test_a_list_in_which_a_file_may_do_better_later_is_not_kept(client, detector):
    detector.seconds = 1.5  # the first is done in time on a busy machine, the last on none
    headers = {"X-Timeout-Ms": "3500"}
    first = post(client, RED, BLUE, ("green", (100, 40, 140, 160)), **headers)
    statuses = [entry["status"] for entry in first.json()["results"]]
    assert set(statuses) == {"created", "failed"}
    detector.seconds = 0
    again = post(client, RED, BLUE, ("green", (100, 40, 140, 160)))

    assert "idempotency-replayed" not in again.headers
    assert "failed" not in [entry["status"] for entry in again.json()["results"]]


def test_a_key_is_forgotten_after_a_day(client, monkeypatch):
    first = post(client, RED)
    monkeypatch.setattr(reply_store, "FORGOTTEN_AFTER_S", -1)
    later = post(client, RED)

    assert (first.status_code, later.status_code) == (201, 200)
    assert later.json()["status"] == "duplicate"


def test_every_api_key_has_keys_of_its_own(start):
    keys = ",".join(f"{name}:ingest:{secret}" for name, secret in SECRETS.items())
    with start(api_keys=keys) as client:
        mine = {"Authorization": f"Bearer {SECRETS['me']}"}
        yours = {"Authorization": f"Bearer {SECRETS['you']}"}

        assert post(client, RED, **mine).status_code == 201
        assert post(client, BLUE, **yours).status_code == 201
        assert post(client, RED, **yours).json()["code"] == "idempotency_key_reused"
        assert post(client, RED, **mine).headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "\xe9"])
def test_a_key_that_is_not_printable_or_too_long_is_refused(client, key):
    answer = post(client, RED, key=key.encode("latin-1"))

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert count(client) == 0
    assert post(client, RED, key="~" * 255).status_code == 201


def test_a_job_is_asked_for_once(client, detector):
    first = post(client, RED, BLUE, params={"wait": False})
    again = post(client, RED, BLUE, params={"wait": False})

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert len(client.get("/jobs").json()["items"]) == 1
    assert set(json.loads(first.content)) == {"job_id", "state"}
