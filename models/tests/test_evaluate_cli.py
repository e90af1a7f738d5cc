import json
from types import SimpleNamespace

import numpy as np
import pytest

from models import evaluate
from models.datasets.scenes_json import read_scenes_json
from models.datasets.synthetic import write_synthetic
from models.detections import Detections


class KnowingDetector:
    """Finds everybody, knows everybody, and recognises a scene by its pixels."""

    card = SimpleNamespace(name="knowing", fingerprint="0123456789abcdef")

    def __init__(self, dataset):
        self.scenes = {scene.read().tobytes(): scene for scene in dataset.scenes}
        self.dim = len(dataset.source_ids) + 1

    def detect(self, images):
        found = []
        for image in images:
            boxes = self.scenes[image.tobytes()].boxes
            scores = np.full(len(boxes), 0.9, np.float32)
            found.append(Detections(boxes, scores, self.embed(image, boxes)))
        return found

    def embed(self, image, boxes):
        scene = self.scenes[image.tobytes()]
        who = [scene.person_ids[(scene.boxes == box).all(axis=1)][0] for box in boxes]
        return np.eye(self.dim, dtype=np.float32)[who]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scenes")
    write_synthetic(directory, scenes=10, persons=4, cameras=2, size=(320, 240), seed=1)
    return directory


@pytest.fixture
def detector(directory, monkeypatch):
    detector = KnowingDetector(read_scenes_json(directory))
    monkeypatch.setattr(evaluate, "OnnxDetector", lambda model: detector)
    return detector


def test_a_detector_that_knows_everything_scores_full_marks(directory, detector):
    results = evaluate.evaluate(detector, read_scenes_json(directory))

    assert results["detection"] == {"recall": 1, "ap": 1}
    assert results["search"] == {"map": 1, "top_1": 1, "top_5": 1, "top_10": 1}
    assert results["data"]["scenes"] == 10


def test_the_command_prints_a_table_and_writes_json(directory, detector, tmp_path, capsys):
    report = tmp_path / "report.json"

    evaluate.main(["--data", str(directory), "--json", str(report)])

    results = json.loads(report.read_text())
    printed = capsys.readouterr().out
    assert results["model"] == {"name": "knowing", "fingerprint": "0123456789abcdef"}
    assert results["search"]["map"] == 1
    assert "knowing (0123456789ab)" in printed
    assert "map 100.0" in printed
    assert "ap 100.0" in printed


def test_with_the_annotated_boxes_nothing_is_detected(directory, detector, monkeypatch):
    monkeypatch.delattr(KnowingDetector, "detect")

    results = evaluate.evaluate(detector, read_scenes_json(directory), gt_boxes=True)

    assert results["detection"] is None
    assert results["search"]["map"] == 1


def test_ranking_without_scores_is_told_to_the_search(directory, detector, tmp_path):
    report = tmp_path / "report.json"

    evaluate.main(["--data", str(directory), "--no-cws", "--json", str(report)])

    assert json.loads(report.read_text())["data"]["class_weighted"] is False


def test_a_limit_uses_the_first_scenes(directory, detector, tmp_path):
    report = tmp_path / "report.json"

    evaluate.main(["--data", str(directory), "--limit", "1", "--json", str(report)])

    results = json.loads(report.read_text())
    assert (results["data"]["scenes"], results["search"]) == (1, None)


def test_progress_sees_every_scene(directory, detector):
    seen = []

    def watch(scenes):
        for scene in scenes:
            seen.append(scene.name)
            yield scene

    dataset = read_scenes_json(directory)
    evaluate.evaluate(detector, dataset, progress=watch)

    assert seen == [scene.name for scene in dataset.scenes]


def test_a_missing_dataset_ends_with_a_message(tmp_path):
    with pytest.raises(SystemExit, match=r"error: .*annotations\.json: no such file"):
        evaluate.main(["--data", str(tmp_path)])


def test_a_missing_model_ends_with_a_message(directory, tmp_path):
    with pytest.raises(SystemExit, match="error: "):
        evaluate.main(["--data", str(directory), "--model", str(tmp_path / "none")])


@pytest.mark.parametrize("limit", ["0", "-3"])
def test_a_limit_below_one_is_refused(directory, limit):
    with pytest.raises(SystemExit):
        evaluate.main(["--data", str(directory), "--limit", limit])
