"""Promises about evaluations over HTTP; service/tests has what they measure."""

import time

import pytest

from service.tests.stub import picture

RED = ("red", (40, 40, 80, 160))
BLUE = ("blue", (200, 40, 236, 200))  # taller, so that the stub is surer of it


def ended(client, answer):
    assert answer.status_code == 202, answer.text
    ends = time.monotonic() + 30
    while True:
        job = client.get(answer.headers["location"]).json()
        if job["finished_at"]:
            return job
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.fixture
def three(client, add):
    """Red is in three images, once beside blue; all are labelled."""
    images = [add(RED), add(RED, BLUE, size=(400, 300)), add(RED, size=(360, 300))]
    for image in images:
        for detection in image["detections"]:
            name = "red" if detection["box"]["x1"] < 100 else "blue"
            path = f"/gallery/detections/{detection['id']}/label"
            assert client.put(path, json={"label": name}).status_code == 200
    return images


def test_an_evaluation_on_labels_is_a_job_with_figures(client, three):
    job = ended(client, client.post("/evaluations", json={}))

    assert (job["kind"], job["state"], job["problem"]) == ("evaluate", "succeeded", None)
    result = job["result"]
    assert result["search"]["queries"] == 3
    assert result["search"]["map"] == {"value": 1.0, "low": None, "high": None}
    assert (result["images"], result["detections"], result["cameras"]) == (3, 4, [])
    assert len(result["labels_sha256"]) == len(result["model_sha256"]) == 64


def test_an_evaluation_on_a_protocol_finds_boxes_and_tells_the_detector_s_recall(client, three):
    box = three[0]["detections"][0]["box"]
    unseen = {"x1": 250, "y1": 100, "x2": 300, "y2": 200}
    places = [{"image_id": three[1]["id"], "box": box}, {"image_id": three[2]["id"], "box": unseen}]
    query = {"image_id": three[0]["id"], "box": box, "holds": places}
    job = ended(client, client.post("/evaluations", json={"protocol": {"queries": [query]}}))

    assert job["state"] == "succeeded", job
    # The red of the third image is found first, and is not where the protocol has it.
    assert job["result"]["search"]["map"]["value"] == 0.25
    assert job["result"]["detector"]["recall"]["value"] == 0.5
    assert job["progress"]["done"] == job["progress"]["total"] == 2


def test_an_evaluation_without_anything_to_ask_fails_with_a_problem_that_says_so(client, add):
    add(RED)
    job = ended(client, client.post("/evaluations", json={}))

    assert (job["state"], job["problem"]["code"]) == ("failed", "nothing_to_evaluate")


def test_an_evaluation_sent_again_under_its_key_is_the_same_job(client, three):
    named = {"Idempotency-Key": "evening"}
    first = client.post("/evaluations", json={"unlabelled": "wrong"}, headers=named)
    again = client.post("/evaluations", json={"unlabelled": "wrong"}, headers=named)
    other = client.post("/evaluations", json={"unlabelled": "left_out"}, headers=named)

    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_an_evaluation_resumes_after_a_restart(start, tmp_path, detector):
    with start(data_dir=tmp_path / "kept") as client:
        images = [
            client.post("/gallery/images", files={"image": picture(RED, size=size)}).json()
            for size in ((320, 240), (400, 300))
        ]
        query = {
            "image_id": images[0]["id"],
            "box": images[0]["detections"][0]["box"],
            "holds": [{"image_id": images[1]["id"]}],
        }
        detector.go.clear()  # the model waits, and the service stops meanwhile
        answer = client.post("/evaluations", json={"protocol": {"queries": [query] * 50}})
        time.sleep(0.2)
        detector.go.set()
    with start(data_dir=tmp_path / "kept") as client:
        job = ended(client, answer)
        assert (job["state"], job["result"]["search"]["queries"]) == ("succeeded", 50)


@pytest.mark.parametrize(
    "body",
    [{"unlabelled": "maybe"}, {"protocol": {"queries": []}}, {"protocol": {}}, {"labels": {}}],
    ids=str,
)
def test_an_evaluation_that_cannot_be_meant_is_refused_at_once(client, body):
    answer = client.post("/evaluations", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
