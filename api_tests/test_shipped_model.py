"""The model that ships, behind the whole service, on the scenes that ship."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from indexer.__main__ import main as indexer
from indexer.gallery.gallery import Gallery
from models.boxes import box_iou
from models.datasets.scenes_json import read_scenes_json
from models.detector import SHIPPED_MODELS, OnnxDetector
from models.evaluate import evaluate
from models.image import encode_jpeg
from models.model_card import load_card
from service.app import create_app
from service.demo.__main__ import DEMO_SCENES
from service.settings import Settings

MODEL_MAX_BYTES = 30 * 2**20


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A service on the shipped model; its gallery holds the shipped scenes."""
    data = tmp_path_factory.mktemp("served")
    app = create_app(Settings(data_dir=data))
    with TestClient(app, base_url="http://localhost") as client:
        for path in sorted((DEMO_SCENES / "images").iterdir()):
            answer = client.post("/gallery/images", files={"image": path.read_bytes()})
            assert answer.status_code == 201, answer.text
        yield client


@pytest.mark.parametrize("model", sorted(SHIPPED_MODELS.iterdir()), ids=lambda model: model.name)
def test_a_model_that_ships_is_small_and_says_what_it_is(model):
    card = load_card(model)

    assert sum(path.stat().st_size for path in model.iterdir()) <= MODEL_MAX_BYTES
    assert card.name == model.name
    assert card.embedding_dim == 256
    assert card.terms != "not stated"
    assert card.metrics
    assert card.matching is not None
    assert card.matching.interval[1] <= card.matching.false_match_rate == 0.01


def test_a_query_box_finds_its_own_detection_first(client):
    image = client.get("/gallery/images", params={"limit": 1}).json()["items"][0]
    record = client.get(f"/gallery/images/{image['id']}").json()
    detection = max(record["detections"], key=lambda found: found["detection_score"])

    request = {"queries": [{"detection_id": detection["id"]}], "exclude_query_image": False}
    answer = client.post("/search", json=request)

    assert answer.status_code == 200, answer.text
    best = answer.json()["hits"][0]
    assert best["detection"]["id"] == detection["id"]
    assert best["similarity"] == pytest.approx(1, abs=1e-4)


def test_a_bare_crop_finds_people_in_other_scenes(client):
    dataset = read_scenes_json(DEMO_SCENES)
    scene = dataset.scenes[dataset.queries[0].scene]
    x1, y1, x2, y2 = dataset.queries[0].box.astype(int)
    crop = encode_jpeg(scene.read()[max(y1, 0) : y2, max(x1, 0) : x2])

    answer = client.post("/search", files={"image": crop}, data={"request": '{"limit": 5}'})

    hits = answer.json()["hits"]
    assert len(hits) == 5
    assert all(0.3 < hit["detection"]["detection_score"] <= 1 for hit in hits)
    assert hits == sorted(hits, key=lambda hit: -hit["score"])


def test_people_are_found_in_the_shipped_scenes(client):
    dataset = read_scenes_json(DEMO_SCENES)
    found = missed = 0
    for scene in dataset.scenes:
        answer = client.post("/detect", files={"image": scene.path.read_bytes()}).json()
        boxes = np.array([list(person["box"].values()) for person in answer["detections"]])
        iou = box_iou(scene.boxes[~scene.ignore], boxes.reshape(-1, 4))
        hit = iou.max(axis=1, initial=0) >= 0.5
        found, missed = found + int(hit.sum()), missed + int((~hit).sum())

    assert found / (found + missed) > 0.6


def test_a_scene_with_nobody_has_no_detections(client):
    meadow = np.zeros((300, 400, 3), np.uint8) + np.array([90, 140, 60], np.uint8)

    answer = client.post("/detect", files={"image": encode_jpeg(meadow)})

    assert answer.json()["detections"] == []


def test_http_and_the_command_line_fill_the_same_gallery(client, tmp_path):
    assert indexer(["add", str(DEMO_SCENES / "images"), "--gallery", str(tmp_path)]) == 0

    with Gallery.reopen(tmp_path) as gallery:
        by_hand = people_of(gallery)
    over_http = people_of(client.app.state.parts.gallery)

    assert by_hand.keys() == over_http.keys()
    assert len(by_hand) == 22
    for sha256, people in by_hand.items():
        for (box, score, embedding), (other_box, other_score, other_embedding) in zip(
            people, over_http[sha256], strict=True
        ):
            assert box == other_box
            assert score == other_score
            assert embedding == other_embedding


def people_of(gallery):
    """Boxes, scores and the bytes of embeddings, by the scene's sha256."""
    return {
        scene.sha256: [
            (found.box, found.score, gallery.people.embedding(found.id).tobytes())
            for found in gallery.get(scene.id).detections
        ]
        for scene in gallery.scenes.page(limit=500).scenes
    }


def test_people_are_found_in_real_photographs():
    real = Path(os.environ.get("PERSON_SEARCH_REAL", "../shared/real")) / "public"
    if not real.is_dir():
        pytest.skip(f"no real scenes at {real}: set PERSON_SEARCH_REAL")
    results = evaluate(OnnxDetector(), read_scenes_json(real).first(30))

    assert results["detection"]["ap"] >= 0.85


def test_a_turned_photograph_gives_the_same_people(client):
    path = sorted((DEMO_SCENES / "images").iterdir())[3]
    with Image.open(path) as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x0112] = 6  # "turn by 90° clockwise to see it upright"
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", quality=100, subsampling=0, exif=exif)

    upright = client.post("/detect", files={"image": path.read_bytes()}).json()
    answer = client.post("/detect", files={"image": buffer.getvalue()}).json()

    assert (answer["width"], answer["height"]) == (upright["width"], upright["height"])
    boxes = [
        np.array([list(p["box"].values()) for p in a["detections"]]) for a in (upright, answer)
    ]
    sure = [p["detection_score"] > 0.95 for p in upright["detections"]]
    assert sum(sure) >= 3
    assert (box_iou(boxes[0][sure], boxes[1]).max(axis=1) > 0.8).all()
