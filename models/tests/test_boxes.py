import numpy as np
import pytest

from models.boxes import box_area, box_iou, clip_boxes, nms


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(-20, 100, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0, 60, (count, 2))], 1).astype(np.float32)


def one_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def slow_nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> list[int]:
    left = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if one_iou(boxes[best], boxes[i]) <= iou_threshold]
    return kept


def test_overlaps_are_those_of_a_double_loop():
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 30), random_boxes(rng, 20)

    expected = [[one_iou(x, y) for y in b] for x in a]

    np.testing.assert_allclose(box_iou(a, b), expected, atol=1e-6)


def test_a_box_overlaps_itself_wholly_and_its_neighbour_not_at_all():
    boxes = np.array([[0, 0, 10, 10], [10, 0, 20, 10]], np.float32)

    assert box_iou(boxes, boxes).tolist() == [[1, 0], [0, 1]]


def test_empty_boxes_overlap_nothing_not_even_themselves():
    empty = np.array([[5, 5, 5, 5]], np.float32)

    assert box_iou(empty, empty).tolist() == [[0]]
    assert box_iou(empty, np.zeros((0, 4), np.float32)).shape == (1, 0)


def test_areas_are_continuous():
    assert box_area(np.array([[1, 2, 4, 6.5]], np.float32)).tolist() == [13.5]


def test_clipped_boxes_lie_in_the_picture_and_others_stay():
    boxes = np.array([[-5, -5, 300, 300], [10, 20, 30, 40]], np.float32)

    clipped = clip_boxes(boxes, height=100, width=200)

    assert clipped.tolist() == [[0, 0, 200, 100], [10, 20, 30, 40]]
    assert clipped.dtype == np.float32


@pytest.mark.parametrize("iou_threshold", [0.1, 0.4, 0.7])
def test_suppression_keeps_what_the_slow_way_keeps(iou_threshold):
    rng = np.random.default_rng(2)
    boxes, scores = random_boxes(rng, 120), rng.random(120).astype(np.float32)

    assert nms(boxes, scores, iou_threshold).tolist() == slow_nms(boxes, scores, iou_threshold)


def test_among_equal_scores_the_earlier_box_is_kept():
    boxes = np.array([[0, 0, 10, 10]] * 3, np.float32)

    assert nms(boxes, np.full(3, 0.5, np.float32), 0.5).tolist() == [0]


def test_suppression_stops_after_as_many_as_are_asked_for():
    rng = np.random.default_rng(3)
    boxes, scores = random_boxes(rng, 60), rng.random(60).astype(np.float32)

    assert nms(boxes, scores, 0.4, keep=5).tolist() == nms(boxes, scores, 0.4)[:5].tolist()


def test_nothing_is_kept_of_nothing():
    assert nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).tolist() == []
