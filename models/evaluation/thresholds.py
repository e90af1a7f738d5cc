"""Thresholds with a meaning: when two detections are likely one person, and a box is a person.

The similarity is chosen by a rate that is promised: so large a share of the pairs of different
people, at most, is called a likely match. Pairs that share a person are no independent evidence,
so that how sure the rate is comes from resampling people, not pairs.

A detection threshold is chosen for search: whoever is not kept, no search finds, while a box too
many takes room and is ranked low by its score. So it is that of the largest F2, in which recall
counts twice as much as precision.

Reference:
    Bolle et al., Error analysis of pattern recognition systems: the subsets bootstrap, CVIU 2004.
    van Rijsbergen, Information Retrieval, 1979, chapter 7: the F measure.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.datasets.scene import UNLABELED, SceneDataset
from models.detections import Detections
from models.errors import DatasetError
from models.evaluation.bootstrap import Estimate, estimate, percentiles, resamples
from models.evaluation.detection import Judged, judge
from models.evaluation.found import Found
from models.evaluation.pairs import PairCounts
from models.evaluation.protocols import PROTOCOLS
from models.model_card import AlikeRates, MatchRule

LEAST_PEOPLE = 20
LEAST_FALSE_PAIRS = 100
"""So many of the pairs of different people must be let through where the promised share is."""

SHARES = (0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5)
"""Of the pairs of different people, what `alike_rates` tells the similarity of."""
LEAST_ALIKE = 10
"""So many pairs must be more alike where a share is told."""

BETA = 2
"""How much more recall counts than precision when a detection threshold is chosen."""

BLOCK = 2**20
"""How many pairs are compared at a time: 8 MiB of float64."""


@dataclass(frozen=True)
class MatchRates:
    """How often a likely match is called wrongly, and how often it is missed.

    Attributes:
        false: the share of the pairs of different people above the similarity.
        missed: the share of the pairs of one person that are not.
        people, pairs, genuine_pairs: how many were measured: people, pairs of different people,
            pairs of one person.
    """

    false: Estimate
    missed: float
    people: int
    pairs: int
    genuine_pairs: int


@dataclass(frozen=True)
class DetectionThreshold:
    """The best score threshold for calling a box a person.

    Attributes:
        score: in [0, 1]; that of a person is larger.
        f2, precision, recall: in [0, 1], of the detections above it.
        people: how many there were to be found.
    """

    score: float
    f2: float
    precision: float
    recall: float
    people: int


def require_pairs(dataset: SceneDataset, *, rate: float) -> None:
    """Raise DatasetError early if there are too few people or pairs for `match_rule`."""
    _Pairs(dataset).require(rate)


def match_rule(found: Found, dataset: SceneDataset, *, rate: float = 0.01) -> MatchRule:
    """The smallest similarity that keeps the false match rate down, measured on a dataset.

    At it, the upper end of the 95 % interval of the false match rate, and the rate itself, are at
    most `rate`. Compared are labelled people of different scenes; the interval is that of
    resampled people, each round with all pairs of those drawn.

    Args:
        found: of the annotated boxes (gt_boxes).
        rate: in (0, 1).

    Raises:
        DatasetError: the dataset has other scenes or boxes, or too few people or pairs to tell.
    """
    found.check(dataset)
    pairs = _Pairs(dataset)
    pairs.require(rate)
    vectors = pairs.vectors(found)
    similarity = _smallest_similarity(pairs, vectors, rate)
    rates = _rates(pairs, vectors, similarity)
    low, high = rates.false.low, rates.false.high
    assert low is not None and high is not None  # every round has pairs where so many people have
    return MatchRule(
        similarity=similarity,
        false_match_rate=rate,
        measured_rate=rates.false.value,
        interval=(low, high),
        missed_match_rate=rates.missed,
        people=rates.people,
        pairs=rates.pairs,
        measured_on=dataset.name,
    )


def match_rates(found: Found, dataset: SceneDataset, similarity: float) -> MatchRates:
    """The error rates on a dataset if everything above a similarity is called a likely match.

    Args:
        found: of the annotated boxes (gt_boxes).
        similarity: cosine.

    Raises:
        DatasetError: the dataset has other scenes or boxes, or too few people or pairs to tell.
    """
    found.check(dataset)
    pairs = _Pairs(dataset)
    return _rates(pairs, pairs.vectors(found), similarity)


def alike_rates(found: Found, dataset: SceneDataset) -> AlikeRates | None:
    """From which similarity on how many of different people are as alike, measured on a dataset.

    Compared are labelled people of different cameras, or of different scenes where the dataset
    has one camera. A share is told where `LEAST_ALIKE` pairs or more are more alike.

    Args:
        found: of the annotated boxes (gt_boxes).

    Returns:
        None where there are too few pairs for any share.

    Raises:
        DatasetError: the dataset has other scenes or boxes, or too few people to tell.
    """
    found.check(dataset)
    cameras = np.unique([scene.camera for scene in dataset.scenes], return_inverse=True)[1]
    across = len(set(cameras.tolist())) > 1
    pairs = _Pairs(dataset, apart=cameras if across else None)
    told = [share for share in SHARES if share * pairs.count >= LEAST_ALIKE]
    if not told:
        return None
    best = _most_similar(pairs.compare(pairs.vectors(found)), int(told[0] * pairs.count) + 1)
    return AlikeRates(
        shares=tuple(told),
        similarities=tuple(float(best.similarity[int(share * pairs.count)]) for share in told),
        people=pairs.people,
        pairs=pairs.count,
        across_cameras=across,
        measured_on=dataset.name,
    )


def require_people(dataset: SceneDataset) -> None:
    """Raise DatasetError early if there are too few people for `detection_threshold`."""
    judged = _judge(dataset, [Detections.empty(1)] * len(dataset.scenes))
    if not any(len(own.people) for own in judged):
        raise DatasetError(
            f"{dataset.name}: expected people to be found, in scenes where everybody is "
            f"annotated; got none in {len(judged)} such scenes of {len(dataset.scenes)}"
        )


def detection_threshold(
    found: Found, dataset: SceneDataset, *, lowest: float
) -> DetectionThreshold:
    """The score threshold of the largest F2, by the dataset's own protocol.

    Of all thresholds that keep the same detections, it is one of few digits. Which one is best is
    read off a single matching; by a protocol whose matching heeds no scores, where weak detections
    may stand in the way of better ones, that is near the best.

    Args:
        found: detected with a low threshold.
        lowest: that threshold.

    Raises:
        DatasetError: the dataset has other scenes, nobody is to be found or nobody was.
    """
    found.check(dataset)
    require_people(dataset)
    judged = _judge(dataset, found.detections)
    people = sum(len(own.people) for own in judged)
    scores = np.concatenate([own.scores for own in judged])
    if not len(scores):
        raise DatasetError(f"{dataset.name}: nobody was found of {people} people to be found")
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    right = np.cumsum(np.concatenate([own.right for own in judged])[order])
    last = np.flatnonzero(np.append(scores[1:] < scores[:-1], True))  # of each score
    best = int(np.argmax(_f_measure(right[last], last + 1, people)))
    below = float(scores[last[best + 1]]) if best + 1 < len(last) else lowest
    threshold = _shortest(below, float(scores[last[best]]))
    above = _judge(dataset, [own.select(own.scores > threshold) for own in found.detections])
    hits = sum(int(np.count_nonzero(own.right)) for own in above)
    kept = sum(len(own.scores) for own in above)
    return DetectionThreshold(
        score=threshold,
        f2=float(_f_measure(hits, kept, people)),
        precision=hits / kept,
        recall=hits / people,
        people=people,
    )


@dataclass(frozen=True, eq=False)
class _Compared:
    """Pairs of boxes: similarity [K] float32; the people in them, first and second [K] int64."""

    similarity: NDArray[np.float32]
    first: NDArray[np.int64]
    second: NDArray[np.int64]

    def at(self, index: NDArray[Any]) -> Self:
        return type(self)(self.similarity[index], self.first[index], self.second[index])

    def joined(self, other: Self) -> Self:
        return type(self)(
            np.concatenate([self.similarity, other.similarity]),
            np.concatenate([self.first, other.first]),
            np.concatenate([self.second, other.second]),
        )


class _Pairs:
    """The labelled people of a dataset, to be compared across its scenes, or its cameras.

    Attributes:
        who: [N] which of the people each of their boxes shows; scene: [N] where; place: [N] which
            of the scene's boxes that are not ignored.
        people: how many there are.
        count, genuine: how many pairs of boxes that are compared: of different people, of one.
        weighted_count: PairCounts.weighted of those pairs.
    """

    def __init__(self, dataset: SceneDataset, *, apart: NDArray[np.int64] | None = None) -> None:
        """Gather them.

        Args:
            apart: [scenes]: boxes are compared where these differ; None: of different scenes.
        """
        annotated = [scene.person_ids[~scene.ignore] for scene in dataset.scenes]
        places = [np.flatnonzero(own != UNLABELED) for own in annotated]
        ids = [own[its] for own, its in zip(annotated, places, strict=True)]
        self._boxes = [len(own) for own in annotated]
        self._name = dataset.name
        people = np.unique(np.concatenate([np.zeros(0, np.int64), *ids]))
        self.people = len(people)
        if self.people < LEAST_PEOPLE:
            raise DatasetError(
                f"{dataset.name}: expected {LEAST_PEOPLE} or more labelled people to tell from, "
                f"got {self.people} in {len(dataset.scenes)} scenes"
            )
        self.who = np.searchsorted(people, np.concatenate(ids))
        scenes = np.arange(len(ids))
        counts = [len(own) for own in ids]
        self.scene = np.repeat(scenes, counts)
        self.apart = np.repeat(scenes if apart is None else apart, counts)
        self.place = np.concatenate(places)
        told = PairCounts(self.who, self.apart)
        self.count, self.genuine = told.impostor, told.genuine
        self.weighted_count = told.weighted
        if not self.genuine and apart is None:
            raise DatasetError(
                f"{dataset.name}: expected people who are in two scenes or more, "
                f"got {self.people} people in one each"
            )

    def require(self, rate: float) -> None:
        """Raises DatasetError where there are too few pairs to tell a false match rate from."""
        enough = LEAST_FALSE_PAIRS / rate
        if self.count < enough:
            raise DatasetError(
                f"{self._name}: a false match rate of {rate:g} takes {enough:,.0f} or more pairs "
                f"of different people in different scenes, got {self.count:,} of {self.people} "
                "people"
            )

    def vectors(self, found: Found) -> NDArray[np.float64]:
        """[N, D] embeddings of the people's boxes."""
        if not found.gt_boxes:
            raise ValueError("expected what was found of annotated boxes, got detected ones")
        for name, own, boxes in zip(found.scenes, found.detections, self._boxes, strict=True):
            if len(own) != boxes:
                raise DatasetError(
                    f"{self._name}: {name}: expected {len(own)} annotated boxes, as were "
                    f"described, got {boxes}"
                )
        first = np.cumsum([0, *self._boxes])[self.scene]
        every = np.concatenate([own.embeddings for own in found.detections])
        return every[first + self.place].astype(np.float64)

    def compare(self, vectors: NDArray[np.float64]) -> Iterator[_Compared]:
        """Each pair of boxes that are to be compared once, in blocks."""
        at_once = max(1, BLOCK // len(vectors))
        for start in range(0, len(vectors), at_once):
            rows = slice(start, start + at_once)
            similarity = np.clip(vectors[rows] @ vectors[start:].T, -1, 1)
            once = np.triu(self.apart[rows, None] != self.apart[None, start:], k=1)
            first, second = np.nonzero(once)
            # Rounded, so that what is equally similar is equal wherever it stands.
            rounded = similarity[once].astype(np.float32)
            yield _Compared(rounded, self.who[start + first], self.who[start + second])


def _most_similar(compared: Iterable[_Compared], count: int) -> _Compared:
    """The `count` most similar pairs of different people, best first."""
    best = _Compared(np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    for own in compared:
        other = own.first != own.second
        if len(best.similarity) == count:
            other &= own.similarity > best.similarity[-1]
        joined = best.joined(own.at(other))
        best = joined.at(np.argsort(-joined.similarity, kind="stable")[:count])
    return best


def _smallest_similarity(pairs: _Pairs, vectors: NDArray[np.float64], rate: float) -> float:
    """The smallest similarity whose false match rate, and its interval's upper end, are allowed.

    In each round the rate falls as the similarity rises, so each has a smallest similarity of its
    own. The upper end is allowed from the percentile of these on; it need not be looked for among
    pairs that are less similar than the sample's own.
    """
    best = _most_similar(pairs.compare(vectors), min(pairs.count, int(rate * pairs.count) + 2))

    def smallest(weights: NDArray[np.int64]) -> float:
        let_through = np.cumsum(weights[best.first] * weights[best.second])
        too_many = let_through / max(1, pairs.weighted_count(weights)) > rate
        return float(best.similarity[np.argmax(too_many) if too_many[-1] else -1])

    rounds = np.array([smallest(weights) for weights in resamples(pairs.people)])
    return max(smallest(np.ones(pairs.people, np.int64)), percentiles(rounds)[1])


def _rates(pairs: _Pairs, vectors: NDArray[np.float64], similarity: float) -> MatchRates:
    codes, times, missed = np.zeros(0, np.int64), np.zeros(0, np.int64), 0
    for own in pairs.compare(vectors):
        above, same = own.similarity > similarity, own.first == own.second
        missed += int(np.count_nonzero(same & ~above))
        false = own.at(above & ~same)
        every = np.concatenate([codes, false.first * pairs.people + false.second])
        every_times = np.concatenate([times, np.ones(len(every) - len(times), np.int64)])
        codes, places = np.unique(every, return_inverse=True)
        times = np.bincount(places, every_times, len(codes)).astype(np.int64)
    first, second = np.divmod(codes, pairs.people)

    def rate(weights: NDArray[np.int64]) -> float:
        total = pairs.weighted_count(weights)
        if not total:
            return np.nan
        return float((weights[first] * weights[second] * times).sum() / total)

    rounds = np.array([rate(weights) for weights in resamples(pairs.people)])
    return MatchRates(
        false=estimate(rate(np.ones(pairs.people, np.int64)), rounds),
        missed=missed / pairs.genuine,
        people=pairs.people,
        pairs=pairs.count,
        genuine_pairs=pairs.genuine,
    )


def _judge(dataset: SceneDataset, detections: Sequence[Detections]) -> list[Judged]:
    rules = PROTOCOLS[dataset.protocol]
    both = zip(dataset.scenes, detections, strict=True)
    judged = (judge(scene, own, protocol=rules) for scene, own in both)
    return [own for own in judged if own is not None]


def _f_measure(
    right: NDArray[np.int64] | int, kept: NDArray[np.int64] | int, people: int
) -> NDArray[np.float64] | float:
    """(1 + β²)·P·R / (β²·P + R), of how many are right and how many are kept."""
    return (1 + BETA**2) * right / (kept + BETA**2 * people)


def _shortest(below: float, above: float) -> float:
    """A number of few digits in [below, above), also after it is rounded to float32."""
    rounded = (round((below + above) / 2, digits) for digits in range(1, 8))
    return next((short for short in rounded if below <= np.float32(short) < above), below)
