from itertools import permutations

import numpy as np
import pytest

from models import evaluate
from models.boxes import box_iou
from models.datasets.scene import UNLABELED, Query, Scene, SceneDataset
from models.detections import Detections
from models.errors import DatasetError
from models.evaluation.detection import evaluate_detection, interpolated_ap, stepwise_ap
from models.evaluation.found import Found
from models.evaluation.protocols import PUBLISHED, SEQNET
from models.evaluation.search import cuhk_iou, evaluate_search, half_iou
from models.reranking.cbgm import match
from models.tests import handmade

LEFT, MIDDLE, RIGHT = (0, 0, 40, 100), (100, 0, 140, 100), (200, 0, 240, 100)


def scene(*people, exhaustive=True) -> Scene:
    """People are (box, person id) or (box, person id, ignore)."""
    return handmade.scene("scene", people, exhaustive=exhaustive)


def found(*rows) -> Detections:
    """Rows are (box, score) or (box, score, cosine similarity to QUERY)."""
    rows = [(*row, 1.0)[:3] for row in rows]
    cosine = np.array([row[2] for row in rows], np.float32)
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.stack([cosine, np.sqrt(1 - cosine**2)], axis=1).reshape(-1, 2),
    )


QUERY = np.array([[1, 0]], np.float32)


def shifted(box, dx):
    return (box[0] + dx, box[1], box[2] + dx, box[3])


def search(scenes, detections, **options):
    """Looks for person 0, who is in the last scene and searched in all others."""
    last = len(scenes)
    everywhere = (*scenes, scene((LEFT, 0)))
    query = Query(last, np.array(LEFT, np.float32), 0, np.arange(last))
    dataset = SceneDataset("hand", everywhere, (query,), "", (10, 11, 12))
    return evaluate_search(dataset, [*detections, found()], QUERY, **options)


def test_perfect_detections_have_full_recall_and_ap():
    result = evaluate_detection(
        [scene((LEFT, 0), (RIGHT, UNLABELED)), scene()],
        [found((LEFT, 0.9), (RIGHT, 0.8)), found()],
    )

    assert (result.recall, result.ap, result.people, result.false_positives) == (1, 1, 2, 0)


def test_detection_ap_of_a_hand_counted_case():
    # By score: right, wrong, right; one of three people is missed.
    # The interpolated precision is 1 up to recall 1/3 and 2/3 up to recall 2/3.
    result = evaluate_detection(
        [scene((LEFT, 0), (MIDDLE, 1)), scene((LEFT, 2))],
        [found((LEFT, 0.9), (RIGHT, 0.8), (MIDDLE, 0.7)), found()],
    )

    assert result.recall == pytest.approx(2 / 3)
    assert result.ap == pytest.approx(1 / 3 + 2 / 3 / 3)
    assert result.false_positives == 1


def test_a_second_detection_of_a_person_is_wrong():
    result = evaluate_detection([scene((LEFT, 0))], [found((shifted(LEFT, 2), 0.9), (LEFT, 0.5))])

    assert (result.recall, result.ap, result.false_positives) == (1, 1, 1)


def test_a_detection_takes_the_person_that_a_better_one_left():
    near = shifted(LEFT, 8)
    result = evaluate_detection(
        [scene((LEFT, 0), (near, 1))], [found((LEFT, 0.9), (shifted(LEFT, 1), 0.8))]
    )

    assert result.recall == 1


@pytest.mark.parametrize(("dx", "recall"), [(13, 1), (14, 0)])
def test_a_detection_needs_half_of_the_union(dx, recall):
    result = evaluate_detection([scene((LEFT, 0))], [found((shifted(LEFT, dx), 0.9))])

    assert result.recall == recall


@pytest.mark.parametrize(
    "neutral", [(MIDDLE, 1, True), ((100, 0, 140, 39.9), 1)], ids=["ignored", "short"]
)
def test_neutral_people_need_not_be_found_and_cost_nothing_when_found(neutral):
    people = scene((LEFT, 0), neutral)
    with_it = found((LEFT, 0.9), (neutral[0], 0.95))

    for detections in (with_it, with_it.select(np.array([0]))):
        result = evaluate_detection([people], [detections])
        assert (result.recall, result.ap, result.false_positives) == (1, 1, 0)


def test_a_person_of_forty_pixels_counts_wherever_they_stand():
    tops = np.linspace(0.1, 70.7, 41).astype(np.float32)
    scenes = [scene(((0, top, 20, np.float32(float(top) + 40)), 0)) for top in tops]

    result = evaluate_detection(scenes, [found()] * len(scenes))

    assert result.people == len(scenes)


@pytest.mark.parametrize(("dx", "wrong"), [(21, 0), (22, 1)])
def test_a_detection_is_dropped_from_an_overlap_of_three_tenths_with_an_ignored_box(dx, wrong):
    result = evaluate_detection(
        [scene((LEFT, 0), (MIDDLE, 1, True))], [found((shifted(MIDDLE, dx), 0.9))]
    )

    assert result.false_positives == wrong


def test_scenes_that_are_not_exhaustive_are_left_out_of_detection():
    scenes = [scene((LEFT, 0)), scene((LEFT, 1), exhaustive=False)]

    result = evaluate_detection(scenes, [found((LEFT, 0.9)), found((RIGHT, 0.99))])

    assert (result.recall, result.ap, result.people) == (1, 1, 1)


def test_there_is_no_detection_result_where_nobody_counts():
    assert evaluate_detection([scene()], [found((LEFT, 0.9))]) is None
    assert evaluate_detection([], []) is None


def test_detections_of_equal_score_enter_the_curve_together():
    scores = np.array([0.5, 0.5, 0.5])

    for right in ([True, False, False], [False, False, True]):
        assert interpolated_ap(scores, np.array(right), 1) == pytest.approx(1 / 3)
        assert stepwise_ap(scores, np.array(right), 1) == pytest.approx(1 / 3)


def test_search_ap_of_a_hand_counted_case():
    # By similarity: 0.9 right, 0.8 somebody else, 0.6 right; a third scene misses the person.
    scenes = [scene((LEFT, 0)), scene((LEFT, 1), (RIGHT, 0)), scene((LEFT, 0))]
    detections = [found((LEFT, 1, 0.9)), found((LEFT, 1, 0.8), (RIGHT, 1, 0.6)), found()]

    result = search(scenes, detections)

    assert result.map == pytest.approx((1 + 2 / 3) / 3)
    assert (result.top_1, result.top_5, result.top_10) == (1, 1, 1)


@pytest.mark.parametrize(("others", "expected"), [(0, 1), (1, 5), (5, 10), (10, None)])
def test_top_k_looks_at_the_first_k(others, expected):
    strangers = [found((LEFT, 1, 0.9))] * others
    scenes = [scene((LEFT, 1))] * others + [scene((RIGHT, 0))]

    result = search(scenes, [*strangers, found((RIGHT, 1, 0.5))])

    hits = {1: result.top_1, 5: result.top_5, 10: result.top_10}
    assert hits == {k: float(expected is not None and k >= expected) for k in hits}


def test_only_the_most_similar_detection_of_the_person_in_a_scene_is_right():
    detections = found((shifted(LEFT, 3), 1, 0.5), (LEFT, 1, 0.4), (shifted(LEFT, 1), 1, 0.3))

    result = search([scene((LEFT, 0)), scene((RIGHT, 0))], [detections, found((RIGHT, 1, 0.2))])

    assert result.map == pytest.approx((1 + 2 / 4) / 2)


def test_search_ranks_by_score_times_similarity_unless_told_otherwise():
    scenes = [scene((LEFT, 0)), scene((LEFT, 1))]
    detections = [found((LEFT, 1.0, 0.6)), found((LEFT, 0.5, 0.8))]

    assert search(scenes, detections).map == 1
    assert search(scenes, detections, class_weighted=False).map == pytest.approx(1 / 2)


def test_ignored_people_are_neutral_in_search():
    scenes = [scene((LEFT, 0), (RIGHT, UNLABELED, True)), scene((LEFT, 0, True))]
    detections = [found((LEFT, 1, 0.5), (shifted(RIGHT, 5), 1, 0.9)), found((LEFT, 1, 0.8))]

    assert search(scenes, detections).map == 1


def test_a_detection_that_overlaps_the_person_stays_although_it_overlaps_an_ignored_box():
    crowd = scene((LEFT, 0), (shifted(LEFT, 4), UNLABELED, True))

    result = search([crowd], [found((LEFT, 1, 0.4), (shifted(LEFT, 2), 1, 0.9))])

    assert (result.map, result.top_1) == (1, 1)


def test_detections_that_match_nobody_are_wrong_even_where_not_everybody_is_boxed():
    scenes = [scene((LEFT, 0), exhaustive=False)]

    result = search(scenes, [found((LEFT, 1, 0.5), (RIGHT, 1, 0.9))])

    assert result.map == pytest.approx(1 / 2)


def test_the_cuhk_rule_is_milder_for_small_people():
    boxes = np.array([[0, 0, 10, 20], [0, 0, 100, 200]], np.float64)

    assert cuhk_iou(boxes).tolist() == pytest.approx([200 / (20 * 30), 0.5])
    assert half_iou(boxes).tolist() == [0.5, 0.5]


def test_the_iou_rule_decides_what_is_right():
    small = (0, 0, 10, 20)
    detections = [found((shifted(small, 4), 1, 0.9))]

    assert search([scene((small, 0))], detections, iou_rule=cuhk_iou).map == 1
    assert search([scene((small, 0))], detections).map == 0


def test_a_query_that_cannot_be_answered_is_refused():
    with pytest.raises(DatasetError, match="query 0 looks for person 0"):
        search([scene((LEFT, 1))], [found((LEFT, 1, 0.9))])


def test_a_dataset_without_queries_has_no_search_result():
    dataset = SceneDataset("d", (scene((LEFT, 0)),), (), "", (7,))

    assert evaluate_search(dataset, [found()], np.zeros((0, 2), np.float32)) is None


def test_detections_of_too_few_scenes_are_refused():
    dataset = SceneDataset("d", (scene((LEFT, 0)),), (), "", (7,))

    with pytest.raises(ValueError, match="detections of 1 scenes"):
        evaluate_search(dataset, [], np.zeros((0, 2), np.float32))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("iou_rule", [half_iou, cuhk_iou])
def test_search_agrees_with_the_obvious_double_loop(seed, iou_rule):
    dataset, detections, embeddings = random_case(np.random.default_rng(seed))

    result = evaluate_search(dataset, detections, embeddings, iou_rule=iou_rule)

    aps, hits = zip(
        *(
            slow_query(dataset, detections, *asked, iou_rule)
            for asked in zip(dataset.queries, embeddings, strict=True)
        ),
        strict=True,
    )
    assert result.average_precisions == pytest.approx(aps)
    assert result.map == pytest.approx(np.mean(aps))
    assert [result.top_1, result.top_5, result.top_10] == pytest.approx(np.mean(hits, axis=0))


@pytest.mark.parametrize("seed", range(12))
def test_detection_agrees_with_the_obvious_double_loop(seed):
    dataset, detections, _ = random_case(np.random.default_rng(seed))

    result = evaluate_detection(dataset.scenes, detections)

    recall, ap = slow_detection(dataset.scenes, detections)
    assert (result.recall, result.ap) == pytest.approx((recall, ap))


def random_case(rng):
    """Eight scenes of people in places that overlap; some similarities and scores are equal."""
    scenes, detections = [], []
    for _ in range(8):
        ids = rng.permutation([0, 1, 2, UNLABELED, UNLABELED])[: rng.integers(2, 6)]
        people, rows = [], []
        for person in ids:
            x, height = rng.integers(0, 200), rng.choice([30, 60, 100])
            box = (x, 0, x + 40, height)
            people.append((box, int(person), bool(rng.random() < 0.2)))
            for _ in range(rng.integers(0, 3)):
                rows.append((shifted(box, rng.integers(-20, 20)), rng.choice([0.25, 0.5, 1])))
        scenes.append(scene(*people, exhaustive=bool(rng.random() < 0.8)))
        # Along an axis, a dot product is one product: equal similarities are equal to the last bit.
        axes = np.eye(4, dtype=np.float32)[rng.integers(0, 4, len(rows))]
        boxes = found(*rows)
        signed = axes * rng.choice([-1, 1], (len(rows), 1)).astype(np.float32)
        detections.append(Detections(boxes.boxes, boxes.scores, signed))
    queries = []
    for index, shown in enumerate(scenes):
        gallery = np.setdiff1d(np.arange(8), [index])
        for box, person in zip(shown.boxes, shown.person_ids, strict=True):
            others = [scenes[i] for i in gallery]
            if person >= 0 and any(((s.person_ids == person) & ~s.ignore).any() for s in others):
                queries.append(Query(index, box, int(person), gallery))
    embeddings = rng.standard_normal((len(queries), 4)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return SceneDataset("r", tuple(scenes), tuple(queries), "", (0, 1, 2)), detections, embeddings


def overlap(a, b):
    return float(box_iou(np.array([a], np.float64), np.array([b], np.float64))[0, 0])


def slow_query(dataset, detections, query, embedding, iou_rule):
    ranked, positives = [], 0
    for index in query.gallery:
        shown, people = dataset.scenes[index], detections[index]
        rows = range(len(people))
        similarity = [float((people.scores[i] * people.embeddings[i]) @ embedding) for i in rows]
        is_right, is_near = [False] * len(people), [False] * len(people)
        for j in range(len(shown.boxes)):
            if shown.person_ids[j] != query.person_id or shown.ignore[j]:
                continue
            positives += 1
            least = iou_rule(shown.boxes[[j]].astype(np.float64))[0]
            near = [i for i in rows if overlap(people.boxes[i], shown.boxes[j]) >= least]
            for i in near:
                is_near[i] = True
            if near:
                is_right[max(near, key=lambda i: (similarity[i], -i))] = True
        for i in rows:
            neutral = any(
                shown.ignore[j] and overlap(people.boxes[i], shown.boxes[j]) >= 0.5
                for j in range(len(shown.boxes))
            )
            if is_near[i] or not neutral:
                ranked.append((similarity[i], is_right[i]))
    ap = 0.0
    for level in sorted({s for s, _ in ranked}):
        kept = [hit for s, hit in ranked if s >= level]
        ap += sum(hit for s, hit in ranked if s == level) / positives * sum(kept) / len(kept)
    order = sorted(ranked, key=lambda row: -row[0])
    return ap, [any(hit for _, hit in order[:k]) for k in (1, 5, 10)]


def slow_detection(scenes, detections):
    rows, people = [], 0
    for shown, boxes in zip(scenes, detections, strict=True):
        if not shown.exhaustive:
            continue
        counted = [
            j for j, box in enumerate(shown.boxes) if not shown.ignore[j] and box[3] - box[1] >= 40
        ]
        people += len(counted)
        free = list(counted)
        for i in sorted(range(len(boxes)), key=lambda i: -boxes.scores[i]):
            best = max(free, key=lambda j: overlap(boxes.boxes[i], shown.boxes[j]), default=None)
            if best is not None and overlap(boxes.boxes[i], shown.boxes[best]) >= 0.5:
                free.remove(best)
                rows.append((boxes.scores[i], True))
            elif not any(
                overlap(boxes.boxes[i], box) >= 0.3
                for j, box in enumerate(shown.boxes)
                if j not in counted
            ):
                rows.append((boxes.scores[i], False))
    curve = []
    for level in {score for score, _ in rows}:
        kept = [hit for score, hit in rows if score >= level]
        curve.append((sum(kept), sum(kept) / len(kept)))
    ap = sum(
        max((precision for hits, precision in curve if hits >= count), default=0.0)
        for count in range(1, people + 1)
    )
    return sum(hit for _, hit in rows) / people, ap / people


def published(scenes, detections, **options):
    return search(scenes, detections, protocol=PUBLISHED, **options)


def test_the_published_detection_counts_a_pair_only_where_each_is_the_others_best():
    near = shifted(LEFT, 8)
    people = scene((LEFT, 0), (near, 1))
    detections = found((LEFT, 0.9), (shifted(LEFT, 1), 0.8))

    assert evaluate_detection([people], [detections]).recall == 1
    assert evaluate_detection([people], [detections], protocol=PUBLISHED).recall == 0.5


def test_the_published_detection_prefers_the_larger_overlap_to_the_better_score():
    detections = found((shifted(LEFT, 5), 0.9), (LEFT, 0.2))

    result = evaluate_detection([scene((LEFT, 0))], [detections], protocol=PUBLISHED)

    assert (result.recall, result.ap) == (1, 0.5)


def test_the_published_detection_leaves_out_scores_below_a_hundredth_and_no_short_people():
    people = scene(((0, 0, 10, 20), 0), (RIGHT, 1))
    detections = found(((0, 0, 10, 20), 0.01), (RIGHT, 0.0099))

    result = evaluate_detection([people], [detections], protocol=PUBLISHED)

    assert (result.people, result.recall, result.false_positives) == (2, 0.5, 0)


def test_detection_of_some_people_leaves_out_scenes_without_them():
    scenes = [scene((LEFT, 3), (RIGHT, UNLABELED)), scene((MIDDLE, UNLABELED))]
    detections = [found((LEFT, 0.9), (RIGHT, 0.8)), found((RIGHT, 0.95))]

    result = evaluate_detection(scenes, detections, protocol=PUBLISHED, only={3})

    assert (result.people, result.recall, result.false_positives) == (1, 1, 1)


def test_the_published_code_does_not_take_person_0_for_labeled():
    assert PUBLISHED.labeled((0, 1, 7)) == {1, 2}
    assert SEQNET.labeled((0, 1, 7)) == {0, 1, 2}


def test_the_published_search_takes_scores_from_one_half_on():
    scenes = [scene((LEFT, 0)), scene((LEFT, 1)), scene((LEFT, 2))]
    detections = [found((LEFT, 0.5, 0.9)), found((LEFT, 0.49, 1)), found((LEFT, 0.6, 0.7))]

    assert published(scenes, detections).map == 1
    assert search(scenes, detections).map == pytest.approx(1 / 2)


def test_the_published_search_looks_for_the_first_box_of_a_person_in_a_scene():
    scenes = [scene((LEFT, 0), (RIGHT, 0))]
    detections = [found((LEFT, 1, 0.8), (RIGHT, 1, 0.9))]

    assert search(scenes, detections).map == 1
    assert published(scenes, detections).map == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [(PUBLISHED, (1 + 1 + 3 / 5) / 3), (SEQNET, (1 + 2 / 3) / 3)],
    ids=["published", "seqnet"],
)
def test_a_repeated_scene_counts_as_the_protocol_says(protocol, expected):
    # The person is to be found three times. Searched once, the first scene gives right 0.9 and
    # wrong 0.8, and the second right 0.7; searched twice, those of the first stand there twice.
    scenes = (scene((LEFT, 0), (RIGHT, 1)), scene((LEFT, 0)), scene((LEFT, 0)))
    detections = [found((LEFT, 1, 0.9), (RIGHT, 1, 0.8)), found((LEFT, 1, 0.7)), found()]
    query = Query(2, np.array(LEFT, np.float32), 0, np.array([0, 1, 0]))
    dataset = SceneDataset("hand", scenes, (query,), "", (10, 11))

    result = evaluate_search(dataset, detections, QUERY, protocol=protocol)

    assert result.map == pytest.approx(expected)


def test_a_querys_own_truth_is_what_is_to_be_found():
    scenes = (scene((LEFT, 0), (RIGHT, 1)), scene((LEFT, 0)), scene((LEFT, 0)))
    detections = [found((LEFT, 1, 0.9), (RIGHT, 1, 0.8)), found((LEFT, 1, 0.7)), found()]
    gallery, truth = np.array([1, 0]), np.array([[1, 1]])
    query = Query(2, np.array(LEFT, np.float32), 0, gallery, truth)
    dataset = SceneDataset("hand", scenes, (query,), "", (10, 11))

    result = evaluate_search(dataset, detections, QUERY)

    assert result.map == pytest.approx(1 / 2)
    assert result.first_right.tolist() == [1]


def test_the_first_right_hit_of_a_query_without_any_is_infinitely_far():
    result = search([scene((LEFT, 0))], [found((RIGHT, 1, 0.9))])

    assert result.first_right.tolist() == [np.inf]


@pytest.mark.parametrize("block", [2**22, 96 * 5])
def test_equal_embeddings_are_equally_similar_wherever_they_stand(monkeypatch, block):
    monkeypatch.setattr("models.evaluation.search.BLOCK", block)
    rng = np.random.default_rng(0)
    people = rng.standard_normal((8, 96)).astype(np.float32)
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    one = found((LEFT, 0.9))
    copies = [Detections(one.boxes, one.scores, people[:1])] * 36
    scenes = (scene((LEFT, 0)), *[scene((LEFT, 1))] * 35, scene((LEFT, 0)))
    query = Query(36, np.array(LEFT, np.float32), 0, np.arange(36))
    dataset = SceneDataset("copies", scenes, (query,) * 8, "", (10, 11))

    result = evaluate_search(dataset, [*copies, Detections.empty(96)], people)

    assert result.average_precisions.tolist() == [1 / 36] * 8
    assert result.first_right.tolist() == [0] * 8


def test_the_size_of_a_block_changes_nothing(monkeypatch):
    case = random_case(np.random.default_rng(3))
    whole = evaluate_search(*case)

    monkeypatch.setattr("models.evaluation.search.BLOCK", 7)

    assert evaluate_search(*case).average_precisions.tolist() == whole.average_precisions.tolist()


@pytest.mark.parametrize("seed", range(30))
def test_a_matching_has_the_largest_sum_of_weights(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 6, 2))
    weights = rng.uniform(-1, 1, shape) if seed % 2 else rng.integers(-2, 3, shape) / 2

    partners = match(weights)

    rows = np.flatnonzero(partners >= 0)
    assert len(rows) == len(set(partners[rows])) == min(shape)
    wide = weights if shape[0] <= shape[1] else weights.T
    most = max(
        sum(wide[i, j] for i, j in enumerate(columns))
        for columns in permutations(range(wide.shape[1]), wide.shape[0])
    )
    assert weights[rows, partners[rows]].sum() == pytest.approx(most)


def test_context_raises_the_person_whose_company_is_there():
    # Person 0 walks with somebody like (0, 1, 0). In the first scene they are together, in the
    # second a stranger who looks a little more like person 0 walks alone.
    def people(*rows):
        rows = np.array(rows, np.float32)
        boxes = np.array([LEFT, RIGHT][: len(rows)], np.float32)
        return Detections(boxes, np.ones(len(rows), np.float32), rows)

    scenes = (scene((LEFT, 0), (RIGHT, 1)), scene((LEFT, 2)), scene((LEFT, 0)))
    query = Query(2, np.array(LEFT, np.float32), 0, np.array([0, 1]))
    found = Found(
        scenes=("scene",) * 3,
        detections=(
            people((0.6, 0, 0.8), (0, 1, 0)),
            people((0.8, 0, 0.6)),
            people((1, 0, 0), (0, 1, 0)),
        ),
        query_scenes=np.array([2]),
        query_boxes=query.box[None],
        query_embeddings=np.array([[1, 0, 0]], np.float32),
    )
    dataset = SceneDataset("hand", scenes, (query,), "", (10, 11, 12))

    def score_with(cbgm):
        return evaluate.score(found, dataset, cbgm=cbgm)["search"]["map"]

    assert score_with(None) == 1 / 2
    assert score_with((3, 2)) == 1
    assert score_with((1, 2)) == 1 / 2, "only the stranger's scene is matched"
    assert score_with((3, 1)) == 1 / 2, "the person is matched without company"
