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

Matching = Callable[[NDArray[np.floating], NDArray[np.floating]], NDArray[np.int64]]
"""Whom each detection [N] finds, −1 for nobody, given overlaps with people [N, M], scores [N]."""


@dataclass(frozen=True)
class DetectionResult:
    """recall and ap in [0, 1]; people, false_positives: how many counted."""

    recall: float
    ap: float
    people: int
    false_positives: int


@dataclass(frozen=True, eq=False)
class Judged:
    """What became of one scene's detections and people.

    Attributes:
        detections: [K] int64, those that count, by their place in the scene's detections.
        scores: [K] float32, theirs.
        right: [K] bool, whether each finds a person.
        people: [M] int64, those to be found, by the place of their box in the scene.
        found: [M] bool, whether each is found.
    """

    detections: NDArray[np.int64]
    scores: NDArray[np.float32]
    right: NDArray[np.bool_]
    people: NDArray[np.int64]
    found: NDArray[np.bool_]


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
    judged = [
        own
        for scene, found in zip(scenes, detections, strict=True)
        if (own := judge(scene, found, protocol=protocol, only=only)) is not None
    ]
    people = sum(len(own.people) for own in judged)
    if people == 0:
        return None
    hits = np.concatenate([own.right for own in judged])
    average_precision = interpolated_ap if protocol.interpolated else stepwise_ap
    return DetectionResult(
        recall=float(np.count_nonzero(hits)) / people,
        ap=average_precision(np.concatenate([own.scores for own in judged]), hits, people),
        people=people,
        false_positives=int(np.count_nonzero(~hits)),
    )


def judge(
    scene: Scene,
    found: Detections,
    *,
    protocol: Protocol = SCENES,
    only: Collection[int] | None = None,
) -> Judged | None:
    """What became of one scene's detections and people, as `evaluate_detection` counts them.

    Args:
        only: the ids of the people to be found.

    Returns:
        None where the scene is left out: it is not exhaustive, or has nobody of `only`.
    """
    if not scene.exhaustive:
        return None
    heights = scene.boxes[:, 3] - scene.boxes[:, 1]
    neutral = scene.ignore | (heights < protocol.min_height - ROUNDING_PX)
    wanted = ~neutral
    if only is not None:
        wanted &= np.isin(scene.person_ids, np.array(sorted(only), np.int64))
        if not wanted.any():
            return None
    enough = np.flatnonzero(found.scores >= protocol.detection_min_score)
    boxes, scores = found.boxes[enough].astype(np.float64), found.scores[enough]
    people = np.flatnonzero(wanted)
    overlaps = box_iou(boxes, scene.boxes[people].astype(np.float64))
    finds = MATCHINGS[protocol.matching](overlaps, scores)
    near_neutral = (
        box_iou(boxes, scene.boxes[neutral].astype(np.float64)) >= protocol.detection_ignore_iou
    )
    kept = (finds >= 0) | ~near_neutral.any(axis=1)
    return Judged(
        detections=enough[kept],
        scores=scores[kept],
        right=finds[kept] >= 0,
        people=people,
        found=np.isin(np.arange(len(people)), finds),
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


def _greedy(overlaps: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Best score first, each detection takes the free person with the largest IoU."""
    finds = np.full(len(overlaps), -1, np.int64)
    free = overlaps.copy()
    for index in np.argsort(-scores, kind="stable") if free.shape[1] else ():
        person = int(np.argmax(free[index]))
        if free[index, person] >= MIN_IOU:
            finds[index] = person
            free[:, person] = -1
    return finds


def _mutual_best(overlaps: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Each takes the person of the largest IoU, if no detection overlaps that person more.

    Scores play no part. Among equal overlaps the earlier person and the earlier detection win.
    """
    finds = np.full(len(overlaps), -1, np.int64)
    if overlaps.size:
        rounded = overlaps.astype(np.float32)  # as published: overlaps that round alike are equal
        people = np.arange(rounded.shape[1])
        best = rounded.argmax(axis=0)
        chosen = (rounded.argmax(axis=1)[best] == people) & (rounded[best, people] >= MIN_IOU)
        finds[best[chosen]] = people[chosen]
    return finds


MATCHINGS: dict[str, Matching] = {"greedy": _greedy, "mutual_best": _mutual_best}
