"""Scores under the published protocols are those that the published code gave.

`conformance/eval` holds made-up detections of a made-up CUHK-SYSU and PRW, and what the code of NAE
and of SeqNet scored for them. Its features are detection score × embedding, in multiples of 1/1024,
so that every similarity is exact.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from models import evaluate
from models.datasets.cuhk_sysu import GALLERY_SIZES, WHOLE_POOL, cuhk_sysu_queries, read_cuhk_sysu
from models.datasets.prw import read_prw
from models.detections import Detections
from models.evaluation.detection import evaluate_detection
from models.evaluation.protocols import PROTOCOLS
from models.evaluation.search import TOP_K, evaluate_search
from models.reranking.cbgm import Context

EVAL = Path(__file__).parent / "conformance" / "eval"
EXPECTED = json.loads((EVAL / "expected.json").read_text())
PROTOCOL_OF = {"nae4ps": "published", "seqnet": "seqnet"}
CBGM = {"cuhk": (10, 3), "prw": (30, 4)}
SCENARIOS = ("main", "ties", "perfect")
TIE_ORDERS = ("search", "search_if_ties_keep_input_order", "search_with_stable_sort")


@dataclass(frozen=True)
class Weighted:
    """Detections as the published code keeps them: embeddings are weighted by the scores."""

    boxes: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray


@pytest.fixture(scope="module")
def datasets(originals):
    cuhk = read_cuhk_sysu(originals / "cuhk")
    return {
        "cuhk": {
            f"{size}": replace(
                cuhk, queries=cuhk_sysu_queries(originals / "cuhk", cuhk.scenes, size)
            )
            for size in (*GALLERY_SIZES, WHOLE_POOL)
        },
        "prw": {
            "ignore_cam_True": read_prw(originals / "prw"),
            "ignore_cam_False": read_prw(originals / "prw", cross_camera=True),
        },
    }


def results(dataset, name, scenario):
    """Detections in the order of the dataset's scenes, queries, and who stands with them."""
    with np.load(EVAL / f"{name}_{scenario}.npz") as file:
        file = dict(file)
    place = {str(scene): index for index, scene in enumerate(file["names"])}
    assert sorted(place) == sorted(scene.name for scene in dataset.scenes)
    detections = []
    for scene in dataset.scenes:
        own = slice(*file["offsets"][place[scene.name] : place[scene.name] + 2])
        boxes = file["dets"][own]
        detections.append(Weighted(boxes[:, :4], boxes[:, 4], file["feats"][own]))
    company = np.split(file["query_feats"], file["query_offsets"][1:-1])
    return detections, file["query_box_feats"], company


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", ["cuhk", "prw"])
@pytest.mark.parametrize("family", PROTOCOL_OF)
def test_detection_scores_what_the_published_code_scores(datasets, family, name, scenario):
    dataset = next(iter(datasets[name].values()))
    detections, _, _ = results(dataset, name, scenario)
    expected = EXPECTED[family][name][scenario]["detection"]
    assert len(expected) == 4
    for case, figures in expected.items():
        threshold, labeled = case.removeprefix("thr").split("_labeled")
        rules = replace(PROTOCOLS[PROTOCOL_OF[family]], detection_min_score=float(threshold))

        result = evaluate_detection(
            dataset.scenes,
            detections,
            protocol=rules,
            only=rules.labeled(dataset.source_ids) if labeled == "1" else None,
        )

        found = round(result.recall * result.people)
        assert (result.people, found, found + result.false_positives) == (
            figures["n_gt"],
            figures["n_tp"],
            figures["n_det"],
        )
        assert result.recall == pytest.approx(figures["recall"], abs=1e-6)
        assert result.ap == pytest.approx(figures["ap"], abs=1e-6)


SEARCHES = [
    (family, name, scenario, case)
    for family in PROTOCOL_OF
    for name in ("cuhk", "prw")
    for scenario in SCENARIOS
    for case in EXPECTED[family][name][scenario]["search"]
]


@pytest.mark.parametrize(("family", "name", "scenario", "case"), SEARCHES)
def test_search_scores_what_the_published_code_scores(datasets, family, name, scenario, case):
    which, _, cbgm = case.partition("_cbgm")
    dataset = datasets[name][which]
    detections, embeddings, company = results(dataset, name, scenario)

    result = evaluate_search(
        dataset,
        detections,
        embeddings,
        class_weighted=False,  # they are, in the file
        protocol=PROTOCOLS[PROTOCOL_OF[family]],
        context=Context(company, *CBGM[name]) if cbgm == "1" else None,
    )

    allowed = [
        EXPECTED[family][name][scenario][order][case]
        for order in TIE_ORDERS
        if case in EXPECTED[family][name][scenario].get(order, {})
    ]
    hits = [[int(first < k) for k in TOP_K] for first in result.first_right]
    figures = next((one for one in allowed if one["hit"] == hits), allowed[0])
    assert hits == figures["hit"]
    assert [result.top_1, result.top_5, result.top_10] == pytest.approx(figures["top"], abs=1e-6)
    assert result.average_precisions == pytest.approx(figures["ap"], abs=1e-6)
    assert result.map == pytest.approx(figures["mAP"], abs=1e-6)


class Replaying:
    """Finds in a scene what the file says, and recognises a scene by its pixels."""

    card = SimpleNamespace(name="replaying", fingerprint="0123456789abcdef")

    def __init__(self, dataset, name, scenario):
        weighted, asked, _ = results(dataset, name, scenario)
        pixels = [scene.read().tobytes() for scene in dataset.scenes]
        self.detected = 0
        self.people = {
            key: Detections(found.boxes, found.scores, unit(found.embeddings))
            for key, found in zip(pixels, weighted, strict=True)
        }
        self.asked = {
            (pixels[query.scene], *query.box): embedding
            for query, embedding in zip(dataset.queries, unit(asked), strict=True)
        }

    def detect(self, images):
        self.detected += len(images)
        return [self.people[image.tobytes()] for image in images]

    def embed(self, image, boxes):
        return np.stack([self.asked[image.tobytes(), *box] for box in boxes])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_one_run_of_the_command_scores_every_gallery_size(
    originals, datasets, monkeypatch, tmp_path, capsys
):
    report, sizes = tmp_path / "report.json", [*map(str, GALLERY_SIZES), str(WHOLE_POOL)]
    detector = Replaying(datasets["cuhk"]["100"], "cuhk", "main")
    monkeypatch.setattr(evaluate, "OnnxDetector", lambda model, device: detector)
    command = ["--data", str(originals / "cuhk"), "--json", str(report), "--labeled-only"]

    evaluate.main([*command, "--gallery-size", *sizes])

    measured = json.loads(report.read_text())
    expected = EXPECTED["nae4ps"]["cuhk"]["main"]
    figures = expected["detection"]["thr0.01_labeled1"]
    assert measured["data"]["protocol"] == "published"
    assert measured["detection"] == pytest.approx(
        {"recall": figures["recall"], "ap": figures["ap"]}, abs=1e-6
    )
    assert list(measured["searches"]) == sizes
    assert measured["search"] == measured["searches"]["50"]
    for size, search in measured["searches"].items():
        figures = expected["search"][size]
        assert search["ap"] == pytest.approx(figures["ap"], abs=1e-6)
        tops = [search[f"top_{k}"] for k in TOP_K]
        assert [search["map"], *tops] == pytest.approx([figures["mAP"], *figures["top"]], abs=1e-6)
    assert detector.detected == 30
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("search ")]
    assert [row.split()[1] for row in rows] == [*sizes[:-1], "all"]
    assert len({row.index("top_1") for row in rows}) == 1


@pytest.mark.parametrize("cross_camera", [False, True])
def test_the_command_searches_prw_in_all_or_in_other_cameras(
    originals, datasets, monkeypatch, tmp_path, cross_camera
):
    report = tmp_path / "report.json"
    detector = Replaying(datasets["prw"]["ignore_cam_True"], "prw", "main")
    monkeypatch.setattr(evaluate, "OnnxDetector", lambda model, device: detector)
    command = ["--data", str(originals / "prw"), "--json", str(report)]

    evaluate.main([*command, *["--cross-camera"] * cross_camera])

    measured = json.loads(report.read_text())
    expected = EXPECTED["nae4ps"]["prw"]["main"]["search"][f"ignore_cam_{not cross_camera}"]
    assert measured["data"]["cross_camera"] is cross_camera
    assert measured["search"]["ap"] == pytest.approx(expected["ap"], abs=1e-6)
