"""How well people are found: recall and average precision of boxes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.boxes import box_iou
from models.datasets.scene import Scene
from models.detections import Detections

ROUNDING_PX = 1e-2
"""What float32 corners may take from a height: a person of 40 px is not to become 39.99."""


@dataclass(frozen=True)
class DetectionResult:
    """recall and ap in [0, 1]; people, false_positives: how many counted."""

    recall: float
    ap: float
    people: int
    false_positives: int


def evaluate_detection(
    scenes: Sequence[Scene],
    detections: Sequence[Detections],
    *,
    iou: float = 0.5,
    ignore_iou: float = 0.3,
    min_height: float = 40.0,
) -> DetectionResult | None:
    """Recall and average precision of the detections, of all scenes together.

    In each scene the detections, best score first, take the person of the largest IoU that nobody
    has taken yet. Ignored people, and people below `min_height` pixels, are neutral: they need not
    be found, and a detection that takes nobody and has an IoU of `ignore_iou` or more with one of
    them is dropped. Scenes that are not exhaustive are left out.

    AP is the area under the precision–recall curve with all-point interpolation (PASCAL VOC 2010
    and later): the precision at a recall is the best at that recall or a larger one. Detections
    of equal score enter the curve together.

    Args:
        detections: of each scene, in the same order.

    Returns:
        None where there is nobody to be found.
    """
    scores: list[NDArray[np.float32]] = []
    right: list[NDArray[np.bool_]] = []
    people = 0
    for scene, found in zip(scenes, detections, strict=True):
        if not scene.exhaustive:
            continue
        heights = scene.boxes[:, 3] - scene.boxes[:, 1]
        neutral = scene.ignore | (heights < min_height - ROUNDING_PX)
        order = np.argsort(-found.scores, kind="stable")
        boxes = found.boxes[order].astype(np.float64)
        taken = _match(box_iou(boxes, scene.boxes[~neutral].astype(np.float64)), iou)
        near_neutral = box_iou(boxes, scene.boxes[neutral].astype(np.float64)) >= ignore_iou
        kept = taken | ~near_neutral.any(axis=1)
        scores.append(found.scores[order][kept])
        right.append(taken[kept])
        people += int(np.count_nonzero(~neutral))
    if people == 0:
        return None
    hits = np.concatenate(right)
    return DetectionResult(
        recall=float(np.count_nonzero(hits)) / people,
        ap=interpolated_ap(np.concatenate(scores), hits, people),
        people=people,
        false_positives=int(np.count_nonzero(~hits)),
    )


def interpolated_ap(
    scores: NDArray[np.floating], right: NDArray[np.bool_], positives: int
) -> float:
    """Area under the all-point interpolated precision–recall curve.

    Args:
        scores: [N].
        right: [N], which of them are right.
        positives: How many there are to be found, 1 or more.
    """
    order = np.argsort(-scores, kind="stable")
    tied_with_next = np.append(np.diff(scores[order]) == 0, False)[: len(order)]
    true = np.cumsum(right[order])[~tied_with_next]
    precision = true / (np.flatnonzero(~tied_with_next) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(true, prepend=0) * best_from_here)) / positives


def _match(overlaps: NDArray[np.floating], iou: float) -> NDArray[np.bool_]:
    """Which of the detections [N] take a person, in this order, given their overlaps [N, M]."""
    taken = np.zeros(len(overlaps), dtype=np.bool_)
    free = overlaps.copy()
    for index in range(len(free) if free.shape[1] else 0):
        person = int(np.argmax(free[index]))
        if free[index, person] >= iou:
            taken[index] = True
            free[:, person] = -1
    return taken
