"""The job that changes a gallery's model, when the service ends in the middle."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import service
from service.tests.dying_reindex import DEATH, PICTURES, RED, STEPS, app
from service.tests.stub import OtherStub, crop, picture

WARM_UP = 2


def wait(client, state="succeeded"):
    for _ in range(1000):
        (job,) = client.get("/jobs", params={"kind": "reindex"}).json()["items"]
        if job["finished_at"]:
            assert job["state"] == state, job
            return job
        time.sleep(0.01)
    raise AssertionError(job)


def answering(client):
    answer = client.post("/search", files={"image": crop("red")}).json()
    return answer["index"]["model"], len(answer["hits"])


@pytest.mark.parametrize("step", STEPS)
def test_a_change_of_the_model_goes_on_after_a_death_and_does_nothing_twice(tmp_path, step):
    command = [sys.executable, "-m", "service.tests.dying_reindex", str(tmp_path), step]
    root = Path(service.__file__).parent.parent
    assert subprocess.run(command, cwd=root, check=False).returncode == DEATH
    left = {"begun": PICTURES, "at half": PICTURES // 2 + 1, "one stored": PICTURES // 2}

    other = OtherStub()
    with TestClient(app(tmp_path, other), base_url="http://localhost") as client:
        assert wait(client)["result"]["model"] == "other"
        assert answering(client) == ("other", PICTURES)
        states = [one["state"] for one in client.get("/index").json()["generations"]]

    assert states == ["kept", "active"]
    assert other.asked.count("detect") == left.get(step, 0) + WARM_UP


def test_a_change_of_the_model_goes_on_after_an_orderly_stop(tmp_path):
    other = OtherStub(seconds=0.05)
    with TestClient(app(tmp_path, other), base_url="http://localhost") as client:
        for seed in range(PICTURES):
            content = picture(RED, file_format="PNG", seed=seed)
            client.post("/gallery/images", files={"image": content})
        client.post("/models/other/reindex")
        while client.get("/index").json()["generations"][-1]["images"] not in (1, 2, 3):
            time.sleep(0.01)
        assert answering(client) == ("stub", PICTURES)

    again = OtherStub()
    with TestClient(app(tmp_path, again), base_url="http://localhost") as client:
        assert wait(client)["attempts"] == 2
        assert answering(client) == ("other", PICTURES)

    assert again.asked.count("detect") < PICTURES + WARM_UP


def test_what_a_job_left_that_never_ran_again_is_no_longer_built(tmp_path):
    command = [sys.executable, "-m", "service.tests.dying_reindex", str(tmp_path), "begun"]
    root = Path(service.__file__).parent.parent
    assert subprocess.run(command, cwd=root, check=False).returncode == DEATH

    class NeverStarted(OtherStub):
        def detect(self, images):
            assert self.go.wait(30)
            return super().detect(images)

    other = NeverStarted()
    other.go.clear()
    with TestClient(app(tmp_path, other), base_url="http://localhost") as client:
        (job,) = client.get("/jobs").json()["items"]
        client.post(f"/jobs/{job['id']}/cancel")
        other.go.set()
        wait(client, "cancelled")
        client.app.state.parts.caretaker.look()
        states = [one["state"] for one in client.get("/index").json()["generations"]]

        assert states == ["active", "kept"]
        assert answering(client) == ("stub", PICTURES)
