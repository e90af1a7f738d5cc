import json
import shlex
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from models import evaluate, quality
from models.boxes import box_iou
from models.datasets.read import read_dataset
from models.datasets.scene import UNLABELED, Query, Scene, SceneDataset
from models.datasets.synthetic import write_synthetic
from models.detections import Detections
from models.detector import DEFAULT_MODEL
from models.errors import DatasetError
from models.evaluation.bootstrap import Estimate, estimate, resamples
from models.evaluation.breakdown import (
    ANNOTATED,
    FOUND_COSINE,
    FOUND_WEIGHTED,
    Light,
    average_precision,
    break_down,
    mean_luma,
)
from models.evaluation.detection import evaluate_detection, judge
from models.evaluation.found import Found
from models.evaluation.protocols import PROTOCOLS
from models.evaluation.search import answers, evaluate_search, rankings, stepwise_ap
from models.model_card import MatchRule, load_card
from models.reporting import quality_pictures
from models.reporting.quality_pictures import draw_all, evenly
from models.reporting.quality_sheet import GREEN, GREY, RED, Tile, draw_sheet, in_context
from models.reporting.words import command_line
from models.tests import handmade

# Hand-made scenes: people stand 100 px apart, each as tall as they are told to be.


def box(place, height=100):
    return (100 * place, 0, 100 * place + 40, height)


scene = partial(handmade.scene, size=(1000, 300))


def detected(*rows):
    """Rows are (box, score) or (box, score, vector)."""
    rows = [(*row, (1, 0))[:3] for row in rows]
    vectors = np.array([row[2] for row in rows], np.float32).reshape(-1, 2)
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def found_in(dataset, detections, *, gt_boxes=False):
    """What was found; every query is described as (1, 0)."""
    return Found(
        tuple(scene.name for scene in dataset.scenes),
        tuple(detections),
        np.array([query.scene for query in dataset.queries], np.int64),
        np.array([query.box for query in dataset.queries], np.float32).reshape(-1, 4),
        np.array([[1, 0]] * len(dataset.queries), np.float32),
        gt_boxes=gt_boxes,
    )


def even_light(dataset, value=100.0):
    return Light(
        tuple(np.full(len(scene.boxes), value) for scene in dataset.scenes),
        np.full(len(dataset.queries), value),
    )


def scattered(seed, *, scenes=25, protocol="scenes"):
    """Scenes with people who are found more or less well, and asked for."""
    random = np.random.default_rng(seed)
    made, detections = [], []
    for number in range(scenes):
        ids = random.permutation(8)[:4].tolist()
        boxes = [box(place, random.uniform(50, 200)) for place in range(4)]
        people = [(one, who, random.random() < 0.1) for one, who in zip(boxes, ids, strict=True)]
        made.append(scene(f"s{number}", people, exhaustive=random.random() < 0.9))
        moved = [np.clip(np.add(one, random.normal(0, 8, 4)), 0, 1000) for one in boxes]
        moved += [box(6), box(7)][: random.integers(3)]
        scores = random.choice([0.3, 0.5, 0.7, 0.9], len(moved))
        vectors = random.normal(size=(len(moved), 2))
        detections.append(detected(*zip(moved, scores, vectors, strict=True)))
    queries = [
        Query(number, one.boxes[0], int(one.person_ids[0]), np.delete(np.arange(scenes), number))
        for number, one in enumerate(made)
        if not one.ignore[0]
    ]
    dataset = SceneDataset("hand", tuple(made), tuple(queries), "", tuple(range(8)), protocol)
    answers(dataset)
    return dataset, detections


def part_of(parts, kind, name=""):
    return next(own for own in parts if (own.kind, own.name) == (kind, name))


# Intervals.


def test_each_round_draws_as_many_as_there_are():
    drawn = resamples(30, rounds=50)

    assert drawn.shape == (50, 30)
    assert (drawn.sum(axis=1) == 30).all()
    assert len(np.unique(drawn, axis=0)) == 50
    assert (drawn == resamples(30, rounds=50)).all()


def test_an_interval_is_the_middle_95_percent_and_holds_the_estimate():
    rounds = np.arange(1000.0)

    middle = estimate(500, rounds)
    assert (middle.low, middle.high) == pytest.approx((25, 975), abs=1)
    assert middle.value == 500
    assert estimate(2000, rounds).high == 2000
    assert estimate(-5, rounds).low == -5
    assert estimate(1, np.array([np.nan, 1, 2])) == Estimate(1, 1, 2)
    assert estimate(1, np.array([np.nan])) == Estimate(1, None, None)


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says():
    dataset, detections = scattered(0, scenes=120)
    result = break_down(found_in(dataset, detections), dataset, even_light(dataset))
    average = part_of(result.search, "all").map
    scored = evaluate_search(
        dataset, detections, np.array([[1, 0]] * len(dataset.queries), np.float32)
    )

    error = scored.average_precisions.std() / np.sqrt(len(dataset.queries))
    assert average.high - average.low == pytest.approx(2 * 1.96 * error, rel=0.15)


# What detection and search tell about single people and hits.


def test_a_judged_scene_says_who_is_found_and_which_detections_are_wrong():
    one = scene("a", [(box(0), 0), (box(1), 1), (box(2), 2, True), (box(3, 30), 3)])
    found = detected((box(1), 0.5), (box(5), 0.9), (box(2), 0.8), (box(3, 30), 0.7), (box(1), 0.4))

    verdict = judge(one, found)

    assert verdict.people.tolist() == [0, 1]
    assert verdict.found.tolist() == [False, True]
    assert verdict.detections.tolist() == [0, 1, 4]
    assert verdict.right.tolist() == [True, False, False]
    assert judge(replace(one, exhaustive=False), found) is None


@pytest.mark.parametrize("protocol", ["scenes", "published", "seqnet"])
def test_rankings_say_of_single_hits_what_the_search_figures_are_made_of(protocol):
    dataset, detections = scattered(1)
    asked = np.array([[1, 0]] * len(dataset.queries), np.float32)
    rules = PROTOCOLS[protocol]

    ranked = list(rankings(dataset, detections, asked, protocol=rules))

    result = evaluate_search(dataset, detections, asked, protocol=rules)
    truths = answers(dataset)
    assert len(ranked) == len(dataset.queries)
    for number, own in enumerate(ranked):
        assert (np.diff(own.similarity) <= 0).all()
        average = stepwise_ap(own.similarity, own.right, len(truths[number]))
        assert average == pytest.approx(result.average_precisions[number])
        first = np.flatnonzero(own.right)[0] if own.right.any() else np.inf
        assert first == result.first_right[number]
        for place in range(len(own.right)):
            hit = detections[own.scenes[place]]
            score = hit.scores[own.detections[place]]
            cosine = hit.embeddings[own.detections[place]][0]
            assert own.similarity[place] == pytest.approx(score * cosine, abs=1e-6)
            if own.right[place]:
                there = dataset.scenes[own.scenes[place]]
                theirs = there.boxes[there.person_ids == dataset.queries[number].person_id]
                assert box_iou(hit.boxes[[own.detections[place]]], theirs).max() > 0.2


# The breakdown.


@pytest.mark.parametrize("protocol", ["scenes", "published"])
def test_the_first_rows_are_the_figures_of_models_evaluate(protocol):
    dataset, detections = scattered(2, protocol=protocol)
    found = found_in(dataset, detections)

    result = break_down(found, dataset, even_light(dataset))

    scored = evaluate.score(found, dataset)
    everybody, searched = part_of(result.detection, "all"), part_of(result.search, "all")
    assert everybody.recall.value == pytest.approx(scored["detection"]["recall"])
    assert everybody.ap.value == pytest.approx(scored["detection"]["ap"])
    assert searched.map.value == pytest.approx(scored["search"]["map"])
    assert searched.top_1.value == pytest.approx(scored["search"]["top_1"])
    unweighted = evaluate.score(found, dataset, class_weighted=False)["search"]
    assert part_of(result.ways, "way", FOUND_COSINE).map.value == pytest.approx(unweighted["map"])
    gain = scored["search"]["map"] - unweighted["map"]
    assert result.differences[0].map.value == pytest.approx(gain)
    assert (result.differences[0].better, result.differences[0].than) == (
        FOUND_WEIGHTED,
        FOUND_COSINE,
    )


@pytest.mark.parametrize("protocol", ["scenes", "published"])
def test_scenes_drawn_anew_give_the_ap_of_scenes_that_are_there_so_often(protocol):
    dataset, detections = scattered(3)
    rules = PROTOCOLS[protocol]
    both = zip(dataset.scenes, detections, strict=True)
    pairs = [(one, own) for one, own in both if one.exhaustive]
    judged = [judge(*pair, protocol=rules) for pair in pairs]
    people = np.array([len(own.people) for own in judged])
    figure = average_precision(judged, people, interpolated=rules.interpolated)

    for weights in resamples(len(judged), rounds=20):
        drawn = [pair for pair, times in zip(pairs, weights, strict=True) for _ in range(times)]
        expected = evaluate_detection(*zip(*drawn, strict=True), protocol=rules).ap
        assert figure(weights) == pytest.approx(expected)


def test_every_interval_holds_its_estimate():
    dataset, detections = scattered(4)
    annotated = [detected(*((b, 1, (1, 0)) for b in s.boxes[~s.ignore])) for s in dataset.scenes]
    result = break_down(
        found_in(dataset, detections),
        dataset,
        even_light(dataset),
        annotated=found_in(dataset, annotated, gt_boxes=True),
    )

    rows = (*result.detection, *result.search, *result.ways, *result.differences)
    names = ("recall", "precision", "ap", "map", "top_1")
    told = [own for row in rows for name in names if (own := getattr(row, name, None)) is not None]
    assert len(told) > 15
    for own in told:
        assert own.low <= own.value <= own.high
    assert any(own.low < own.value < own.high for own in told)


def people_of_heights(heights, *, found):
    """A scene for each five of them; of each person whether they are found."""
    scenes, detections = [], []
    for start in range(0, len(heights), 5):
        boxes = [box(place, height) for place, height in enumerate(heights[start : start + 5])]
        scenes.append(scene(f"s{start}", [(one, UNLABELED) for one in boxes]))
        seen = found[start : start + 5]
        detections.append(
            detected(*((one, 0.9) for one, its in zip(boxes, seen, strict=True) if its))
        )
    return SceneDataset("hand", tuple(scenes), (), "", ()), detections


def test_people_are_grouped_by_the_height_of_their_own_box():
    heights = [60, 79, 80, 119, 120] * 20
    dataset, detections = people_of_heights(heights, found=[True, False, True, True, False] * 20)

    result = break_down(found_in(dataset, detections), dataset, even_light(dataset))

    names = ("under 80 px", "80 to 120 px", "120 to 180 px", "180 px and more")
    rows = [part_of(result.detection, "height", name) for name in names]
    assert [row.people for row in rows] == [40, 40, 20, 0]
    assert [row.recall and row.recall.value for row in rows] == [0.5, 1, 0, None]
    assert [row.scenes for row in rows] == [20, 20, 20, 0]
    assert all(row.precision is row.ap is None for row in rows)
    everybody = part_of(result.detection, "all")
    assert (everybody.recall.value, everybody.precision.value) == (0.6, 1)


def test_people_and_queries_are_grouped_by_the_light_of_their_box():
    dataset, detections = people_of_heights(
        [100] * 100, found=[True, True, False, False, False] * 20
    )
    light = Light(tuple(np.array([69.9, 70, 129.9, 130, 255]) for _ in range(20)), np.zeros(0))

    result = break_down(found_in(dataset, detections), dataset, light)

    rows = [part_of(result.detection, "light", name) for name in ("dark", "medium", "bright")]
    assert [(row.people, row.recall.value) for row in rows] == [(20, 1), (40, 0.5), (40, 0)]
    assert (result.search, result.ways, result.differences) == ((), (), ())


def test_cameras_are_told_apart_and_small_groups_have_no_figures():
    dataset, detections = people_of_heights([100] * 60, found=[True] * 30 + [False] * 30)
    cameras = ["a"] * 5 + ["b"] * 3 + ["c"] * 4
    scenes = [replace(s, camera=c) for s, c in zip(dataset.scenes, cameras, strict=True)]
    dataset = replace(dataset, scenes=tuple(scenes))

    result = break_down(found_in(dataset, detections), dataset, even_light(dataset))

    first, second, third = (part_of(result.detection, "camera", name) for name in "abc")
    assert first.recall == Estimate(1, 1, 1)
    assert (second.scenes, second.people, second.recall, second.ap) == (3, 15, None, None)
    # Twenty people, but in four scenes: a figure, and no interval. Nothing was found there.
    assert third.recall == Estimate(0, None, None)
    assert (third.precision, third.ap) == (None, Estimate(0, None, None))


def asked(heights, right):
    """A query of each height, of a camera of its own; its first hit is right or wrong."""
    scenes, detections, queries = [], [], []
    for number, (height, its) in enumerate(zip(heights, right, strict=True)):
        shown, hidden = box(0, height), box(1)
        scenes += [
            scene(f"q{number}", [(shown, number)], camera=f"c{height}"),
            scene(f"g{number}", [(hidden, number), (box(2), UNLABELED)], camera="gallery"),
        ]
        first, second = (hidden, box(2)) if its else (box(2), hidden)
        detections += [detected(), detected((first, 1, (1, 0.1)), (second, 1, (1, 1)))]
        queries.append(
            Query(2 * number, np.array(shown, np.float32), number, np.array([2 * number + 1]))
        )
    dataset = SceneDataset("hand", tuple(scenes), tuple(queries), "", tuple(range(len(heights))))
    return dataset, detections


def test_queries_are_grouped_by_their_own_box_and_camera():
    dataset, detections = asked(
        [60] * 6 + [200] * 5 + [130] * 4, [True] * 3 + [False] * 3 + [True] * 5 + [False] * 4
    )
    light = Light(even_light(dataset).boxes, np.array([0.0] * 11 + [200.0] * 4))

    result = break_down(found_in(dataset, detections), dataset, light)

    small, tall = (
        part_of(result.search, "height", name) for name in ("under 80 px", "180 px and more")
    )
    assert (small.queries, small.people, small.top_1.value) == (6, 6, 0.5)
    assert small.map.value == pytest.approx((3 * 1 + 3 * 0.5) / 6)
    assert tall.top_1 == Estimate(1, 1, 1)
    few = part_of(result.search, "height", "120 to 180 px")
    assert (few.queries, few.map, few.top_1) == (4, None, None)
    assert part_of(result.search, "camera", "c60").map == small.map
    assert part_of(result.search, "light", "dark").queries == 11
    assert part_of(result.search, "light", "bright").map is None


def test_the_ways_of_searching_are_compared_over_the_same_queries():
    dataset, detections = asked([100] * 10, [True] * 4 + [False] * 6)
    annotated = [detected((box(0), 1)), detected((box(1), 1), (box(2), 1, (0, 1)))]
    described = found_in(dataset, annotated * 10, gt_boxes=True)

    result = break_down(
        found_in(dataset, detections), dataset, even_light(dataset), annotated=described
    )

    assert [way.name for way in result.ways] == [FOUND_WEIGHTED, FOUND_COSINE, ANNOTATED]
    assert [way.top_1.value for way in result.ways] == [0.4, 0.4, 1]
    weighting, detection = result.differences
    assert weighting.top_1 == Estimate(0, 0, 0)
    assert detection.top_1.value == pytest.approx(0.6)
    assert 0.2 < detection.top_1.low < 0.6 < detection.top_1.high < 1
    assert (detection.better, detection.than) == (ANNOTATED, FOUND_COSINE)


def test_what_was_found_elsewhere_is_refused():
    dataset, detections = asked([100] * 5, [True] * 5)
    other = replace(found_in(dataset, detections), scenes=("other",) * 10)

    for arguments in (
        {"found": other},
        {"found": found_in(dataset, detections), "annotated": other},
    ):
        with pytest.raises(DatasetError, match="expected the 10 scenes that were searched"):
            break_down(dataset=dataset, light=even_light(dataset), **arguments)


def test_light_is_the_mean_luma_of_what_a_box_shows():
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, 10:] = (0, 255, 0)
    pixels[:, 20:] = 255

    boxes = [(0, 0, 10, 20), (10, 0, 20, 20), (20, 0, 40, 30), (5, 0, 15, 20), (-9, 5, -2, 9)]

    expected = [0, 0.587 * 255, 255, 0.587 * 255 / 2, 0]
    assert mean_luma(pixels, np.array(boxes, np.float32)) == pytest.approx(expected)


# The pictures.


class KnowingDetector:
    """Finds everybody but the first of a scene, and one who is not there; knows most people."""

    def __init__(self, dataset, card):
        self.card = card
        self.scenes = {scene.read().tobytes(): scene for scene in dataset.scenes}
        self.dim = len(dataset.source_ids) + 1
        self.detected = 0

    def detect(self, images):
        self.detected += len(images)
        return [self._found(image) for image in images]

    def _found(self, image):
        own = self.scenes[image.tobytes()]
        boxes = np.clip(own.boxes[1:], 0, [own.width, own.height] * 2)
        boxes = np.concatenate([boxes, [[0, 0, 30, 60]]]).astype(np.float32)
        scores = np.linspace(0.95, 0.6, len(boxes)).astype(np.float32)
        return Detections(boxes, scores, self.embed(image, boxes))

    def embed(self, image, boxes):
        own = self.scenes[image.tobytes()]
        who = own.person_ids[box_iou(boxes, own.boxes).argmax(axis=1)]
        table = np.eye(self.dim)
        table[1] += 2 * table[0]  # person 1 looks like person 0
        rows = table[who] + 0.001 * boxes[:, :1]
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scenes")
    write_synthetic(directory, scenes=14, persons=6, cameras=2, size=(240, 180), seed=1)
    return directory


@pytest.fixture(scope="module")
def dataset(directory):
    return read_dataset(directory)


@pytest.fixture(scope="module")
def card():
    return replace(load_card(DEFAULT_MODEL), matching=None)


@pytest.fixture(scope="module")
def found(dataset, card):
    return evaluate.find(KnowingDetector(dataset, card), dataset)


def colours(path):
    """How many pixels of a picture have each of the colours of frames."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    frames = {"green": GREEN, "red": RED, "grey": GREY}
    return {name: int((pixels == colour).all(axis=2).sum()) for name, colour in frames.items()}


def size(path):
    with Image.open(path) as picture:
        return picture.size


def test_every_picture_is_drawn_that_there_is_something_for(found, dataset, tmp_path):
    drawn = draw_all(found, dataset, tmp_path)

    names = ["results.png", "confused.png", "missed.png", "false.png"]
    assert [own.name for own in drawn] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert colours(tmp_path / "results.png")["green"] > 1000
    assert colours(tmp_path / "results.png")["red"] > 1000


def test_no_picture_is_left_of_what_a_model_no_longer_does(dataset, found, tmp_path):
    known = np.eye(len(dataset.source_ids) + 1, dtype=np.float32)
    everybody = []
    for one in dataset.scenes:
        seen = ~one.ignore
        scores = np.ones(np.count_nonzero(seen), np.float32)
        everybody.append(Detections(one.boxes[seen], scores, known[one.person_ids[seen]]))
    perfect = Found(
        found.scenes,
        tuple(everybody),
        np.array([query.scene for query in dataset.queries]),
        np.array([query.box for query in dataset.queries]),
        known[[query.person_id for query in dataset.queries]],
    )
    draw_all(found, dataset, tmp_path)

    drawn = draw_all(perfect, dataset, tmp_path)

    assert [own.name for own in drawn] == ["results.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["results.png"]


def test_without_queries_the_people_who_were_found_are_searched(found, dataset, tmp_path):
    nobody = [
        replace(s, boxes=s.boxes[:0], person_ids=s.person_ids[:0], ignore=s.ignore[:0],
                exhaustive=False)
        for s in dataset.scenes
    ]  # fmt: skip
    photos = replace(dataset, scenes=tuple(nobody), queries=())

    drawn = draw_all(found, photos, tmp_path)

    assert [own.name for own in drawn] == ["results.png"]
    framed = colours(tmp_path / "results.png")
    assert (framed["green"], framed["red"]) == (0, 0)
    assert framed["grey"] > 1000


def test_what_is_shown_is_evenly_spread_and_never_twice():
    assert evenly(100, 5) == [0, 25, 50, 74, 99]
    assert evenly(3, 20) == [0, 1, 2]
    assert all(len(set(evenly(count, 20))) == min(20, count) for count in range(1, 100))


def test_the_surest_mistakes_come_first(monkeypatch, tmp_path):
    dataset, detections = asked([100] * 6, [False] * 5 + [True])
    scores = [0.5, 0.9, 0.7, 0.8, 0.6, 1.0]
    for number, score in enumerate(scores):
        own = detections[2 * number + 1]
        detections[2 * number + 1] = replace(own, scores=own.scores * np.float32(score))
    monkeypatch.setattr(Scene, "read", lambda self: np.zeros((300, 1000, 3), np.uint8))
    sheets = {}
    monkeypatch.setattr(
        quality_pictures, "draw_sheet",
        lambda path, groups, **_: sheets.setdefault(path.name, groups),
    )  # fmt: skip

    draw_all(found_in(dataset, detections), dataset, tmp_path)

    asked_first = [group[0].caption for group in sheets["confused.png"]]
    assert asked_first == [f"query {number}" for number in (1, 3, 2, 4, 0)]
    assert [tile.frame for tile in sheets["confused.png"][0]] == [None, RED, GREEN]
    assert [tile.caption for tile in sheets["confused.png"][0]] == ["query 1", "0.90", "0.64"]
    assert [tile.frame for tile in sheets["results.png"][5]] == [None, GREEN, RED]


def test_a_box_is_drawn_where_it_stands(tmp_path):
    pixels = np.full((200, 300, 3), 255, np.uint8)
    one = np.array([100, 60, 140, 160], np.float32)

    shown = in_context(pixels, one, colour=RED, others=np.zeros((0, 4)), size=(182, 222))

    assert shown.shape == (222, 182, 3)
    rows, columns = np.nonzero((shown == RED).all(axis=2))
    # The picture is as tall as what is shown of it: 200 px in 222.
    assert rows.min() == pytest.approx(60 * 1.11, abs=2)
    assert rows.max() == pytest.approx(160 * 1.11, abs=2)
    assert np.ptp(columns) == pytest.approx(40 * 1.11, abs=2)


def test_a_sheet_has_a_place_for_every_tile(tmp_path):
    tile = Tile(np.zeros((50, 20, 3), np.uint8), "one", GREEN)

    for count, path in ((3, tmp_path / "3.png"), (7, tmp_path / "7.png")):
        draw_sheet(path, [[tile]] * count, title="t", note="n", tile=(40, 80), per_row=4)

    assert size(tmp_path / "7.png")[1] - size(tmp_path / "3.png")[1] > 80
    assert colours(tmp_path / "7.png")["green"] == pytest.approx(
        7 / 3 * colours(tmp_path / "3.png")["green"], rel=0.05
    )


# The command.


@pytest.fixture
def detector(dataset, card, monkeypatch):
    detector = KnowingDetector(dataset, card)
    monkeypatch.setattr(quality, "OnnxDetector", lambda model, device: detector)
    monkeypatch.setattr(evaluate, "OnnxDetector", lambda model, device: detector)
    return detector


def test_the_page_has_the_figures_and_the_commands_that_print_them(
    directory, dataset, detector, tmp_path, capsys
):
    out = tmp_path / "made" / "out"
    arguments = ["--model", "m", "--data", str(directory), "--out", str(out)]

    quality.main(arguments)

    assert detector.detected == len(dataset.scenes)
    page = (out / "quality.md").read_text()
    assert capsys.readouterr().out == f"{out / 'quality.md'}\n"
    assert page.count(command_line("models.quality", *arguments)) == 4
    content = json.loads((out / "quality.json").read_text())
    assert content["command"] == command_line("models.quality", *arguments)
    (own,) = content["datasets"]
    assert all((out / name).is_file() and f"]({name})" in page for name in own["pictures"])
    assert len(own["pictures"]) == 4
    line = next(row for row in page.splitlines() if row.startswith("python -m models.evaluate"))
    evaluate.main([*shlex.split(line.split("#")[0])[3:], "--json", str(tmp_path / "one.json")])
    printed = json.loads((tmp_path / "one.json").read_text())
    assert own["search"][0]["map"]["value"] == pytest.approx(printed["search"]["map"])
    assert own["detection"][0]["ap"]["value"] == pytest.approx(printed["detection"]["ap"])
    low, high = (100 * own["search"][0]["map"][end] for end in ("low", "high"))
    assert f"{100 * printed['search']['map']:.1f} ({low:.1f} to {high:.1f})" in page
    assert "Likely matches" not in page


def test_the_match_rule_of_the_card_is_held_against_the_scenes(
    directory, detector, tmp_path, monkeypatch
):
    rule = MatchRule(0.75, 0.01, 0.004, (0.001, 0.01), 0.2, 50, 20_000, "val")
    detector.card = replace(detector.card, matching=rule)
    command = ["--model", "m", "--data", str(directory), "--out", str(tmp_path)]

    quality.main(command)
    assert "too few people here" in (tmp_path / "quality.md").read_text()
    monkeypatch.setattr("models.evaluation.thresholds.LEAST_PEOPLE", 3)
    quality.main(command)

    page = (tmp_path / "quality.md").read_text()
    assert "at most 1 % of the pairs of different people, as measured on val. Here" in page
    matching = json.loads((tmp_path / "quality.json").read_text())["datasets"][0]["matching"]
    # Person 1 looks like person 0 and nobody else looks like anybody: cosine 2 / √5 = 0.89.
    assert 0 < matching["false"]["value"] < 0.3
    assert matching["missed"] == 0


def test_several_datasets_and_photographs_have_a_folder_each(
    directory, dataset, detector, tmp_path
):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, one in enumerate(dataset.scenes[:4]):
        (photos / f"{number}.jpg").write_bytes(one.path.read_bytes())
    (photos / "notes.txt").write_text("nothing")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    out = tmp_path / "out"

    quality.main(
        ["--model", "m", "--data", str(directory), "--photos", str(photos), "--out", str(out)]
    )

    content = json.loads((out / "quality.json").read_text())
    named = [name for own in content["datasets"] for name in own["pictures"]]
    assert named[0] == "1-synthetic-1/results.png"
    assert named[-1] == "2-photos/results.png"
    assert all((out / name).is_file() for name in named)
    assert content["datasets"][1]["data"] == {"name": "photos", "scenes": 4}
    assert "Left out: broken.jpg (" in (out / "quality.md").read_text()


@pytest.mark.slow
def test_the_model_that_ships_looks_through_photographs(directory, tmp_path):
    quality.main(
        ["--model", str(DEFAULT_MODEL), "--photos", str(directory / "images"), "--limit", "3",
         "--out", str(tmp_path)]
    )  # fmt: skip

    assert "3 photographs, without annotations" in (tmp_path / "quality.md").read_text()


def test_an_unreadable_folder_of_photographs_is_one_line(tmp_path, detector, refusal):
    (tmp_path / "one.jpg").write_bytes(b"")

    for folder, message in (("none", "there is no folder"), ("", "expected two or more pictures")):
        words = ["--model", "m", "--photos", tmp_path / folder, "--out", tmp_path / "o"]
        said = refusal(quality.main, *words)
        assert message in said and "\n" not in said


def test_a_place_that_cannot_be_written_is_one_line(directory, detector, tmp_path, refusal):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"

    said = refusal(quality.main, "--model", "m", "--data", directory, "--out", out)

    assert said == f"error: {out}: Not a directory"
    assert detector.detected == 0


@pytest.mark.parametrize(
    "arguments", [[], ["--data", "d", "--limit", "0"]], ids=["nothing to look at", "limit"]
)
def test_arguments_that_say_too_little_are_refused(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        quality.main(["--model", "m", "--out", "o", *arguments])

    assert ended.value.code == 2
    assert "expected" in capsys.readouterr().err
