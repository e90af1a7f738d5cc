"""How well people are found again: mAP and top-k accuracy over each query's gallery.

The protocol of CUHK-SYSU (Xiao et al., Joint Detection and Identification Feature Learning for
Person Search, CVPR 2017). Datasets supply the galleries; IOU_RULES say what a right box is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.boxes import box_iou
from models.datasets.scene import Query, SceneDataset
from models.detections import Detections
from models.errors import DatasetError
from models.similarity import gallery_vectors

TOP_K = (1, 5, 10)

IouRule = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""The least IoU [N] with which a detection is right, for boxes [N, 4] of the person."""


def half_iou(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """0.5, whatever the box."""
    return np.full(len(boxes), 0.5)


def cuhk_iou(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """CUHK-SYSU's rule, milder for small people: min(0.5, w·h / ((w + 10)·(h + 10)))."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return np.minimum(0.5, width * height / ((width + 10) * (height + 10)))


IOU_RULES: dict[str, IouRule] = {"half": half_iou, "cuhk": cuhk_iou}


@dataclass(frozen=True)
class SearchResult:
    """All in [0, 1]; average_precisions [Q] are those of the queries, map is their mean."""

    map: float
    top_1: float
    top_5: float
    top_10: float
    average_precisions: NDArray[np.float64]


def evaluate_search(
    dataset: SceneDataset,
    detections: Sequence[Detections],
    query_embeddings: NDArray[np.float32],
    *,
    class_weighted: bool = True,
    iou_rule: IouRule = half_iou,
    ignore_iou: float = 0.5,
) -> SearchResult | None:
    """mAP and top-k accuracy of ranking each gallery's detections by similarity to the query.

    For each box of the person in the gallery, of the detections in its scene that overlap it
    enough, only the most similar one is right; all others are wrong, further detections of the
    person too. A detection that overlaps an ignored box by `ignore_iou` or more, and the person not
    enough, is dropped; an ignored box of the person need not be found. AP is step-wise (detections
    of equal similarity enter together) and is divided by all the person's boxes in the gallery, so
    that a missed detection costs. Where top-k has to cut through equal similarities, the earlier
    scene, and in it the earlier detection, comes first.

    Args:
        detections: Of each scene of the dataset, in the same order.
        query_embeddings: [Q, D], unit length rows.
        class_weighted: Rank by score × cosine similarity, instead of cosine similarity alone.

    Returns:
        None where the dataset asks no queries.

    Raises:
        DatasetError: A query's person is nowhere in its gallery.
    """
    if len(detections) != len(dataset.scenes) or len(query_embeddings) != len(dataset.queries):
        raise ValueError(
            f"expected detections of {len(dataset.scenes)} scenes and "
            f"{len(dataset.queries)} query embeddings, "
            f"got {len(detections)} and {len(query_embeddings)}"
        )
    if not dataset.queries:
        return None
    vectors = [
        gallery_vectors(found) if class_weighted else found.embeddings for found in detections
    ]
    boxes = [found.boxes.astype(np.float64) for found in detections]
    neutral = [
        (box_iou(own, scene.boxes[scene.ignore].astype(np.float64)) >= ignore_iou).any(axis=1)
        for own, scene in zip(boxes, dataset.scenes, strict=True)
    ]
    average_precisions = np.zeros(len(dataset.queries))
    first_right = np.full(len(dataset.queries), np.inf)
    for number, (query, embedding) in enumerate(
        zip(dataset.queries, query_embeddings, strict=True)
    ):
        similarities: list[NDArray[np.float32]] = []
        right: list[NDArray[np.bool_]] = []
        positives = 0
        for index in query.gallery:
            similarity = vectors[index] @ embedding
            truth = _person_boxes(dataset, query, int(index))
            positives += len(truth)
            hits, near = _mark(similarity, box_iou(boxes[index], truth) >= iou_rule(truth))
            kept = near | ~neutral[index]
            similarities.append(similarity[kept])
            right.append(hits[kept])
        if positives == 0:
            raise DatasetError(
                f"{dataset.name}: query {number} looks for person {query.person_id}, "
                "who is in no scene of its gallery"
            )
        ranking = np.concatenate(similarities)
        labels = np.concatenate(right)
        average_precisions[number] = stepwise_ap(ranking, labels, positives)
        ranks = np.flatnonzero(labels[np.argsort(-ranking, kind="stable")])
        if len(ranks):
            first_right[number] = ranks[0]
    top_1, top_5, top_10 = (float(np.mean(first_right < k)) for k in TOP_K)
    return SearchResult(float(average_precisions.mean()), top_1, top_5, top_10, average_precisions)


def stepwise_ap(
    similarities: NDArray[np.floating], right: NDArray[np.bool_], positives: int
) -> float:
    """Average precision by steps, times recall: the sum of precision × step, over `positives`.

    Args:
        similarities: [N]; equal ones form one step.
        right: [N], which of them are right.
        positives: How many there are to be found, 1 or more.

    Reference:
        sklearn.metrics.average_precision_score, multiplied by right.sum() / positives.
    """
    order = np.argsort(-similarities, kind="stable")
    tied_with_next = np.append(np.diff(similarities[order]) == 0, False)[: len(order)]
    true = np.cumsum(right[order])[~tied_with_next]
    precision = true / (np.flatnonzero(~tied_with_next) + 1)
    return float(np.sum(np.diff(true, prepend=0) * precision)) / positives


def _person_boxes(dataset: SceneDataset, query: Query, index: int) -> NDArray[np.float64]:
    scene = dataset.scenes[index]
    wanted = (scene.person_ids == query.person_id) & ~scene.ignore
    boxes: NDArray[np.float64] = scene.boxes[wanted].astype(np.float64)
    return boxes


def _mark(
    similarity: NDArray[np.float32], overlapping: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of one scene's detections [N] are right, and which overlap the person enough."""
    right = np.zeros(len(similarity), dtype=np.bool_)
    for column in overlapping.T:
        candidates = np.flatnonzero(column & ~right)
        if len(candidates):
            right[candidates[np.argmax(similarity[candidates])]] = True
    return right, np.logical_or.reduce(overlapping, axis=1)
