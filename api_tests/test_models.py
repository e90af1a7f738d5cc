"""Promises about changing the model: beside what answers, in one step, and back."""

import threading
import time
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

from indexer.tests.scenery import settings_of_tests
from service.app import create_app
from service.settings import Settings
from service.tests.stub import COLOURS, OtherStub, crop, picture

BOX = (40, 40, 80, 160)


@pytest.fixture
def other():
    return OtherStub()


@pytest.fixture
def started(tmp_path, detector, other):
    """Start a service that has two models; first is the one of its settings."""

    @contextmanager
    def start(first=detector, rest=(other,), **settings):
        settings = {**settings_of_tests(tmp_path / "data"), **settings}
        app = create_app(Settings(**settings), first, other_detectors=rest)
        with TestClient(app, base_url="http://localhost") as client:
            yield client

    return start


@pytest.fixture
def client(started):
    with started() as client:
        yield client


def add(client, colour, seed=0, **more):
    content = picture((colour, BOX), file_format="PNG", seed=seed)
    answer = client.post("/gallery/images", files={"image": content}, **more)
    assert answer.status_code == 201, answer.text
    return answer.json()


def search(client, colour):
    answer = client.post("/search", files={"image": crop(colour)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def hits(answer):
    return [(hit["detection"]["id"], hit["score"], hit["similarity"]) for hit in answer["hits"]]


def ended(client, answer, state="succeeded"):
    assert answer.status_code == 202, answer.text
    for _ in range(1000):
        job = client.get(f"/jobs/{answer.json()['job_id']}").json()
        if job["finished_at"]:
            assert job["state"] == state, job
            return job
        time.sleep(0.01)
    raise AssertionError(job)


def change(client, name, **more):
    return ended(client, client.post(f"/models/{name}/reindex", **more))


def states(client):
    return {one["model"]: one["state"] for one in client.get("/index").json()["generations"]}


def test_the_models_that_are_there_are_listed(client):
    add(client, "red")

    items = {one["name"]: one for one in client.get("/models").json()["items"]}

    assert set(items) == {"stub", "other", "nae-lite", "nae-lite-clean"}
    assert items["stub"]["active"]
    assert items["stub"]["generation"]["images"] == 1
    assert not items["other"]["active"]
    assert items["other"]["generation"] is None
    assert (items["other"]["embedding_dim"], items["nae-lite"]["head"]) == (5, "nae")


def test_a_changed_model_answers_and_going_back_gives_the_old_answers(client):
    for seed, colour in enumerate(COLOURS):
        add(client, colour, seed)
    before = search(client, "red")

    job = change(client, "other")

    assert job["result"]["state"] == "active"
    assert (job["progress"]["done"], job["progress"]["total"]) == (4, 4)
    after = search(client, "red")
    assert after["index"]["generation"] == job["result"]["generation"]
    assert (after["index"]["model"], before["index"]["model"]) == ("other", "stub")
    assert hits(after)[0][0] == hits(before)[0][0]
    assert len(after["hits"]) == 3
    assert client.get("/version").json()["model"]["name"] == "other"
    assert client.get("/readyz").json()["ready"]
    assert states(client) == {"stub": "kept", "other": "active"}

    ended(client, client.post(f"/index/generations/{before['index']['generation']}/activate"))

    again = search(client, "red")
    assert hits(again) == hits(before)
    assert again["index"]["generation"] == before["index"]["generation"]


def test_labels_survive_a_changed_model_and_the_way_back(client):
    yellow, red = (add(client, colour, 1)["detections"][0]["id"] for colour in ("yellow", "red"))
    before = client.get("/index").json()["generation"]
    for id in (yellow, red):
        path = f"/gallery/detections/{id}/label"
        assert client.put(path, json={"label": f"of {id}"}).status_code == 200

    change(client, "other")

    assert client.get(f"/gallery/detections/{red}").json()["label"] == f"of {red}"
    relabelled = client.put(f"/gallery/detections/{red}/label", json={"label": "rosa"})
    assert relabelled.json()["label"] == "rosa"
    ended(client, client.post(f"/index/generations/{before}/activate"))
    assert client.get(f"/gallery/detections/{red}").json()["label"] == "rosa"
    assert client.get(f"/gallery/detections/{yellow}").json()["label"] == f"of {yellow}"


def label_by_colour(client, colours, each):
    for seed in range(each):
        for colour in colours:
            (person,) = add(client, colour, seed)["detections"]
            path = f"/gallery/detections/{person['id']}/label"
            assert client.put(path, json={"label": colour}).status_code == 200


def test_a_model_answers_when_it_finds_labelled_people_again_as_well_as_asked_for(client):
    label_by_colour(client, ["red", "green", "yellow"], 8)  # other sees nobody yellow

    refused = client.post("/models/other/reindex", params={"min_map_ratio": 0.7})
    job = ended(client, refused, "failed")

    assert job["problem"]["code"] == "generation_worse"
    assert "1.000 as it is and 0.667 with other" in job["problem"]["detail"]
    assert states(client) == {"stub": "active", "other": "kept"}
    assert search(client, "red")["index"]["model"] == "stub"

    job = change(client, "other", params={"min_map_ratio": 0.6})

    measured = {"questions": 24, "map_before": 1.0, "map_after": pytest.approx(2 / 3)}
    assert job["result"]["evaluation"] == measured
    assert states(client) == {"stub": "kept", "other": "active"}
    back = change(client, "stub", params={"min_map_ratio": 1.5})
    assert back["result"]["evaluation"]["map_after"] == 1.0


def test_without_labels_enough_no_model_can_be_compared(client):
    label_by_colour(client, ["red"], 19)
    (lonely,) = add(client, "green")["detections"]
    client.put(f"/gallery/detections/{lonely['id']}/label", json={"label": "only once"})

    answer = client.post("/models/other/reindex", params={"min_map_ratio": 0.9})

    assert (answer.status_code, answer.json()["code"]) == (409, "too_few_labels")
    assert answer.json()["detail"].startswith("19 labelled people")
    assert client.get("/jobs").json()["items"] == []
    for wrong in ({"min_map_ratio": 0}, {"min_map_ratio": 0.9, "activate": "manual"}):
        answer = client.post("/models/other/reindex", params=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_labels_that_went_while_a_model_was_indexed_leave_the_one_before(client, other):
    label_by_colour(client, ["red"], 20)
    other.go.clear()
    job = client.post("/models/other/reindex", params={"min_map_ratio": 0.9})
    first = client.get("/gallery/images").json()["items"][0]
    assert client.delete(f"/gallery/images/{first['id']}").status_code == 204
    other.go.set()

    assert ended(client, job, "failed")["problem"]["code"] == "too_few_labels"
    assert states(client) == {"stub": "active", "other": "kept"}


def test_a_detection_that_only_the_model_before_sees_is_gone_and_its_image_is_named(client):
    yellow, red = add(client, "yellow", 1), add(client, "red", 2)
    change(client, "other")

    (lost,), (kept,) = (image["detections"] for image in (yellow, red))
    assert client.get(f"/gallery/detections/{kept['id']}").status_code == 200
    for path in ("", "/crop", "/embedding"):
        answer = client.get(f"/gallery/detections/{lost['id']}{path}")
        assert (answer.status_code, answer.json()["code"]) == (410, "detection_gone")
        assert yellow["id"] in answer.json()["detail"]
    asked = {"queries": [{"detection_id": lost["id"]}]}
    assert client.post("/search", json=asked).status_code == 410


def test_images_that_are_added_meanwhile_are_found_by_both_models(client, other):
    add(client, "red", 1)
    other.go.clear()
    job = client.post("/models/other/reindex")
    while states(client) == {"stub": "active"} and not other.asked:
        time.sleep(0.01)
    adding = threading.Thread(target=add, args=[client, "green", 2])
    adding.start()
    other.go.set()
    adding.join()
    ended(client, job)

    green = search(client, "green")
    assert green["index"]["model"] == "other"
    assert len(green["hits"]) == 2
    change(client, "stub")
    assert len(search(client, "green")["hits"]) == 2


def test_with_activate_manual_the_model_waits_until_it_is_asked_for(client):
    add(client, "red", 1)

    job = change(client, "other", params={"activate": "manual"})

    assert job["result"]["state"] == "kept"
    assert search(client, "red")["index"]["model"] == "stub"
    add(client, "green", 2)
    ended(client, client.post(f"/index/generations/{job['result']['generation']}/activate"))
    assert search(client, "red")["index"]["model"] == "other"
    assert len(search(client, "red")["hits"]) == 2


def test_what_cannot_be_changed_is_refused(client, other):
    add(client, "red", 1)
    active = client.get("/index").json()["generation"]

    for path, status, code in (
        ("/models/stub/reindex", 409, "generation_active"),
        ("/models/nobody/reindex", 404, "not_found"),
        (f"/index/generations/{active}/activate", 409, "generation_active"),
        ("/index/generations/gen_nobody/activate", 404, "not_found"),
    ):
        answer = client.post(path)
        assert (answer.status_code, answer.json()["code"]) == (status, code), path
    answer = client.delete(f"/index/generations/{active}")
    assert (answer.status_code, answer.json()["code"]) == (409, "generation_active")
    assert client.delete("/index/generations/gen_nobody").status_code == 404

    other.go.clear()
    job = client.post("/models/other/reindex")
    answer = client.post("/models/nae-lite/reindex")
    assert (answer.status_code, answer.json()["code"]) == (409, "generation_building")
    client.post(f"/jobs/{job.json()['job_id']}/cancel")
    other.go.set()
    ended(client, job, "cancelled")
    assert "building" not in states(client).values()
    assert search(client, "red")["index"]["model"] == "stub"


def test_a_generation_that_was_deleted_is_gone(client):
    add(client, "red", 1)
    before = client.get("/index").json()["generation"]
    change(client, "other")

    assert client.delete(f"/index/generations/{before}").status_code == 204

    assert states(client) == {"other": "active"}
    assert client.post(f"/index/generations/{before}/activate").status_code == 404
    assert search(client, "red")["hits"]


def test_a_deleted_person_is_not_found_by_another_model(client):
    image = add(client, "red", 1)
    client.delete(f"/gallery/detections/{image['detections'][0]['id']}")

    change(client, "other")

    assert client.get(f"/gallery/images/{image['id']}").json()["detections"] == []
    assert search(client, "red")["hits"] == []


def test_an_image_whose_file_is_damaged_is_named_and_the_model_stays(client, tmp_path):
    add(client, "red", 1)
    torn = add(client, "green", 2)
    (tmp_path / "data" / "originals" / torn["sha256"]).write_bytes(b"torn")

    job = ended(client, client.post("/models/other/reindex"), "failed")

    assert job["problem"]["code"] == "reindex_incomplete"
    assert [error["item"] for error in job["errors"]] == [torn["id"]]
    assert search(client, "red")["index"]["model"] == "stub"


def test_after_a_restart_the_gallery_answers_with_its_own_model(started, detector, other):
    with started() as client:
        add(client, "red", 1)
        change(client, "other")
        before = search(client, "red")

    with started() as client:
        after = search(client, "red")
        assert hits(after) == hits(before)
        assert after["index"]["model"] == "other"


def test_a_gallery_whose_model_is_nowhere_is_refused(started, other):
    with started() as client:
        add(client, "red", 1)

    with pytest.raises(Exception, match=r"stub .* is nowhere to be found"), started(other, ()):
        pass


def test_a_gallery_without_images_takes_the_model_of_the_settings(started, other):
    with started():
        pass

    with started(other, ()) as client:
        add(client, "red", 1)
        assert search(client, "red")["index"]["model"] == "other"
        assert states(client) == {"other": "active"}


def test_a_preview_of_an_erasure_by_likeness_ends_with_the_model_that_made_it(client):
    image = add(client, "red", 1)
    wanted = {"mode": "preview", "query": {"image_id": image["id"]}, "min_score": 0.5}
    shown = client.post("/erasures", json=wanted).json()
    change(client, "other")

    answer = client.post("/erasures", json={"mode": "execute", "token": shown["token"]})

    assert answer.json()["code"] == "erasure_changed"


def test_no_search_fails_or_comes_back_empty_while_models_are_changed(client):
    for seed in range(30):
        add(client, "red" if seed % 2 else "green", seed)
    stopping, failures, models, added = threading.Event(), [], set(), []

    def searching():
        while not stopping.is_set():
            try:
                answer = search(client, "red")
                models.add(answer["index"]["model"])
                assert answer["hits"]
                assert answer["hits"][0]["similarity"] > 0.99
            except BaseException as error:
                failures.append(error)

    def adding():
        while not stopping.is_set():
            try:
                added.append(add(client, "blue", 100 + len(added))["id"])
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=each) for each in (searching, searching, adding)]
    for thread in threads:
        thread.start()
    for name in ("other", "stub", "other"):
        change(client, name)
    stopping.set()
    for thread in threads:
        thread.join()

    assert failures == []
    assert models == {"stub", "other"}
    found = client.post("/search", files={"image": crop("blue")}, data={"request": '{"limit":500}'})
    ids = {hit["image"]["id"] for hit in found.json()["hits"]}
    assert set(added) <= ids
