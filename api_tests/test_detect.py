"""Promises about POST /detect."""

import numpy as np

from service.tests.stub import picture


def test_people_are_found_surest_first_and_nothing_is_stored(client):
    people = ("red", (40, 40, 80, 160)), ("blue", (200, 60, 236, 200))
    answer = client.post("/detect", files={"image": picture(*people)})

    assert answer.status_code == 200
    content = answer.json()
    assert (content["width"], content["height"]) == (320, 240)
    boxes = [list(found["box"].values()) for found in content["detections"]]
    assert np.allclose(boxes, [people[1][1], people[0][1]], atol=2)
    scores = [found["detection_score"] for found in content["detections"]]
    assert scores == sorted(scores, reverse=True)
    assert set(content["timings_ms"]) == {"queue", "infer", "decode"}
    assert client.get("/gallery/images", params={"count": 1}).json()["total"] == 0


def test_an_empty_scene_has_no_people(client):
    answer = client.post("/detect", files={"image": picture()})

    assert (answer.status_code, answer.json()["detections"]) == (200, [])


def test_one_picture_at_a_time(client):
    answer = client.post("/detect", files=[("image", picture())] * 2)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_files")
