import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from models import evaluate
from models.datasets.scene import Query
from models.datasets.scenes_json import read_scenes_json
from models.datasets.synthetic import write_synthetic
from models.detections import Detections
from models.errors import DatasetError
from models.evaluation.found import Found


class KnowingDetector:
    """Finds everybody, knows everybody, and recognises a scene by its pixels."""

    card = SimpleNamespace(name="knowing", fingerprint="0123456789abcdef")

    def __init__(self, dataset):
        self.detected = 0
        self.scenes = {scene.read().tobytes(): scene for scene in dataset.scenes}
        self.dim = len(dataset.source_ids) + 1

    def detect(self, images):
        found = []
        self.detected += len(images)
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
    monkeypatch.setattr(evaluate, "OnnxDetector", lambda model, device: detector)
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


def test_a_missing_dataset_ends_with_a_message(tmp_path, refusal):
    assert "no annotations.json" in refusal(evaluate.main, "--data", tmp_path)


def test_a_missing_model_ends_with_a_message(directory, tmp_path, refusal):
    said = refusal(evaluate.main, "--data", directory, "--model", tmp_path / "none")

    assert said.startswith("error: no model at")


@pytest.mark.parametrize("limit", ["0", "-3"])
def test_a_limit_below_one_is_refused(directory, limit):
    with pytest.raises(SystemExit):
        evaluate.main(["--data", str(directory), "--limit", limit])


def test_the_datasets_protocol_and_iou_rule_give_way_to_those_of_the_command(
    directory, detector, tmp_path, capsys
):
    report = tmp_path / "report.json"
    command = ["--data", str(directory), "--json", str(report)]

    evaluate.main([*command, "--protocol", "seqnet", "--iou-rule", "half", "--cbgm", "5", "2"])

    data = json.loads(report.read_text())["data"]
    assert (data["protocol"], data["iou_rule"], data["cbgm"]) == ("seqnet", "half", [5, 2])
    assert "protocol seqnet, IoU rule half, class-weighted, CBGM 5 2" in capsys.readouterr().out


def test_context_matching_has_default_numbers(directory, detector, capsys):
    evaluate.main(["--data", str(directory), "--cbgm"])

    assert "CBGM 10 3" in capsys.readouterr().out


def test_what_was_found_is_kept_and_scored_again_without_a_model(
    directory, detector, tmp_path, monkeypatch
):
    kept, first, again = (tmp_path / name for name in ("found.npz", "first.json", "again.json"))
    data = ["--data", str(directory)]
    evaluate.main([*data, "--save-found", str(kept), "--json", str(first)])
    monkeypatch.delattr(evaluate, "OnnxDetector")

    evaluate.main([*data, "--found", str(kept), "--json", str(again)])

    assert json.loads(again.read_text()) == json.loads(first.read_text())


def test_kept_detections_of_other_scenes_are_refused(directory, detector, tmp_path, refusal):
    kept = tmp_path / "found.npz"
    evaluate.main(["--data", str(directory), "--limit", "9", "--save-found", str(kept)])

    said = refusal(evaluate.main, "--data", directory, "--found", kept)

    assert "expected the 9 scenes that were searched" in said


def test_a_query_that_was_not_described_is_refused(directory, detector):
    dataset = read_scenes_json(directory)
    found = evaluate.find(detector, dataset, queries=dataset.queries[1:])

    with pytest.raises(DatasetError, match="none of the 3 queries that were described"):
        evaluate.score(found, dataset)


def array_file():
    stream = io.BytesIO()
    np.save(stream, np.arange(3))
    return stream.getvalue()


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 not really", b"[1, 2]", array_file()])
def test_a_file_of_something_else_is_not_taken_for_kept_detections(
    directory, tmp_path, content, refusal
):
    file = tmp_path / "found.npz"
    if content is not None:
        file.write_bytes(content)

    said = refusal(evaluate.main, "--data", directory, "--found", file)

    assert "found.npz: not readable as saved" in said


def test_a_damaged_file_is_not_taken_for_kept_detections(directory, detector, tmp_path, refusal):
    kept = tmp_path / "found.npz"
    evaluate.main(["--data", str(directory), "--save-found", str(kept)])
    whole = kept.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255

    for content in (whole[: len(whole) // 2], bytes(damaged)):
        kept.write_bytes(content)
        said = refusal(evaluate.main, "--data", directory, "--found", kept)
        assert "found.npz: not readable as saved" in said


class Stranger(KnowingDetector):
    """Describes everybody alike."""

    card = SimpleNamespace(name="stranger", fingerprint="fedcba9876543210")

    def embed(self, image, boxes):
        return np.eye(1, 3, dtype=np.float32)[np.zeros(len(boxes), int)]


def test_a_second_model_describes_what_the_first_one_finds(
    directory, detector, tmp_path, monkeypatch, capsys
):
    report = tmp_path / "report.json"
    models = {"a": detector, "b": Stranger(read_scenes_json(directory))}
    monkeypatch.setattr(evaluate, "OnnxDetector", lambda model, device: models[model.name])
    command = ["--data", str(directory), "--detector", "a", "--reidentifier", "b"]

    evaluate.main([*command, "--json", str(report)])

    results = json.loads(report.read_text())
    assert (results["model"]["name"], results["reidentifier"]["name"]) == ("knowing", "stranger")
    assert results["detection"] == {"recall": 1, "ap": 1}
    assert results["search"]["map"] < 1
    assert (models["a"].detected, models["b"].detected) == (10, 0)
    assert "reidentifier  stranger (fedcba987654)" in capsys.readouterr().out


def test_the_company_of_a_query_starts_with_its_person_and_goes_on_with_the_surest():
    boxes = np.array([[0, 0, 10, 20], [1, 0, 10, 20], [50, 0, 60, 20], [80, 0, 90, 20]])
    people = Detections(
        boxes.astype(np.float32),
        np.array([0.9, 0.8, 0.6, 0.7], np.float32),
        np.eye(4, 5, dtype=np.float32),
    )
    query = Query(0, np.array([0, 0, 9, 20], np.float32), 0, np.array([0]))
    asked = np.eye(5, dtype=np.float32)[[4]]
    found = Found(("s",), (people,), np.array([0]), query.box[None], asked)

    company = found.company(query, min_score=0.65)

    assert company.argmax(axis=1).tolist() == [4, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cbgm", "5"], "expected nothing, or k1 and k2"),
        (["--cbgm", "5", "0"], "expected nothing, or k1 and k2"),
        (["--found", "f.npz", "--gt-boxes"], "no model runs"),
        (["--found", "f.npz", "--model", "m"], "no model runs"),
        (["--json", "nowhere/r.json"], "there is no directory nowhere"),
        (["--protocol", "mine"], "invalid choice"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(directory, capsys, arguments, message):
    with pytest.raises(SystemExit):
        evaluate.main(["--data", str(directory), *arguments])

    assert message in capsys.readouterr().err


def test_a_query_without_an_answer_is_told_before_the_model_runs(
    directory, detector, monkeypatch, refusal
):
    dataset = read_scenes_json(directory)
    alone = replace(dataset.queries[0], gallery=np.zeros(0, np.int64))
    unanswerable = replace(dataset, queries=(alone,))
    monkeypatch.setattr(evaluate, "read_dataset", lambda path, **options: unanswerable)

    said = refusal(evaluate.main, "--data", directory)

    assert "who is in no scene of its gallery" in said
    assert detector.detected == 0
