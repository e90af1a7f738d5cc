"""Figures of a gallery are those of the offline evaluator, for the same people."""

import numpy as np
import pytest

from indexer.errors import NothingToEvaluateError
from indexer.evaluation import evaluation as module
from indexer.evaluation.evaluation import Question, evaluate, questions_of_labels
from indexer.tests.scenery import DIM, new_scene, open_gallery, unit
from models import evaluate as offline
from models.datasets.scene import Query, SceneDataset
from models.detections import Detections
from models.evaluation.bootstrap import percentiles, resamples
from models.evaluation.detection import evaluate_detection
from models.evaluation.found import Found
from models.evaluation.search import evaluate_scenes
from models.similarity import class_weighted_similarity
from models.tests import handmade

PERSONS = 9


def walk(number, random, centres):
    """Who is seen in a scene: boxes, people (−1 for strangers), and what is detected of them."""
    who = [*random.choice(PERSONS, 3, replace=False).tolist(), -1]
    boxes = np.array([[70 * place, 5, 70 * place + 50, 105] for place in range(4)], np.float32)
    looks = [centres[person] if person >= 0 else random.standard_normal(DIM) for person in who]
    looks = unit(np.array(looks) + 2.5 * random.standard_normal((4, DIM))).astype(np.float32)
    moved = boxes + random.uniform(-6, 6, (4, 4)).astype(np.float32)
    scores = random.uniform(0.5, 1, 4).astype(np.float32)
    kept = random.random(4) > (0.2 if number else -1)  # some are not detected
    return boxes, who, Detections(moved[kept], scores[kept], looks[kept]), np.flatnonzero(kept)


@pytest.fixture
def town(tmp_path):
    """A gallery, and the same as an annotated dataset with what was found in it."""
    random = np.random.default_rng(5)
    centres = random.standard_normal((PERSONS, DIM))
    with open_gallery(tmp_path / "gallery") as gallery:
        scenes, detections, people = [], [], []
        for number in range(14):
            boxes, who, found, kept = walk(number, random, centres)
            stored = gallery.add(new_scene(f"s{number}", camera_id=f"c{number % 2}"), found).scene
            scenes.append(
                handmade.scene(stored.id, list(zip(boxes, who, strict=True)), size=(300, 120))
            )
            detections.append(found)
            people.append((stored, [who[place] for place in kept]))
        yield gallery, scenes, detections, people


def label_all(gallery, people):
    """Label everybody who is no stranger."""
    for stored, who in people:
        for detection, person in zip(stored.detections, who, strict=True):
            if person >= 0:
                gallery.people.label(detection.id, f"p{person}")


def offline_score(scenes, detections, queries, embeddings):
    dataset = SceneDataset("town", tuple(scenes), tuple(queries), "", tuple(range(PERSONS)))
    found = Found(
        tuple(scene.name for scene in scenes),
        tuple(detections),
        np.array([query.scene for query in queries]),
        np.array([query.box for query in queries]),
        np.array(embeddings),
    )
    return offline.score(found, dataset, per_query=True)


def assert_same(result, expected):
    for name in ("map", "top_1", "top_5", "top_10"):
        assert getattr(result, name) == pytest.approx(expected["search"][name], abs=1e-9), name
    assert result.average_precisions == pytest.approx(expected["search"]["ap"], abs=1e-9)


def test_labels_give_the_figures_of_the_offline_evaluator(town):
    gallery, _, detections, people = town
    annotated, queries, embeddings = [], [], []
    seen = [person for _, who in people for person in set(who)]
    for number, (stored, who) in enumerate(people):
        for detection, person in zip(stored.detections, who, strict=True):
            if person >= 0:
                gallery.people.label(detection.id, f"p{person}")
        own = [
            (box, person)
            for box, person in zip(detections[number].boxes, who, strict=True)
            if person >= 0
        ]
        annotated.append(handmade.scene(stored.id, own, exhaustive=False))
        elsewhere = np.array([one for one in range(len(people)) if one != number])
        for place, person in enumerate(who):
            if person >= 0 and seen.count(person) > 1:
                queries.append(Query(number, detections[number].boxes[place], person, elsewhere))
                embeddings.append(detections[number].embeddings[place])
    crowd = gallery.people.everybody()
    measured = evaluate(crowd, questions_of_labels(crowd))

    assert_same(measured.result, offline_score(annotated, detections, queries, embeddings))
    assert 0.05 < measured.result.map < 0.95
    assert measured.recall is None
    assert measured.figures.map.value == measured.result.map
    assert measured.figures.queries == len(queries)


def test_among_the_labelled_only_strangers_are_no_wrong_hits(town):
    gallery, _, _, people = town
    label_all(gallery, people)
    every, labelled = gallery.people.everybody(), gallery.people.labelled()
    among_all = evaluate(every, questions_of_labels(every)).result
    among_labelled = evaluate(labelled, questions_of_labels(labelled)).result

    assert len(among_all.average_precisions) == len(among_labelled.average_precisions)
    assert (among_labelled.average_precisions >= among_all.average_precisions - 1e-12).all()
    assert among_labelled.map > among_all.map


def test_annotated_boxes_give_the_figures_and_the_recall_of_the_offline_evaluator(town):
    gallery, scenes, detections, people = town
    crowd = gallery.people.everybody()
    queries, embeddings, questions = [], [], []
    for number, (_, who) in enumerate(people):
        for place, person in enumerate(who):
            holds = [
                (other, scenes[other].boxes[box])
                for other in range(len(scenes))
                for box in np.flatnonzero(scenes[other].person_ids == person)
                if other != number and person >= 0
            ]
            if holds:
                elsewhere = np.array([one for one in range(len(people)) if one != number])
                box, look = detections[number].boxes[place], detections[number].embeddings[place]
                queries.append(Query(number, box, person, elsewhere))
                embeddings.append(look)
                questions.append(Question(number, box, look, f"p{person}", holds))
    measured = evaluate(crowd, questions, boxes_known=True)
    known = [
        handmade.scene(one.name, [(box, 0) for box, person in
                                  zip(one.boxes, one.person_ids, strict=True) if person >= 0])
        for one in scenes
    ]  # fmt: skip

    assert_same(measured.result, offline_score(scenes, detections, queries, embeddings))
    expected = evaluate_detection(known, detections).recall
    assert measured.recall.value == pytest.approx(expected, abs=1e-9)
    assert measured.recall.low < measured.recall.value < measured.recall.high < 1
    assert measured.known_people == sum(len(one.boxes) for one in known)


def test_truths_without_boxes_rank_scenes_by_their_best_detection(town):
    gallery, scenes, detections, people = town
    crowd = gallery.people.everybody()
    questions, expected_ap, expected_first = [], [], []
    for number, (_, who) in enumerate(people):
        for place, person in enumerate(who):
            holds = {
                other
                for other in range(len(scenes))
                if person >= 0 and other != number and (scenes[other].person_ids == person).any()
            }
            if not holds:
                continue
            look = detections[number].embeddings[place]
            questions.append(
                Question(
                    number, detections[number].boxes[place], look, f"p{person}",
                    [(scene, None) for scene in holds],
                )
            )  # fmt: skip
            best = {
                scene: class_weighted_similarity(look, found.embeddings, found.scores).max()
                for scene, found in enumerate(detections)
                if scene != number and len(found)
            }
            ranking = sorted(best, key=lambda scene: -best[scene])
            ranks = [rank for rank, scene in enumerate(ranking, 1) if scene in holds]
            expected_ap.append(sum((n + 1) / rank for n, rank in enumerate(ranks)) / len(holds))
            expected_first.append(ranks[0] - 1)
    measured = evaluate(crowd, questions).result

    assert measured.average_precisions == pytest.approx(expected_ap, abs=1e-9)
    assert measured.first_right.tolist() == expected_first
    assert measured.top_1 == np.mean(np.array(expected_first) < 1)


def test_scenes_in_which_nobody_was_found_are_missed_when_they_hold_the_person():
    nobody, somebody = Detections.empty(2), Detections(
        np.array([[0, 0, 10, 10]], np.float32), np.ones(1, np.float32),
        np.array([[1, 0]], np.float32),
    )  # fmt: skip
    query = np.array([[1, 0]], np.float32)
    result = evaluate_scenes([somebody, nobody, nobody], query, [np.arange(3)], [np.array([0, 1])])
    missed = evaluate_scenes([nobody, nobody], query, [np.arange(2)], [np.array([1])])

    assert (result.map, result.top_1) == (0.5, 1)
    assert (missed.map, missed.top_10) == (0, 0)
    assert evaluate_scenes([nobody], query[:0], [], []) is None


def test_asking_a_few_at_a_time_gives_the_same(town, monkeypatch):
    gallery, _, _, people = town
    for stored, who in people:
        for detection, person in zip(stored.detections, who, strict=True):
            gallery.people.label(detection.id, f"p{person}")
    crowd = gallery.people.everybody()
    questions, told = questions_of_labels(crowd), []
    whole = evaluate(crowd, questions).result
    monkeypatch.setattr(module, "AT_ONCE", 5 * len(crowd.scenes))
    parts = evaluate(crowd, questions, progress=lambda done, total: told.append((done, total)))

    assert (parts.result.average_precisions == whole.average_precisions).all()
    assert told == [(done, len(questions)) for done in [*range(0, len(questions), 5),
                                                        len(questions)]]  # fmt: skip


def test_only_the_scenes_named_are_searched(town):
    gallery, _, detections, people = town
    crowd = gallery.people.everybody()
    person = people[0][1][0]
    there = [n for n, (_, who) in enumerate(people) if person in who and n][:1]
    box = crowd.people[there[0]].boxes[people[there[0]][1].index(person)]
    question = Question(0, crowd.people[0].boxes[0], crowd.people[0].embeddings[0], "p",
                        [(there[0], box)])  # fmt: skip
    alone = evaluate(crowd, [question], searched=np.array([0, *there]))

    assert alone.result.first_right[0] < len(detections[there[0]])


def test_intervals_are_those_of_drawing_people_anew(town):
    gallery, _, _, people = town
    label_all(gallery, people)
    crowd = gallery.people.everybody()
    questions = questions_of_labels(crowd)
    measured = evaluate(crowd, questions)
    names = sorted({one.person for one in questions})
    rounds = []
    for drawn in resamples(len(names)):
        values = [
            value
            for one, value in zip(questions, measured.result.average_precisions, strict=True)
            for _ in range(drawn[names.index(one.person)])
        ]
        rounds.append(np.mean(values))

    low, high = percentiles(np.array(rounds))
    assert measured.figures.people == len(names) == PERSONS
    assert measured.figures.map.low == pytest.approx(low, abs=1e-9)
    assert measured.figures.map.high == pytest.approx(high, abs=1e-9)


def test_each_camera_s_queries_have_their_own_figures(town):
    gallery, _, _, people = town
    label_all(gallery, people)
    crowd = gallery.people.everybody()
    questions = questions_of_labels(crowd)
    measured = evaluate(crowd, questions)

    assert [name for name, _ in measured.cameras] == ["c0", "c1"]
    for name, figures in measured.cameras:
        own = [crowd.scenes[one.scene].camera_id == name for one in questions]
        assert figures.map.value == measured.result.average_precisions[own].mean()
        assert figures.queries == sum(own)


def test_labels_in_one_scene_each_have_nothing_to_ask(tmp_path):
    with open_gallery(tmp_path / "gallery") as gallery:
        for number in range(2):
            look = np.eye(DIM, dtype=np.float32)[:1]
            box = np.array([[0, 0, 20, 60]], np.float32)
            found = Detections(box, np.ones(1, np.float32), look)
            (detection,) = gallery.add(new_scene(f"s{number}"), found).scene.detections
            gallery.people.label(detection.id, f"p{number}")
        with pytest.raises(NothingToEvaluateError):
            questions_of_labels(gallery.people.everybody())
