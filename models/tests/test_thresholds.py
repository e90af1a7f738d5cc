import dataclasses
import json

import numpy as np
import pytest

from models import thresholds
from models.datasets.scene import UNLABELED, SceneDataset
from models.datasets.scenes_json import read_scenes_json
from models.datasets.synthetic import write_synthetic
from models.detections import Detections
from models.detector import DEFAULT_MODEL
from models.errors import DatasetError, ModelFileError
from models.evaluation import thresholds as measured
from models.evaluation.bootstrap import percentiles, resamples
from models.evaluation.detection import evaluate_detection
from models.evaluation.found import Found
from models.evaluation.protocols import PROTOCOLS
from models.evaluation.thresholds import (
    alike_rates,
    detection_threshold,
    match_rates,
    match_rule,
)
from models.model_card import (
    HEAD_GRAPH,
    SCENE_GRAPH,
    AlikeRates,
    MatchRule,
    load_card,
    save_card,
)
from models.tests.handmade import scene

BOX = (0, 0, 40, 100)


def dataset_of(scenes, *, people=1, protocol="scenes"):
    return SceneDataset("hand", tuple(scenes), (), "", tuple(range(people)), protocol)


def found_in(dataset, detections, *, gt_boxes=False):
    return Found(
        tuple(scene.name for scene in dataset.scenes),
        tuple(detections),
        np.zeros(0, np.int64),
        np.zeros((0, 4), np.float32),
        np.zeros((0, 1), np.float32),
        gt_boxes=gt_boxes,
    )


def described(rows, *, people):
    """Annotated scenes and their descriptions, of rows (scene, person id, vector, ignore?)."""
    rows = [(*row, False)[:4] for row in rows]
    scenes, detections = [], []
    for index in range(max(row[0] for row in rows) + 1):
        own = [row for row in rows if row[0] == index]
        scenes.append(scene(f"s{index}", [(BOX, row[1], row[3]) for row in own]))
        vectors = np.array([row[2] for row in own if not row[3]], np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        boxes = np.array([BOX] * len(vectors), np.float32)
        detections.append(Detections(boxes, np.ones(len(vectors), np.float32), vectors))
    dataset = dataset_of(scenes, people=people)
    return found_in(dataset, detections, gt_boxes=True), dataset


def alike(people, group, similarity):
    """Everybody in two scenes; of the first `group` people, each two are so similar, others not."""
    common, own = np.eye(people + 1)[people], np.eye(people + 1)
    vectors = [
        np.sqrt(similarity) * common + np.sqrt(1 - similarity) * own[person]
        if person < group
        else own[person]
        for person in range(people)
    ]
    return [(index, person, vectors[person]) for person in range(people) for index in range(2)]


def test_the_threshold_is_where_the_upper_end_of_the_interval_is_allowed():
    found, dataset = described(alike(40, 2, 0.6), people=40)

    rule = match_rule(found, dataset, rate=0.07)

    # Two of 1560 pairs are alike: far fewer than allowed, so that any similarity above 0 will do.
    assert rule.similarity == 0
    assert rule.measured_rate == 2 / 1560
    assert rule.interval[0] == 0
    assert 2 / 1560 < rule.interval[1] <= 0.07
    assert (rule.missed_match_rate, rule.people, rule.pairs) == (0, 40, 1560)
    assert (rule.false_match_rate, rule.measured_on) == (0.07, "hand")


def test_a_rate_that_is_kept_but_not_surely_kept_is_not_enough():
    found, dataset = described(alike(40, 10, 0.6), people=40)

    rule = match_rule(found, dataset, rate=0.07)

    # 90 of 1560 pairs, 5.8 %, are alike; with other people of the same kind it might be more.
    assert rule.similarity == pytest.approx(0.6, abs=1e-6)
    assert (rule.measured_rate, rule.interval) == (0, (0, 0))
    below = match_rates(found, dataset, 0.59)
    assert below.false.value == 90 / 1560 < 0.07 < below.false.high
    assert below.false.low < below.false.value


def test_the_threshold_is_the_smallest_of_an_obvious_search():
    random = np.random.default_rng(3)
    centres = random.normal(size=(22, 8))
    rows = [
        (int(random.integers(12)), person, centres[person] + random.normal(size=8))
        for person in range(22)
        for _ in range(5)
    ]
    found, dataset = described(rows, people=22)
    rule = match_rule(found, dataset, rate=0.05)

    sightings = [
        (index, person, vector.astype(np.float64))
        for index, (one, own) in enumerate(zip(dataset.scenes, found.detections, strict=True))
        for person, vector in zip(one.person_ids.tolist(), own.embeddings, strict=True)
    ]
    pairs = [
        (a, b, np.float32(va @ vb))
        for number, (sa, a, va) in enumerate(sightings)
        for sb, b, vb in sightings[:number]
        if sa != sb
    ]
    impostors = [pair for pair in pairs if pair[0] != pair[1]]
    genuine = [pair[2] for pair in pairs if pair[0] == pair[1]]
    first, second, similarity = (np.array(column) for column in zip(*impostors, strict=True))
    weights = np.concatenate([np.ones((1, 22), int), resamples(22)])
    weights = (weights[:, first] * weights[:, second]).astype(np.float64)

    def rates(threshold):
        every = weights[:, similarity > threshold].sum(axis=1) / weights.sum(axis=1)
        return every[0], percentiles(every[1:])[1]

    smallest = 1.0
    for candidate in np.unique(similarity)[::-1]:
        if max(rates(candidate)) > 0.05:
            break
        smallest = candidate
    assert rule.similarity == smallest
    assert (rule.measured_rate, rule.interval[1]) == pytest.approx(rates(smallest), abs=1e-12)
    assert rule.pairs == len(impostors)
    assert rule.missed_match_rate == np.mean(np.array(genuine) <= smallest)


def test_the_rates_at_the_threshold_are_those_that_the_rule_tells():
    found, dataset = described(alike(40, 12, 0.3), people=40)
    rule = match_rule(found, dataset, rate=0.2)

    rates = match_rates(found, dataset, rule.similarity)

    assert rates.false.value == rule.measured_rate
    assert (rates.false.low, rates.false.high) == rule.interval
    assert (rates.missed, rates.people, rates.pairs) == (0, 40, 1560)
    assert rates.genuine_pairs == 40


def test_people_without_a_name_and_ignored_ones_are_in_no_pair():
    rows = alike(40, 10, 0.6)
    everybody = np.ones(41)
    more = [(index, UNLABELED, everybody) for index in range(2)]
    more += [(index, 0, everybody, True) for index in range(2)]

    assert match_rule(*described(rows + more, people=40), rate=0.07) == match_rule(
        *described(rows, people=40), rate=0.07
    )


def test_people_of_one_scene_are_no_pair():
    rows = alike(40, 2, 0.6)
    beside = [(2, 0, np.eye(41)[0]), (2, 1, np.eye(41)[0]), (2, 1, np.eye(41)[5])]

    rates = match_rates(*described(rows + beside, people=40), similarity=0.9)

    # The box of person 1 that looks like 0 in scene 2 has 2 lookalikes elsewhere, that of 5 too;
    # those in its own scene do not count.
    assert rates.pairs == 1560 + 39 * 2 + 2 * 39 * 2
    assert rates.genuine_pairs == 40 + 2 + 2 * 2
    assert rates.false.value == 2 / rates.pairs


@pytest.mark.parametrize("block", [1, 100, 1000])
def test_the_size_of_a_block_changes_nothing(monkeypatch, block):
    random = np.random.default_rng(0)
    rows = [(index, person, random.normal(size=6)) for person in range(25) for index in range(3)]
    found, dataset = described(rows, people=25)
    whole = match_rule(found, dataset, rate=0.1)

    monkeypatch.setattr(measured, "BLOCK", block)

    assert match_rule(found, dataset, rate=0.1) == whole


@pytest.mark.parametrize(
    ("rows", "rate", "message"),
    [
        (alike(19, 2, 0.5), 0.5, "expected 20 or more labelled people to tell from, got 19 in 2"),
        (alike(30, 2, 0.5), 0.1, "takes 1,000 or more pairs of .*, got 870 of 30 people"),
        (alike(40, 2, 0.5)[::2], 0.1, "expected people who are in two scenes or more, got 40"),
    ],
)
def test_too_little_to_tell_from_is_refused_with_its_counts(rows, rate, message):
    found, dataset = described(rows, people=40)

    with pytest.raises(DatasetError, match=f"hand: .*{message}"):
        match_rule(found, dataset, rate=rate)
    with pytest.raises(DatasetError, match=message):
        measured.require_pairs(dataset, rate=rate)


def test_what_was_described_must_be_the_annotated_boxes_of_this_dataset():
    found, dataset = described(alike(40, 2, 0.6), people=40)
    other = described([*alike(40, 2, 0.6), (1, UNLABELED, np.ones(41))], people=40)[1]

    with pytest.raises(DatasetError, match=r"s1: expected 40 annotated boxes, .*got 41"):
        match_rule(found, other, rate=0.1)
    with pytest.raises(ValueError, match="got detected ones"):
        match_rule(dataclasses.replace(found, gt_boxes=False), dataset, rate=0.1)


# Detection thresholds.


def detected(*rows):
    """Rows are (box, score)."""
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.eye(1, dtype=np.float32).repeat(len(rows), axis=0),
    )


LEFT, MIDDLE, RIGHT = (0, 0, 40, 100), (100, 0, 140, 100), (200, 0, 240, 100)


def test_the_detection_threshold_has_the_largest_f2_of_a_hand_counted_case():
    dataset = dataset_of([scene("a", [(LEFT, 0), (MIDDLE, 0)]), scene("b", [(LEFT, 0)])])
    found = found_in(
        dataset,
        [detected((LEFT, 0.9), (RIGHT, 0.8), (MIDDLE, 0.7)), detected((RIGHT, 0.3))],
    )

    best = detection_threshold(found, dataset, lowest=0.05)

    # F2 from each score on: 5/13, 5/14, 10/15, 10/16.
    assert best.f2 == pytest.approx(10 / 15)
    assert (best.precision, best.recall, best.people) == pytest.approx((2 / 3, 2 / 3, 3))
    assert best.score == 0.5


def test_recall_counts_twice_as_much_as_precision():
    dataset = dataset_of([scene("a", [(LEFT, 0), (MIDDLE, 0)])])
    wrong = [(RIGHT, 0.8 - 0.01 * number) for number in range(4)]
    found = found_in(dataset, [detected((LEFT, 0.9), *wrong, (MIDDLE, 0.6))])

    best = detection_threshold(found, dataset, lowest=0.05)

    # Above 0.8, and of everything: F1 2/3 and 1/2, but F2 5/9 and 10/14.
    assert (best.recall, best.precision) == pytest.approx((1, 2 / 6))
    assert best.f2 == pytest.approx(10 / 14)


def test_where_everything_found_is_right_the_threshold_is_below_all_of_it():
    dataset = dataset_of([scene("a", [(LEFT, 0), (MIDDLE, 0)])])
    found = found_in(dataset, [detected((LEFT, 0.9), (MIDDLE, 0.051))])

    best = detection_threshold(found, dataset, lowest=0.05)

    assert 0.05 <= best.score < 0.051
    assert (best.f2, best.precision, best.recall) == (1, 1, 1)


def test_ignored_people_and_scenes_that_are_not_exhaustive_do_not_move_the_threshold():
    dataset = dataset_of(
        [
            scene("a", [(LEFT, 0), (RIGHT, 0, True)]),
            scene("b", [(LEFT, 0)], exhaustive=False),
        ]
    )
    found = found_in(
        dataset,
        [detected((LEFT, 0.4), (RIGHT, 0.9)), detected((RIGHT, 0.95), (MIDDLE, 0.9))],
    )

    best = detection_threshold(found, dataset, lowest=0.05)

    assert (best.precision, best.recall, best.people) == (1, 1, 1)
    assert best.score < 0.4


@pytest.mark.parametrize("protocol", ["scenes", "published"])
def test_precision_and_recall_are_those_of_the_detections_above_the_threshold(protocol):
    random = np.random.default_rng(5)
    scenes, detections = [], []
    for number in range(30):
        boxes = [(x, 0, x + 40, 100) for x in random.uniform(0, 250, 3)]
        scenes.append(scene(f"s{number}", [(box, 0) for box in boxes]))
        moved = [np.clip(np.add(box, random.normal(0, 6, 4)), 0, 300) for box in boxes]
        detections.append(detected(*((box, random.uniform(0.05, 1)) for box in moved)))
    dataset = dataset_of(scenes, protocol=protocol)

    best = detection_threshold(found_in(dataset, detections), dataset, lowest=0.05)

    above = [own.select(own.scores > best.score) for own in detections]
    result = evaluate_detection(dataset.scenes, above, protocol=PROTOCOLS[protocol])
    right = result.recall * result.people
    assert best.recall == pytest.approx(result.recall)
    assert best.precision == pytest.approx(right / (right + result.false_positives))
    assert best.f2 == pytest.approx(5 / (1 / best.precision + 4 / best.recall))


@pytest.mark.parametrize(("lower", "upper"), [(0.3, 0.7), (0.5, 0.5000001), (0.123, 0.1231)])
def test_a_threshold_keeps_what_it_should_in_float32(lower, upper):
    dataset = dataset_of([scene("a", [(LEFT, 0)])])
    found = found_in(dataset, [detected((LEFT, upper), (RIGHT, lower))])

    best = detection_threshold(found, dataset, lowest=0.05)

    scores = found.detections[0].scores
    assert (scores > best.score).tolist() == [True, False]
    assert best.f2 == 1


def test_without_people_or_detections_there_is_no_threshold():
    nobody = dataset_of([scene("a", []), scene("b", [(LEFT, 0)], exhaustive=False)])
    one = dataset_of([scene("a", [(LEFT, 0)])])

    with pytest.raises(DatasetError, match="got none in 1 such scenes of 2"):
        detection_threshold(found_in(nobody, [detected()] * 2), nobody, lowest=0.05)
    with pytest.raises(DatasetError, match="nobody was found of 1 people"):
        detection_threshold(found_in(one, [detected()]), one, lowest=0.05)


# The card.

RULE = MatchRule(0.7, 0.01, 0.006, (0.003, 0.0099), 0.2, 50, 20_000, "val")

NAE_LITE = {
    "format": 1,
    "name": "nae-lite",
    "head": "nae",
    "backbone": "efficientnet_lite0",
    "embedding_dim": 256,
    "roi_size": [12, 6],
    "input": {
        "min_size": 704,
        "max_size": 1252,
        "mean": [0.4980392156862745] * 3,
        "std": [0.5019607843137255] * 3,
        "size_divisor": 32,
        "person_height": 181,
    },
    "proposals": {
        "anchor_sizes": [32, 45, 64, 90, 128, 180, 256, 362],
        "anchor_ratios": [1.5, 2.8],
        "stride": 16,
        "before_nms": 1000,
        "after_nms": 100,
        "nms_iou": 0.7,
    },
    "detections": {"score_threshold": 0.3, "nms_iou": 0.4, "max_per_scene": 300},
    "score_meaning": "how surely",
    "sha256": {
        "scene.onnx": "859bcc1761a7706bd9f0792bb8fd0eb9f5b6a634606f985bd5e068853359730b",
        "head.onnx": "fee65b9dae473ff8760dae098d8210ac95d892e24cf274400811cc92654e9872",
    },
}
"""What decides the answers of the first model that shipped."""


@pytest.fixture
def model(tmp_path):
    """A model directory whose graphs are not graphs."""
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / SCENE_GRAPH).write_bytes(b"scene")
    (directory / HEAD_GRAPH).write_bytes(b"head")
    save_card(dataclasses.replace(load_card(DEFAULT_MODEL), matching=None), directory)
    return directory


def test_the_fingerprint_of_a_card_from_before_the_match_rule_stays(tmp_path):
    path = tmp_path / "card.json"
    path.write_text(json.dumps(NAE_LITE))

    card = load_card(path)

    assert card.matching is None
    fingerprint = "cae097888e5a933deb61ee340722ec5ed56d9061e2bc9751fd26c55473a08386"
    assert card.fingerprint == fingerprint
    assert dataclasses.replace(card, matching=RULE).fingerprint == fingerprint


def test_a_match_rule_reads_back_as_it_was_written(model):
    card = load_card(model)
    assert card.matching is None
    assert "matching" not in json.loads((model / "card.json").read_text())

    save_card(dataclasses.replace(card, matching=RULE), model)

    assert load_card(model) == dataclasses.replace(card, matching=RULE)


@pytest.mark.parametrize(
    "changes",
    [
        {"similarity": 1.5},
        {"similarity": "0.7"},
        {"similarity": float("nan")},
        {"false_match_rate": -0.1},
        {"measured_rate": 0.5},
        {"interval": [0.0, 0.001]},
        {"interval": [0.0]},
        {"interval": None},
        {"missed_match_rate": 2},
        {"people": 1.5},
        {"pairs": True},
        {"measured_on": None},
        {"colour": "red"},
        {"people": ...},
    ],
)
def test_a_malformed_match_rule_is_refused(model, changes):
    content = json.loads((model / "card.json").read_text())
    rule = {**dataclasses.asdict(RULE), **changes}
    content["matching"] = {name: value for name, value in rule.items() if value is not ...}
    (model / "card.json").write_text(json.dumps(content))

    with pytest.raises(ModelFileError, match=r"card\.json: not a complete model card: "):
        load_card(model)


@pytest.mark.parametrize("rule", [[], "0.7", 3])
def test_a_match_rule_of_another_kind_is_refused(model, rule):
    content = json.loads((model / "card.json").read_text()) | {"matching": rule}
    (model / "card.json").write_text(json.dumps(content))

    with pytest.raises(ModelFileError, match="not a complete model card"):
        load_card(model)


# The command.


class KnowingDetector:
    """Knows everybody, and finds everybody, surely, beside somebody whom it makes up, less so."""

    ran = 0

    def __init__(self, model, *, device, score_threshold=None):
        self.card = load_card(model)
        self.threshold = score_threshold

    def detect(self, images):
        type(self).ran += 1
        return [self._found(image) for image in images]

    def _found(self, image):
        own = self.scenes[image.tobytes()]
        boxes = np.concatenate([own.boxes[~own.ignore], [[0, 0, 9, 9]]]).astype(np.float32)
        scores = np.full(len(boxes), 0.8, np.float32)
        scores[-1] = 0.4
        people = Detections(boxes, scores, np.eye(1, dtype=np.float32).repeat(len(boxes), axis=0))
        return people.select(scores > self.threshold)

    def embed(self, image, boxes):
        own = self.scenes[image.tobytes()]
        type(self).ran += 1
        who = own.person_ids[~own.ignore]
        assert len(who) == len(boxes)
        return np.eye(self.dim, dtype=np.float32)[who]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scenes")
    write_synthetic(directory, scenes=16, persons=24, cameras=2, size=(320, 240), crowd=(4, 6))
    return directory


@pytest.fixture
def detector(directory, monkeypatch):
    dataset = read_scenes_json(directory)
    KnowingDetector.scenes = {scene.read().tobytes(): scene for scene in dataset.scenes}
    KnowingDetector.dim = len(dataset.source_ids) + 1
    KnowingDetector.ran = 0
    monkeypatch.setattr(thresholds, "OnnxDetector", KnowingDetector)
    return KnowingDetector


def test_the_command_tells_both_thresholds(directory, detector, model, capsys):
    thresholds.main(["--model", str(model), "--data", str(directory), "--rate", "0.5"])

    told = capsys.readouterr().out
    assert "cosine similarity above 0.0000: at most 50 % of the pairs of different" in told
    assert "measured 0.00 %" in told
    assert "missed   0.0 %" in told
    threshold = load_card(model).detections.score_threshold
    assert f"score above {threshold:g}, as the card says" in told
    assert "of 372 pairs of different people in different cameras, at most this share" in told
    assert "10       % above 0.0000" in told
    assert len(told.splitlines()) == 8
    assert load_card(model).matching is None


def test_what_was_measured_is_written_into_the_card(directory, detector, model, capsys):
    before = load_card(model)

    thresholds.main(["--model", str(model), "--data", str(directory), "--rate", "0.5", "--write"])

    after = load_card(model)
    assert after.matching.similarity == 0
    assert after.matching.people == len(read_scenes_json(directory).person_ids)
    assert after.alike.pairs == 372
    assert dataclasses.replace(after, matching=None, alike=None) == before
    assert f"written to {model / 'card.json'}" in capsys.readouterr().out


def test_a_detection_threshold_is_written_too_and_what_that_means_is_told(
    directory, detector, model, capsys
):
    before = load_card(model)
    command = ["--model", str(model / "card.json"), "--data", str(directory), "--rate", "0.5"]

    thresholds.main([*command, "--detection", "--write"])

    after = load_card(model)
    told = capsys.readouterr().out
    assert 0.4 <= after.detections.score_threshold < 0.8
    assert after.fingerprint != before.fingerprint
    assert "precision 100.0 %, recall 100.0 %" in told
    assert f"fingerprint is now {after.fingerprint[:12]}: galleries of" in told


def test_scenes_that_the_model_was_trained_on_are_told_to_be_such(
    directory, detector, model, capsys
):
    name = read_scenes_json(directory).name
    trained = {"scenes": [{"name": name}]}
    save_card(dataclasses.replace(load_card(model), training=trained), model)

    thresholds.main(["--model", str(model), "--data", str(directory), "--rate", "0.5"])

    assert f"the model was trained on {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--rate", "0.001"], "takes 100,000 or more pairs"),
        (["--rate", "0.5", "--limit", "2"], "expected 20 or more labelled people"),
    ],
)
def test_too_little_data_is_told_before_the_model_runs(
    directory, detector, model, more, message, refusal
):
    said = refusal(thresholds.main, "--model", model, "--data", directory, *more)

    assert message in said and "\n" not in said
    assert detector.ran == 0


def test_a_model_that_is_not_there_is_one_line(directory, detector, tmp_path, refusal):
    words = ["--model", tmp_path / "none", "--data", directory, "--rate", "0.5"]

    assert refusal(thresholds.main, *words).startswith("error: no model at")


@pytest.mark.parametrize("arguments", [["--rate", "0"], ["--rate", "0.6"], ["--limit", "0"]])
def test_arguments_out_of_range_are_refused(directory, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        thresholds.main(["--model", "m", "--data", str(directory), *arguments])

    assert ended.value.code == 2
    assert "expected" in capsys.readouterr().err


def seen_by_cameras(rows, *, people, cameras):
    """As `described`, each scene from a camera."""
    found, dataset = described(rows, people=people)
    scenes = [
        dataclasses.replace(scene, camera=camera)
        for scene, camera in zip(dataset.scenes, cameras, strict=True)
    ]
    return found, dataclasses.replace(dataset, scenes=tuple(scenes))


def test_how_many_of_different_people_are_as_alike_is_counted_over_pairs():
    found, dataset = described(alike(40, 5, 0.6), people=40)

    rates = alike_rates(found, dataset)

    # Of 1560 pairs the 20 of the first five people have 0.6, all others 0: more than 0.6 have none.
    assert (rates.pairs, rates.people, rates.across_cameras) == (1560, 40, False)
    assert rates.shares == (0.1, 0.05, 0.02, 0.01)  # 10 pairs or more are a share of 0.0064 …
    assert rates.similarities[:3] == (0, 0, 0)  # 31 pairs: not all of them are alike
    assert rates.similarities[3] == pytest.approx(0.6, abs=1e-6)  # 15 pairs: all of them are


def test_where_there_are_cameras_only_boxes_of_different_ones_are_compared():
    rows = alike(40, 5, 0.6)
    found, dataset = seen_by_cameras(rows, people=40, cameras=["east", "west"])
    same, _ = described(rows, people=40)

    across = alike_rates(found, dataset)
    alone = alike_rates(*seen_by_cameras(rows, people=40, cameras=["east", "east"]))

    assert across.across_cameras and not alone.across_cameras
    assert across.pairs == 40 * 39
    assert np.array_equal(found.detections[0].embeddings, same.detections[0].embeddings)


def test_too_few_pairs_tell_no_share():
    found, dataset = described(alike(20, 2, 0.6)[:40], people=20)

    assert alike_rates(found, dataset).shares == (0.1, 0.05)
    with pytest.raises(DatasetError, match="20 or more labelled people"):
        alike_rates(*described(alike(19, 2, 0.6), people=19))


def test_between_the_rows_the_share_falls_evenly_and_beyond_them_nothing_is_promised():
    rates = AlikeRates((0.1, 0.01, 0.001), (0.2, 0.4, 0.8), 40, 1000, True, "hand")

    assert [rates.share(similarity) for similarity in (0.1, 0.2, 0.4, 0.8, 0.95)] == pytest.approx(
        [1, 0.1, 0.01, 0.001, 0.001]
    )
    assert rates.share(0.3) == pytest.approx(0.1**1.5)


@pytest.mark.parametrize(
    ("shares", "similarities", "problem"),
    [
        ((0.1, 0.2), (0.1, 0.2), "falling shares"),
        ((0.2, 0.1), (0.3, 0.2), "rising similarities"),
        ((0.2, 0.1), (0.3,), "a similarity for each share"),
        ((1.2,), (0.3,), "falling shares"),
        ((), (), "a similarity for each share"),
    ],
)
def test_a_table_out_of_order_is_refused(shares, similarities, problem):
    with pytest.raises(ValueError, match=problem):
        AlikeRates(shares, similarities, 40, 1000, False, "hand")


def test_a_card_keeps_the_table_and_its_fingerprint(tmp_path):
    for name in (SCENE_GRAPH, HEAD_GRAPH):
        (tmp_path / name).write_bytes(b"")
    plain = dataclasses.replace(load_card(DEFAULT_MODEL), alike=None)
    rates = AlikeRates((0.1, 0.01), (0.2, 0.4), 40, 1000, True, "hand")

    save_card(plain, tmp_path)
    assert "alike" not in json.loads((tmp_path / "card.json").read_text())
    before = load_card(tmp_path).fingerprint
    save_card(dataclasses.replace(plain, alike=rates), tmp_path)

    card = load_card(tmp_path)
    assert card.alike == rates
    assert card.fingerprint == before
