"""The work of an evaluation, on a real service."""

import dataclasses
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from indexer.errors import (
    CrowdTooLargeError,
    DetectionNotFoundError,
    NothingToEvaluateError,
    SceneNotFoundError,
)
from models import evaluate as offline
from models.datasets.scene import Query, SceneDataset
from models.errors import BoxError
from models.tests import handmade
from service.app import create_app
from service.http.errors import RequestError
from service.labels import evaluations
from service.labels.evaluations import PROTOCOL, evaluate_gallery
from service.labels.schemas import EvaluationRequest, EvaluationResult
from service.settings import Settings
from service.tests.stub import COLOURS, StubDetector, picture

SIZE = (320, 240)
SCENES = 10


class Job:
    """What an evaluation sees of its job; it notes the progress."""

    def __init__(self, **arguments):
        request = EvaluationRequest.model_validate(arguments)
        self.folder = Path(tempfile.mkdtemp())
        if request.protocol is None:
            self.arguments = {"protocol": False, "request": request.model_dump(mode="json")}
        else:
            self.arguments = {"protocol": True}
            (self.folder / PROTOCOL).write_bytes(b"".join(request.protocol.text()))
        self.told = []

    def progress(self, done, total):
        self.told.append((done, total))

    def infer(self, work):
        return work()


def walk(number):
    """Who is in a picture: (colour, box). Colours are shared by two people each, 0 to 7."""
    random = np.random.default_rng(number)
    people = random.choice(8, 4, replace=False).tolist()
    shown = []
    for place, person in enumerate(people):
        x, y = 8 + 78 * place + int(random.integers(0, 12)), int(random.integers(5, 60))
        box = (x, y, x + 40 + person, y + 90 + 5 * person)
        shown.append((person, list(COLOURS)[person % 4], box))
    return shown


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A service with pictures, and the same pictures as an annotated dataset."""
    directory = tmp_path_factory.mktemp("town")
    app = create_app(Settings(data_dir=directory / "data"), StubDetector())
    with TestClient(app, base_url="http://localhost") as client:
        records, scenes = [], []
        for number in range(SCENES):
            shown = walk(number)
            content = picture(*((colour, box) for _, colour, box in shown), file_format="PNG")
            path = directory / f"{number}.png"
            path.write_bytes(content)
            records.append(
                client.post(
                    "/gallery/images",
                    files={"image": content},
                    data={"metadata": json.dumps({"camera_id": f"c{number % 2}"})},
                ).json()
            )
            scene = handmade.scene(
                f"{number}", [(box, person) for person, _, box in shown], size=SIZE
            )
            scenes.append(dataclasses.replace(scene, path=path))
        yield SimpleNamespace(
            client=client, parts=app.state.parts, records=records, scenes=tuple(scenes)
        )


def queries_of(scenes):
    """Each annotated person asks for themself in all other scenes."""
    for number, scene in enumerate(scenes):
        others = np.array([other for other in range(len(scenes)) if other != number])
        for box, person in zip(scene.boxes, scene.person_ids, strict=True):
            if any((scenes[other].person_ids == person).any() for other in others):
                yield Query(number, box, int(person), others)


def box_of(sides):
    return dict(zip(("x1", "y1", "x2", "y2"), map(float, sides), strict=True))


def protocol_of(town, *, with_boxes=True):
    queries = []
    for query in queries_of(town.scenes):
        holds = [
            {"image_id": town.records[other]["id"]} | ({"box": box_of(box)} if with_boxes else {})
            for other in query.gallery.tolist()
            for box in town.scenes[other].boxes[town.scenes[other].person_ids == query.person_id]
        ]
        queries.append(
            {
                "image_id": town.records[query.scene]["id"],
                "box": box_of(query.box),
                "person": f"person {query.person_id}",
                "holds": holds,
            }
        )
    return {"queries": queries}


def test_a_protocol_gives_the_figures_of_the_offline_evaluator_run_on_the_pictures(town):
    queries = tuple(queries_of(town.scenes))
    dataset = SceneDataset("town", town.scenes, queries, "", tuple(range(8)))
    expected = offline.evaluate(StubDetector(), dataset)
    job = Job(protocol=protocol_of(town))
    result = evaluate_gallery(town.parts, job)

    for name in ("map", "top_1", "top_5", "top_10"):
        told = result["search"][name]
        assert told["value"] == pytest.approx(expected["search"][name], abs=1e-9), name
        assert told["low"] <= told["value"] <= told["high"]
    assert 0.2 < result["search"]["map"]["value"] < 0.95
    recall = result["detector"]["recall"]["value"]
    assert recall == pytest.approx(expected["detection"]["recall"], abs=1e-9)
    assert EvaluationResult.model_validate(result).model_dump(mode="json") == result
    assert (result["level"], result["unlabelled"], result["labels_sha256"]) == (
        "detection", None, None,
    )  # fmt: skip
    assert result["model_sha256"] == town.parts.detector.card.fingerprint
    assert (result["images"], result["search"]["queries"]) == (SCENES, len(queries))
    assert [one["camera_id"] for one in result["cameras"]] == ["c0", "c1"]
    assert job.told[-1] == (2 * len(queries), 2 * len(queries))
    assert job.told == sorted(job.told)
    assert evaluate_gallery(town.parts, job) == result


def test_images_that_hold_the_person_suffice_but_tell_nothing_of_the_detector(town):
    protocol = protocol_of(town, with_boxes=False)
    result = evaluate_gallery(town.parts, Job(protocol=protocol))

    assert (result["level"], result["detector"]) == ("image", None)
    assert 0.2 < result["search"]["map"]["value"] <= 1
    assert result["protocol_sha256"]


def test_labels_name_themselves_and_wait_for_no_model(town):
    with pytest.raises(NothingToEvaluateError):
        evaluate_gallery(town.parts, Job())
    for number, record in enumerate(town.records):
        for detection in record["detections"]:
            x = detection["box"]["x1"]
            person = next(one for one, _, box in walk(number) if abs(box[0] - x) < 6)
            if person != 7:
                path = f"/gallery/detections/{detection['id']}/label"
                assert town.client.put(path, json={"label": f"p{person}"}).status_code == 200
    town.parts.detector.asked.clear()
    among_all = evaluate_gallery(town.parts, Job())
    among_labelled = evaluate_gallery(town.parts, Job(unlabelled="left_out"))

    assert town.parts.detector.asked == []
    assert among_all["labels_sha256"] == among_labelled["labels_sha256"]
    assert among_all["labels_sha256"] == town.parts.gallery.people.labelled().labels_sha256
    assert (among_all["unlabelled"], among_labelled["unlabelled"]) == ("wrong", "left_out")
    assert among_all["detections"] > among_labelled["detections"]
    assert among_all["search"]["queries"] == among_labelled["search"]["queries"]
    assert among_all["search"]["people"] == 7
    assert among_all["search"]["map"]["value"] < among_labelled["search"]["map"]["value"]
    assert among_all["detector"] is None


def one_query(town, **changes):
    query = {
        "detection_id": town.records[0]["detections"][0]["id"],
        "holds": [{"image_id": town.records[1]["id"]}],
    }
    return {"protocol": {"queries": [query | changes]}}


def test_a_single_stored_detection_may_be_asked_for_in_some_images(town):
    asked = one_query(town)
    asked["protocol"]["images"] = [town.records[number]["id"] for number in (1, 2)]
    result = evaluate_gallery(town.parts, Job(**asked))

    assert (result["images"], result["search"]["queries"]) == (2, 1)
    assert result["search"]["map"] in (
        {"value": 1.0, "low": None, "high": None},
        {"value": 0.5, "low": None, "high": None},
    )


def test_what_a_protocol_names_must_be_there_and_searched(town):
    def refused(error, match, **asked):
        with pytest.raises(error, match=match):
            evaluate_gallery(town.parts, Job(**asked))

    own = [{"image_id": town.records[0]["id"]}]
    other = one_query(town)
    other["protocol"]["images"] = [town.records[2]["id"]]
    flat = {"x1": 16777216, "y1": 0, "x2": 16777217, "y2": 5}
    gone = [{"image_id": "img_x"}]
    known = [{"image_id": town.records[1]["id"], "box": flat}]
    refused(SceneNotFoundError, "img_x", **one_query(town, holds=gone))
    refused(DetectionNotFoundError, "det_x", **one_query(town, detection_id="det_x"))
    refused(RequestError, r"queries/0/holds/0/image_id: .* own", **one_query(town, holds=own))
    refused(RequestError, "not listed in images", **other)
    refused(BoxError, "area", **one_query(town, holds=known))
    outside = {"x1": 0, "y1": 0, "x2": 999, "y2": 50}
    refused(
        BoxError,
        "999",
        **one_query(town, detection_id=None, image_id=own[0]["image_id"], box=outside),
    )


def test_a_gallery_too_large_for_memory_is_refused(town, monkeypatch):
    monkeypatch.setattr(evaluations, "MOST_PEOPLE", 10)
    with pytest.raises(CrowdTooLargeError):
        evaluate_gallery(town.parts, Job(**one_query(town)))


@pytest.mark.parametrize(
    "change",
    [
        {"detection_id": None},
        {"image_id": "img_x"},
        {"detection_id": None, "image_id": "img_x"},
        {"box": {"x1": 0, "y1": 0, "x2": 9, "y2": 9}},
        {"holds": []},
        {"holds": [{"image_id": "a"}, {"image_id": "b", "box": box_of((0, 0, 1, 1))}]},
    ],
    ids=str,
)
def test_a_protocol_that_cannot_be_meant_is_refused(change):
    query = {"detection_id": "det_x", "holds": [{"image_id": "img_y"}]} | change
    with pytest.raises(ValidationError):
        EvaluationRequest.model_validate({"protocol": {"queries": [query]}})


def test_unlabelled_goes_with_labels_only():
    protocol = {"queries": [{"detection_id": "det_x", "holds": [{"image_id": "img_y"}]}]}
    with pytest.raises(ValidationError):
        EvaluationRequest.model_validate({"protocol": protocol, "unlabelled": "wrong"})


@pytest.mark.parametrize("images", [None, ["img_a", 'b"\\ü']])
def test_a_protocol_s_text_in_pieces_is_its_json(images):
    box = {"x1": 0, "y1": 0.5, "x2": 9, "y2": 9}
    queries = [
        {"detection_id": "det_a", "holds": [{"image_id": "img_b"}]},
        {"image_id": "ü", "box": box, "person": "Ann", "holds": [{"image_id": "img_c"}] * 2},
    ]
    request = EvaluationRequest.model_validate({"protocol": {"queries": queries, "images": images}})

    assert b"".join(request.protocol.text()) == request.protocol.model_dump_json().encode()


def test_a_protocol_that_is_not_in_the_spool_any_more_is_said_so(town):
    job = Job(protocol={"queries": [{"detection_id": "x", "holds": [{"image_id": "y"}]}]})
    (job.folder / PROTOCOL).unlink()

    with pytest.raises(RequestError, match="not there any more"):
        evaluate_gallery(town.parts, job)
