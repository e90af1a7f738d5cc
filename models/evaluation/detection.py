"""How well people are found: recall and average precision of boxes."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.boxes import box_iou
from models.datasets.scene import Scene
from models.detections import Detections
from models.evaluation.protocols import SCENES, Protocol

MIN_IOU = 0.5
"""The least IoU of a detection with the person that it finds."""

ROUNDING_PX = 1e-2
"""What float32 corners may take from a height: a person of 40 px is not to become 39.99."""

Matching = Callable[[NDArray[np.floating], NDArray[np.floating]], NDArray[np.bool_]]
"""Which detections [N] are right, given their overlaps with people [N, M] and their scores [N]."""


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
    protocol: Protocol = SCENES,
    only: Collection[int] | None = None,
) -> DetectionResult | None:
    """Recall and average precision of the detections, of all scenes together.

    The protocol's matching says which detections of a scene find a person. Ignored people, and
    people below the protocol's height, are neutral: they need not be found, and a detection that
    finds nobody and overlaps one of them enough is dropped. Scenes that are not exhaustive are
    left out.

    AP is the area under the precision–recall curve; detections of equal score enter the curve
    together.

    Args:
        detections: of each scene, in the same order.
        only: the ids of the people to be found. A detection of anybody else is then wrong, and
            scenes without any of them are left out.

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
        neutral = scene.ignore | (heights < protocol.min_height - ROUNDING_PX)
        wanted = ~neutral
        if only is not None:
            wanted &= np.isin(scene.person_ids, np.array(sorted(only), np.int64))
            if not wanted.any():
                continue
        enough = found.scores >= protocol.detection_min_score
        boxes, own_scores = found.boxes[enough].astype(np.float64), found.scores[enough]
        overlaps = box_iou(boxes, scene.boxes[wanted].astype(np.float64))
        taken = MATCHINGS[protocol.matching](overlaps, own_scores)
        near_neutral = (
            box_iou(boxes, scene.boxes[neutral].astype(np.float64)) >= protocol.detection_ignore_iou
        )
        kept = taken | ~near_neutral.any(axis=1)
        scores.append(own_scores[kept])
        right.append(taken[kept])
        people += int(np.count_nonzero(wanted))
    if people == 0:
        return None
    hits = np.concatenate(right)
    average_precision = interpolated_ap if protocol.interpolated else stepwise_ap
    return DetectionResult(
        recall=float(np.count_nonzero(hits)) / people,
        ap=average_precision(np.concatenate(scores), hits, people),
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
    gained, precision = _steps(scores, right)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(gained * best_from_here)) / positives


def stepwise_ap(scores: NDArray[np.floating], right: NDArray[np.bool_], positives: int) -> float:
    """Average precision by steps, times recall: the sum of precision × step, over `positives`.

    Args:
        scores: [N], or similarities; equal ones form one step.
        right: [N], which of them are right.
        positives: How many there are to be found, 1 or more.

    Reference:
        sklearn.metrics.average_precision_score, multiplied by right.sum() / positives.
    """
    gained, precision = _steps(scores, right)
    return float(np.sum(gained * precision)) / positives


def _steps(
    scores: NDArray[np.floating], right: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each score that something right has, best first: how many have it, and the precision."""
    levels, gained = np.unique(scores[right], return_counts=True)
    levels, gained = levels[::-1], gained[::-1]
    as_good = len(scores) - np.searchsorted(np.sort(scores), levels, side="left")
    return gained, np.cumsum(gained) / as_good


def _greedy(overlaps: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Each, best score first, takes the person of the largest IoU that nobody has taken yet."""
    taken = np.zeros(len(overlaps), dtype=np.bool_)
    free = overlaps.copy()
    for index in np.argsort(-scores, kind="stable") if free.shape[1] else ():
        person = int(np.argmax(free[index]))
        if free[index, person] >= MIN_IOU:
            taken[index] = True
            free[:, person] = -1
    return taken


def _mutual_best(overlaps: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Each takes the person of the largest IoU, if no detection overlaps that person more.

    Scores play no part. Among equal overlaps the earlier person and the earlier detection win.
    """
    taken = np.zeros(len(overlaps), dtype=np.bool_)
    if overlaps.size:
        rounded = overlaps.astype(np.float32)  # as published: overlaps that round alike are equal
        people = np.arange(rounded.shape[1])
        best = rounded.argmax(axis=0)
        chosen = (rounded.argmax(axis=1)[best] == people) & (rounded[best, people] >= MIN_IOU)
        taken[best[chosen]] = True
    return taken


MATCHINGS: dict[str, Matching] = {"greedy": _greedy, "mutual_best": _mutual_best}
