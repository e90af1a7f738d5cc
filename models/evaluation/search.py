"""How well people are found again: mAP and top-k accuracy over each query's gallery.

The protocol of CUHK-SYSU (Xiao et al., Joint Detection and Identification Feature Learning for
Person Search, CVPR 2017). Datasets supply the galleries; models.evaluation.protocols says where
scorings differ; IOU_RULES say what a right box is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.boxes import box_iou
from models.datasets.scene import UNLABELED, SceneDataset
from models.detections import Detections
from models.errors import DatasetError
from models.evaluation.detection import stepwise_ap
from models.evaluation.protocols import SCENES, Protocol
from models.reranking.cbgm import Context, revise
from models.similarity import gallery_vectors

TOP_K = (1, 5, 10)

BLOCK = 2**22
"""How many similarities are computed at a time: 32 MiB of float64."""

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


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search over all queries scored.

    Attributes:
        map, top_1, top_5, top_10: In [0, 1].
        average_precisions: [Q] in [0, 1], of the queries; map is their mean.
        first_right: [Q], how many wrong hits come before the first right one; inf where none is.
    """

    map: float
    top_1: float
    top_5: float
    top_10: float
    average_precisions: NDArray[np.float64]
    first_right: NDArray[np.float64]


def evaluate_search(
    dataset: SceneDataset,
    detections: Sequence[Detections],
    query_embeddings: NDArray[np.float32],
    *,
    class_weighted: bool = True,
    protocol: Protocol = SCENES,
    iou_rule: IouRule | None = None,
    context: Context | None = None,
) -> SearchResult | None:
    """mAP and top-k accuracy of ranking each gallery's detections by similarity to the query.

    For each box of the person in the gallery, of the detections in its scene that overlap it
    enough, only the most similar one is right; all others are wrong, further detections of the
    person too. A detection that overlaps an ignored box by the protocol's IoU or more, and the
    person not enough, is dropped; an ignored box of the person need not be found. AP is step-wise
    (detections of equal similarity enter together) and is divided by all the person's boxes in the
    gallery, so that a missed detection costs. Where top-k has to cut through equal similarities,
    the earlier scene, and in it the earlier detection, comes first.

    Args:
        detections: Of each scene of the dataset, in the same order.
        query_embeddings: [Q, D], unit length rows.
        class_weighted: Rank by score × cosine similarity, instead of cosine similarity alone.
        iou_rule: Instead of the protocol's.
        context: Who stands with each query's person, to match the scenes of the best hits with.

    Returns:
        None where the dataset asks no queries.

    Raises:
        DatasetError: A query's person is nowhere in its gallery.
    """
    _check_counts(dataset, detections, query_embeddings)
    if not dataset.queries:
        return None
    average_precisions = np.zeros(len(dataset.queries))
    first_right = np.full(len(dataset.queries), np.inf)
    answered = _answered(
        dataset,
        detections,
        query_embeddings,
        class_weighted=class_weighted,
        protocol=protocol,
        iou_rule=iou_rule,
        context=context,
    )
    for number, own in enumerate(answered):
        average_precisions[number] = stepwise_ap(own.similarity, own.right, own.positives)
        first_right[number] = _first_right(own.similarity, own.right)
    return search_result(average_precisions, first_right)


def search_result(
    average_precisions: NDArray[np.float64], first_right: NDArray[np.float64]
) -> SearchResult:
    """The result of one or more queries [Q]."""
    top_1, top_5, top_10 = (float(np.mean(first_right < k)) for k in TOP_K)
    return SearchResult(
        float(average_precisions.mean()), top_1, top_5, top_10, average_precisions, first_right
    )


def evaluate_scenes(
    detections: Sequence[Detections],
    query_embeddings: NDArray[np.float32],
    galleries: Sequence[NDArray[np.int64]],
    truths: Sequence[NDArray[np.int64]],
) -> SearchResult | None:
    """mAP and top-k accuracy of ranking scenes by their most class-weighted similar detection.

    For truths that name the scenes a person is in, and not the person's boxes there. A scene in
    which nobody was found is no hit; where it is one of the truth, it is missed.

    Args:
        detections: Of each scene.
        query_embeddings: [Q, D], unit length rows.
        galleries: Of each query [G], the scenes to search.
        truths: Of each query [P], P ≥ 1, the scenes of its gallery that hold the person.

    Returns:
        None where there are no queries.
    """
    if not len(query_embeddings):
        return None
    vectors = np.concatenate([gallery_vectors(found) for found in detections])
    counts = np.array([len(found) for found in detections])
    starts = np.cumsum(counts) - counts
    seen = np.flatnonzero(counts)
    average_precisions = np.zeros(len(query_embeddings))
    first_right = np.full(len(query_embeddings), np.inf)
    for number, to_all in enumerate(_similarities(query_embeddings, vectors)):
        best = np.full(len(detections), -np.inf, np.float32)
        if len(seen):
            best[seen] = np.maximum.reduceat(to_all, starts[seen])
        gallery = galleries[number][counts[galleries[number]] > 0]
        right = np.isin(gallery, truths[number])
        positives = len(truths[number])
        average_precisions[number] = stepwise_ap(best[gallery], right, positives)
        first_right[number] = _first_right(best[gallery], right)
    return search_result(average_precisions, first_right)


@dataclass(frozen=True, eq=False)
class Ranking:
    """A query's hits, the most similar first; ties are ordered as in `evaluate_search`.

    Attributes:
        scenes: [M] int64, the scene of each hit.
        detections: [M] int64, which of the scene's detections it is.
        similarity: [M] float32.
        right: [M] bool.
    """

    scenes: NDArray[np.int64]
    detections: NDArray[np.int64]
    similarity: NDArray[np.float32]
    right: NDArray[np.bool_]


def rankings(
    dataset: SceneDataset,
    detections: Sequence[Detections],
    query_embeddings: NDArray[np.float32],
    *,
    class_weighted: bool = True,
    protocol: Protocol = SCENES,
) -> Iterator[Ranking]:
    """Each query's hits in turn, right and wrong by the rules of `evaluate_search`.

    Raises:
        DatasetError: A query's person is nowhere in its gallery.
    """
    _check_counts(dataset, detections, query_embeddings)
    for own in _answered(
        dataset, detections, query_embeddings, class_weighted=class_weighted, protocol=protocol
    ):
        order = np.argsort(-own.similarity, kind="stable")
        scenes, places = own.where[order].T
        yield Ranking(scenes, places, own.similarity[order], own.right[order])


class _Answered(NamedTuple):
    """What a query's gallery gives, in its order, without what is dropped.

    Attributes:
        where: [M, 2] int64, scene and place in its detections.
        similarity, right: [M].
        positives: How many of the person's boxes are to be found.
    """

    where: NDArray[np.int64]
    similarity: NDArray[np.float32]
    right: NDArray[np.bool_]
    positives: int


def _answered(
    dataset: SceneDataset,
    detections: Sequence[Detections],
    query_embeddings: NDArray[np.float32],
    *,
    class_weighted: bool,
    protocol: Protocol,
    iou_rule: IouRule | None = None,
    context: Context | None = None,
) -> Iterator[_Answered]:
    truths = answers(dataset)
    rows = _Rows(
        dataset,
        detections,
        class_weighted=class_weighted,
        protocol=protocol,
        iou_rule=iou_rule or IOU_RULES[protocol.iou_rule],
    )
    for number, to_all in enumerate(_similarities(query_embeddings, rows.vectors)):
        gallery, truth = dataset.queries[number].gallery, truths[number]
        if protocol.one_box:
            truth = truth[np.unique(truth[:, 0], return_index=True)[1]]
        positives = len(truth)
        if protocol.repeated_scenes == "once":
            gallery, truth = _each_scene_once(gallery, truth)
        starts, own = rows.of_gallery(gallery)
        similarity = to_all[own]
        if context is not None:
            similarity = revise(similarity, starts, rows.vectors, own, context, number)
        right, kept = rows.mark(gallery, truth, starts, own, similarity)
        yield _Answered(rows.where[own[kept]], similarity[kept], right[kept], positives)


def _check_counts(
    dataset: SceneDataset, detections: Sequence[Detections], query_embeddings: NDArray[np.float32]
) -> None:
    if len(detections) != len(dataset.scenes) or len(query_embeddings) != len(dataset.queries):
        raise ValueError(
            f"expected detections of {len(dataset.scenes)} scenes and "
            f"{len(dataset.queries)} query embeddings, "
            f"got {len(detections)} and {len(query_embeddings)}"
        )


def answers(dataset: SceneDataset) -> list[NDArray[np.int64]]:
    """Where each query's person is to be found.

    Returns:
        Of each query [P, 2], P ≥ 1: place in its gallery, index of the box in the scene there.

    Raises:
        DatasetError: A query's person is nowhere in its gallery.
    """
    everywhere: dict[int, list[tuple[int, int]]] = {}
    for index, scene in enumerate(dataset.scenes):
        for box in np.flatnonzero((scene.person_ids != UNLABELED) & ~scene.ignore).tolist():
            everywhere.setdefault(int(scene.person_ids[box]), []).append((index, box))
    where = {person: np.array(boxes, np.int64) for person, boxes in everywhere.items()}
    nowhere = np.zeros((0, 2), np.int64)
    found = []
    for number, query in enumerate(dataset.queries):
        truth = query.truth
        if truth is None:
            scenes, boxes = where.get(query.person_id, nowhere).T
            places = np.flatnonzero(np.isin(query.gallery, scenes))
            own = [boxes[scenes == query.gallery[place]] for place in places]
            counts = [len(some) for some in own]
            truth = np.column_stack([np.repeat(places, counts), np.concatenate([boxes[:0], *own])])
        if len(truth) == 0:
            raise DatasetError(
                f"{dataset.name}: query {number} looks for person {query.person_id}, "
                "who is in no scene of its gallery"
            )
        found.append(truth)
    return found


class _Rows:
    """The detections of all scenes, one below another.

    Attributes:
        vectors: [N, D], what is compared with a query.
        neutral: [N], those that an ignored box is under.
        starts: [S + 1], the row where each scene begins.
        where: [N, 2] int64, scene and place in its detections.
    """

    def __init__(
        self,
        dataset: SceneDataset,
        detections: Sequence[Detections],
        *,
        class_weighted: bool,
        protocol: Protocol,
        iou_rule: IouRule,
    ) -> None:
        self._scenes = dataset.scenes
        self._iou_rule = iou_rule
        self._known: dict[tuple[int, int], NDArray[np.int64]] = {}
        kept = [found.scores >= protocol.search_min_score for found in detections]
        counts = [np.count_nonzero(own) for own in kept]
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        places = np.concatenate([np.flatnonzero(own) for own in kept])
        self.where = np.column_stack([np.repeat(np.arange(len(kept)), counts), places])
        self.vectors = np.concatenate(
            [
                (gallery_vectors(found) if class_weighted else found.embeddings)[own]
                for found, own in zip(detections, kept, strict=True)
            ]
        )
        self._boxes = [
            found.boxes[own].astype(np.float64) for found, own in zip(detections, kept, strict=True)
        ]
        self.neutral = np.concatenate(
            [
                (
                    box_iou(own, scene.boxes[scene.ignore].astype(np.float64))
                    >= protocol.search_ignore_iou
                ).any(axis=1)
                for own, scene in zip(self._boxes, dataset.scenes, strict=True)
            ]
        )

    def of_gallery(self, gallery: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows [M] of a gallery's scenes [G] in their order; where among them each begins [G]."""
        first = self.starts[gallery]
        counts = self.starts[gallery + 1] - first
        begin = np.cumsum(counts) - counts
        return begin, np.arange(counts.sum()) + np.repeat(first - begin, counts)

    def mark(
        self,
        gallery: NDArray[np.int64],
        truth: NDArray[np.int64],
        starts: NDArray[np.int64],
        own: NDArray[np.int64],
        similarity: NDArray[np.float32],
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which of a gallery's rows [M] are right, and which count at all.

        Args:
            truth: [P, 2], place in the gallery, index of the box there.
            starts, own: As `of_gallery` tells them.
        """
        right = np.zeros(len(own), dtype=np.bool_)
        near = np.zeros(len(own), dtype=np.bool_)
        for place, box in truth.tolist():
            overlapping = starts[place] + self._overlapping(int(gallery[place]), box)
            near[overlapping] = True
            free = overlapping[~right[overlapping]]
            if len(free):
                right[free[np.argmax(similarity[free])]] = True
        return right, near | ~self.neutral[own]

    def _overlapping(self, scene: int, box: int) -> NDArray[np.int64]:
        """Which detections of a scene overlap one of its boxes enough."""
        known = self._known.get((scene, box))
        if known is None:
            truth = self._scenes[scene].boxes[[box]].astype(np.float64)
            enough = box_iou(self._boxes[scene], truth) >= self._iou_rule(truth)
            known = self._known[scene, box] = np.flatnonzero(enough[:, 0])
        return known


def _similarities(
    queries: NDArray[np.float32], vectors: NDArray[np.float32]
) -> Iterator[NDArray[np.float32]]:
    """Of each query [D] in turn: its similarity [N] to every vector.

    Summed in float64 and rounded, so that equal rows are equally similar wherever they stand:
    the order in which a matrix product sums depends on the place.
    """
    at_once = max(1, BLOCK // max(1, len(vectors)))
    width = max(1, BLOCK // vectors.shape[1])
    for start in range(0, len(queries), at_once):
        some = queries[start : start + at_once].astype(np.float64)
        block = np.empty((len(some), len(vectors)), np.float32)
        for left in range(0, len(vectors), width):
            part = vectors[left : left + width].astype(np.float64)
            block[:, left : left + width] = some @ part.T
        yield from block


def _first_right(similarity: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """How many rank before the first right one, the earlier first among equals; inf for none."""
    if not right.any():
        return np.inf
    best = similarity[right].max()
    position = np.flatnonzero(right & (similarity == best))[0]
    before = np.count_nonzero(similarity[:position] == best)
    return float(np.count_nonzero(similarity > best) + before)


def _each_scene_once(
    gallery: NDArray[np.int64], truth: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A gallery without the repetitions of a scene, and the truth at the places that are left."""
    first = np.sort(np.unique(gallery, return_index=True)[1])
    truth = truth[np.isin(truth[:, 0], first)]
    return gallery[first], np.column_stack([np.searchsorted(first, truth[:, 0]), truth[:, 1]])
