"""Promises about searching."""

import base64
import dataclasses
import json

import pytest

from models.model_card import MatchRule
from service.tests.stub import crop, picture

RED = ("red", (40, 40, 80, 160))
BLUE = ("blue", (200, 60, 236, 180))
GREEN = ("green", (120, 50, 160, 170))


def search(client, *images, **request):
    files = [("image", image) for image in images]
    if request:
        files.append(("request", (None, json.dumps(request), "application/json")))
    return client.post("/search", files=files)


def image_ids(answer):
    assert answer.status_code == 200, answer.text
    return [hit["image"]["id"] for hit in answer.json()["hits"]]


def test_a_bare_crop_finds_the_person_first(client, add):
    blue, red = add(BLUE), add(RED, GREEN)
    answer = search(client, crop("red"))

    assert image_ids(answer)[0] == red["id"]
    content = answer.json()
    first = content["hits"][0]
    assert first["rank"] == 1
    assert first["detection"] == red["detections"][0]
    expected = first["similarity"] * first["detection"]["detection_score"]
    assert first["score"] == pytest.approx(expected, abs=2e-6)
    assert {blue["id"], red["id"]} == set(image_ids(answer))
    assert content["query"] == [{"box": None, "width": 48, "height": 96, "warnings": []}]
    assert content["index"]["exact"] is True
    assert "crop_url" not in first
    scores = [hit["score"] for hit in content["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_hits_say_whether_they_are_likely_by_the_model_s_own_threshold(client, add, detector):
    add(RED, GREEN)
    unmeasured = search(client, crop("red")).json()
    rule = MatchRule(
        similarity=0.7, false_match_rate=0.01, measured_rate=0.005, interval=(0.001, 0.01),
        missed_match_rate=0.1, people=40, pairs=20000, measured_on="others",
    )  # fmt: skip
    detector.card = dataclasses.replace(detector.card, matching=rule)
    measured = search(client, crop("red")).json()

    assert unmeasured["index"]["match_similarity"] is None
    assert [hit["likely_match"] for hit in unmeasured["hits"]] == [None, None]
    assert measured["index"]["match_similarity"] == 0.7
    similar = [hit["similarity"] for hit in measured["hits"]]
    assert similar[0] > 0.7 > similar[1]
    assert [hit["likely_match"] for hit in measured["hits"]] == [True, False]


def test_the_same_question_gets_the_same_answer(client, add):
    add(RED, GREEN, BLUE)
    answers = [search(client, crop("green")).json()["hits"] for _ in range(3)]

    assert answers[0] == answers[1] == answers[2]


def test_a_box_in_a_scene_asks_for_the_person_in_it(client, add):
    red, blue = add(RED), add(BLUE)
    scene = picture(GREEN, BLUE, size=(400, 300))
    box = dict(zip(("x1", "y1", "x2", "y2"), BLUE[1], strict=True))
    answer = search(client, scene, queries=[{"image": 0, "box": box}], include=["crop_url"])

    assert image_ids(answer) == [blue["id"], red["id"]]
    hit = answer.json()["hits"][0]
    assert hit["crop_url"] == f"/gallery/detections/{hit['detection']['id']}/crop"
    assert answer.json()["query"][0]["box"] == box


def test_a_scene_without_a_box_asks_for_the_surest_person(client, add):
    blue = add(BLUE)
    tall_blue = ("blue", (20, 20, 60, 200))
    answer = search(client, picture(GREEN, tall_blue), queries=[{"image": 0}])

    assert image_ids(answer) == [blue["id"]]
    assert answer.json()["query"][0]["box"]["x1"] == pytest.approx(20, abs=2)


def test_a_scene_without_people_says_that_a_box_helps(client):
    answer = search(client, picture(), queries=[{"image": 0}])

    assert (answer.status_code, answer.json()["code"]) == (422, "no_person_in_query")
    assert "box" in answer.json()["detail"]


def test_stored_people_are_asked_for_by_id_and_their_image_is_left_out(client, add):
    red, again, blue = add(RED), add(RED, size=(400, 300)), add(BLUE)
    by_detection = {"detection_id": red["detections"][0]["id"]}
    box = red["detections"][0]["box"]
    for query in (by_detection, {"image_id": red["id"], "box": box}, {"image_id": red["id"]}):
        answer = client.post("/search", json={"queries": [query]})
        assert image_ids(answer) == [again["id"], blue["id"]], query
    answer = client.post("/search", json={"queries": [by_detection], "exclude_query_image": False})

    assert set(image_ids(answer)) == {red["id"], again["id"], blue["id"]}


def test_an_uploaded_copy_of_a_stored_image_is_left_out_too(client, add):
    red, other = add(RED), add(RED, size=(400, 300))
    answer = search(client, picture(RED), queries=[{"image": 0}])

    assert image_ids(answer) == [other["id"]]
    assert red["id"] not in image_ids(answer)


def test_a_picture_may_come_in_base64(client, add):
    red = add(RED)
    content = base64.b64encode(crop("red")).decode()
    answer = client.post("/search", json={"queries": [{"image_base64": content, "crop": True}]})

    assert image_ids(answer) == [red["id"]]
    broken = client.post("/search", json={"queries": [{"image_base64": "%%%"}]})
    assert broken.status_code == 422
    assert broken.json()["errors"][0]["pointer"] == "/queries/0/image_base64"


def test_several_queries_rank_by_the_best_or_by_their_mean(client, add):
    add(RED, GREEN, BLUE)
    images = crop("red"), crop("blue")
    apart = [search(client, image).json()["hits"] for image in images]
    best = {}
    for hits in apart:
        for hit in hits:
            id = hit["detection"]["id"]
            best[id] = max(best.get(id, -1), hit["score"])

    for fusion in ("max", "mean"):
        hits = search(client, *images, fusion=fusion).json()["hits"]
        scores = {hit["detection"]["id"]: hit["score"] for hit in hits}
        assert len(hits) == 3
        assert (scores == best) == (fusion == "max")
        assert ("matched_query" in hits[0]) == (fusion == "max")


def test_filters_apply_before_the_limit(client, add):
    about = '{"camera_id": "a", "tags": ["x"], "captured_at": "2026-01-01T00:00:00Z"}'
    for number in range(5):
        add(RED, file_format="PNG", seed=number)
    marked = add(BLUE, metadata=about)
    for meant in (
        {"camera_id": {"in": ["a"]}},
        {"tags": {"all": ["x"]}},
        {"tags": {"any": ["x", "y"]}},
        {"captured_at": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}},
    ):
        assert image_ids(search(client, crop("red"), filter=meant, limit=1)) == [marked["id"]]
    for left_out in (
        {"camera_id": {"not_in": ["a"]}},
        {"tags": {"none": ["x"]}},
        {"image_id": {"not_in": [marked["id"]]}},
    ):
        found = image_ids(search(client, crop("blue"), filter=left_out))
        assert len(found) == 5
        assert marked["id"] not in found
    assert image_ids(search(client, crop("red"), filter={"camera_id": {"in": []}})) == []


def test_limits_scores_and_grouping_are_kept(client, add):
    image = add(RED, GREEN, BLUE)
    add(RED, size=(400, 300))

    assert len(image_ids(search(client, crop("red"), limit=2))) == 2
    grouped = image_ids(search(client, crop("red"), group_by="image"))
    assert len(grouped) == len(set(grouped)) == 2
    hits = search(client, crop("red"), min_score=0.5).json()["hits"]
    assert hits
    assert all(hit["score"] >= 0.5 for hit in hits)
    surest = max(found["detection_score"] for found in image["detections"])
    hits = search(client, crop("red"), min_detection_score=surest).json()["hits"]
    assert hits
    assert all(hit["detection"]["detection_score"] >= surest for hit in hits)


def test_a_small_query_gets_a_warning_not_an_error(client, add):
    add(RED)
    box = {"x1": 40, "y1": 40, "x2": 55, "y2": 100}
    answer = search(client, picture(RED), queries=[{"image": 0, "box": box}])

    assert answer.json()["query"][0]["warnings"] == ["small_query"]


def test_an_empty_gallery_answers_no_hits(client):
    assert image_ids(search(client, crop("red"))) == []


def test_what_was_deleted_is_not_found(client, add):
    red, blue = add(RED), add(BLUE)
    client.delete(f"/gallery/images/{red['id']}")

    assert image_ids(search(client, crop("red"))) == [blue["id"]]


@pytest.mark.parametrize(
    "request_part",
    [
        {"max_fmr": 0.001},
        {"rerank": {"method": "cbgm"}},
        {"include": ["explanation"]},
        {"filter": {"time_of_day": {"from": "20:00"}}},
        {"filter": {"camera_ids": {"in": ["a"]}}},
        {"limit": 0},
        {"limit": 1001},
        {"queries": [{"image": 1}]},
        {"queries": [{"image": 0, "image_id": "img_x"}]},
        {"queries": [{"image": 0}] * 17},
        {"queries": [{"detection_id": "det_x"}]},
        {"queries": [{"image": 0, "box": {"x1": 5, "y1": 0, "x2": 5, "y2": 9}}]},
        {"filter": {"camera_id": {"in": ["a"] * 257}}},
        {"filter": {"captured_at": {"from": "2026-01-01T00:00:00"}}},
        {"min_detection_score": 2},
        {"fusion": "median"},
    ],
    ids=str,
)
def test_what_is_not_understood_is_refused_and_never_ignored(client, request_part):
    answer = search(client, crop("red"), **request_part)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert answer.json()["detail"].startswith("/")


def test_a_search_needs_a_picture(client):
    assert client.post("/search", json={}).json()["code"] == "validation_failed"
    unknown = client.post("/search", json={"queries": [{"detection_id": "det_none"}]})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
