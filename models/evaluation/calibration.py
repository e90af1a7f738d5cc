"""From the score of a hit to the share of wrong hits that score as high, on labelled people.

Compared are the boxes of labelled people in different scenes, each pair both ways, by what a search
would answer: the class-weighted similarity of one box's unit embedding, as the query, to the
other's gallery vector, rounded to 6 decimals. A pair of one label is genuine, a pair of two labels
an impostor. At a score, the false-match rate (FMR) is the share of the impostor comparisons that
score as much or more, the false-non-match rate (FNMR) that of the genuine ones that score less.

How far the rates might be off. Wilson's interval takes pairs for independent; the two ways of one
pair count as one. Pairs are not quite independent: one person is in many of them, and somebody who
looks like many others makes all of these pairs alike at once. Wilson's interval is therefore too
narrow: of 40 made-up people with 6 boxes each, it held the true rate in 6 of 10 runs instead of 19
of 20. Beside it, each threshold has the interval of people drawn anew, each with all of their
boxes, which held it in 99 of 100.

Both are about other people like those labelled, in scenes like theirs. A rate is that of one
comparison: a search in a gallery of n other people makes n of them, and may expect rate × n wrong
hits.

Reference:
    Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    Doddington et al., The NIST speaker recognition evaluation, Speech Communication 2000: the rule
    of 30. Hanley and Lippman-Hand, If nothing goes wrong, is everything all right?, JAMA 1983: the
    rule of three.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import CalibrationError
from models.evaluation.bootstrap import Estimate, estimate, resamples
from models.evaluation.pairs import PairCounts

TARGETS = (1e-2, 1e-3, 1e-4, 1e-5)

LEAST_PEOPLE = 20

MOST_BOXES = 10_000
"""Of more boxes, those of people drawn by chance are compared; these make 50 million pairs."""

LEAST_FALSE = 30
"""The rule of 30: a rate takes so many impostor pairs that 30 are beyond its threshold."""

LEAST_TOLD = 3
"""The rule of three: with n pairs, none of them beyond a score, the rate may still be 3 / n."""

STEPS = 10**6
"""Scores have 6 decimals, so that all of them can be counted one by one."""

ROWS_A_DECADE = 20
GENUINE_ROWS = 50
BLOCK = 2**20
Z = 1.959963984540054
"""Of 95 %, two-sided."""


@dataclass(frozen=True)
class Row:
    """The rates at a score; fnmr is None where no pair was genuine. Intervals are Wilson's."""

    score: float
    fmr: Estimate
    fnmr: Estimate | None


@dataclass(frozen=True)
class Threshold:
    """The lowest score whose false-match rate is at most a target.

    Attributes:
        target: in (0, 1).
        fmr: as measured there, with Wilson's interval; fmr_of_people has that of people drawn anew.
        fnmr: as measured there, with Wilson's interval; None where no pair was genuine.
    """

    target: float
    score: float
    fmr: Estimate
    fmr_of_people: Estimate
    fnmr: Estimate | None


@dataclass(frozen=True)
class Calibration:
    """Scores and their rates.

    Attributes:
        people, detections: how many were compared.
        impostor_pairs, genuine_pairs: how many pairs, each compared both ways.
        thresholds: by falling target.
        table: by rising score; the first row is that of score −1.
    """

    people: int
    detections: int
    impostor_pairs: int
    genuine_pairs: int
    thresholds: tuple[Threshold, ...]
    table: tuple[Row, ...]

    @property
    def least_target(self) -> float:
        """The smallest false-match rate that a threshold can be given for, by the rule of 30."""
        return LEAST_FALSE / self.impostor_pairs

    def fmr(self, score: float, *, tries: int = 1) -> float:
        """The false-match rate at a score: that of the highest row not above it.

        It is never below 3 / impostor_pairs, by the rule of three.

        Args:
            tries: how many queries had the chance to score as much; by the union bound, the rate
                of the best of them is at most so many times that of one.
        """
        row = self.table[bisect_right(self._scores, score) - 1]
        return min(1.0, tries * max(row.fmr.value, LEAST_TOLD / self.impostor_pairs))

    def score_at(self, rate: float, *, tries: int = 1) -> float:
        """The lowest score of the table whose false-match rate is at most a rate.

        Raises:
            CalibrationError: when there are too few pairs for the rate, divided by the tries.
        """
        require_pairs(self.impostor_pairs, rate / tries)
        return min(row.score for row in self.table if row.fmr.value <= rate / tries)

    @cached_property
    def _scores(self) -> list[float]:
        return [row.score for row in self.table]

    def as_json(self) -> dict[str, Any]:
        """What from_json reads."""
        return {
            "people": self.people,
            "detections": self.detections,
            "impostor_pairs": self.impostor_pairs,
            "genuine_pairs": self.genuine_pairs,
            "thresholds": [
                [one.target, one.score, *map(_flat, (one.fmr, one.fmr_of_people, one.fnmr))]
                for one in self.thresholds
            ],
            "table": [[row.score, _flat(row.fmr), _flat(row.fnmr)] for row in self.table],
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """What as_json made."""
        return cls(
            **content
            | {
                "thresholds": tuple(
                    Threshold(
                        target,
                        score,
                        Estimate(*fmr),
                        Estimate(*of_people),
                        fnmr and Estimate(*fnmr),
                    )
                    for target, score, fmr, of_people, fnmr in content["thresholds"]
                ),
                "table": tuple(
                    Row(score, Estimate(*fmr), fnmr and Estimate(*fnmr))
                    for score, fmr, fnmr in content["table"]
                ),
            }
        )


class ScoreCounts:
    """An exact histogram of the comparisons' scores, which have 6 decimals."""

    def __init__(self) -> None:
        self._counts = np.zeros(2 * STEPS + 2, np.int64)

    def add(self, scores: NDArray[np.floating]) -> None:
        """Count scores [N] in [−1, 1]."""
        places = np.rint(np.clip(scores, -1, 1).astype(np.float64) * STEPS).astype(np.int64)
        self._counts += np.bincount(places + STEPS, minlength=len(self._counts))

    def reaching(self) -> NDArray[np.int64]:
        """[2,000,002], how many score −1 + i / 10⁶ or more; the last is of a score above all."""
        return np.cumsum(self._counts[::-1])[::-1]


def calibrate(
    embeddings: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: Sequence[str],
    scenes: NDArray[np.int64],
    *,
    targets: Sequence[float] | None = None,
) -> Calibration:
    """Compare all labelled people across scenes.

    Args:
        embeddings: [N, D], unit length rows.
        scores: [N], detection scores in [0, 1].
        labels: N, who each is.
        scenes: [N], where each is.
        targets: rates in (0, 1) to have thresholds for; None is those of TARGETS that the pairs can
            support, one at least.

    Raises:
        CalibrationError: fewer than 20 people, or fewer impostor pairs than 30 / target.
    """
    names = sorted(set(labels))
    if len(names) < LEAST_PEOPLE:
        raise CalibrationError(
            f"{LEAST_PEOPLE} or more labelled people are needed, got {len(names)}.",
            limits={"least_people": LEAST_PEOPLE, "people": len(names)},
        )
    who = np.searchsorted(names, np.array(labels))
    chosen = _at_most(MOST_BOXES, who)
    embeddings, scores, scenes = embeddings[chosen], scores[chosen], scenes[chosen]
    people, who = np.unique(who[chosen], return_inverse=True)
    pairs = PairCounts(who, scenes)
    if targets is None:
        targets = [one for one in TARGETS if _needed(one) <= pairs.impostor] or TARGETS[:1]
    targets = sorted(set(targets), reverse=True)
    require_pairs(pairs.impostor, targets[-1])
    impostor, genuine = ScoreCounts(), ScoreCounts()
    for score, query, stored in _compared(embeddings, scores, scenes):
        same = who[query] == who[stored]
        impostor.add(score[~same])
        genuine.add(score[same])
    reached, kept = impostor.reaching(), genuine.reaching()
    thresholds = [threshold(reached, kept, target) for target in targets]
    lowest = min(one.score for one in thresholds)
    false: list[NDArray[np.float64]] = []
    for score, query, stored in _compared(embeddings, scores, scenes):
        own = (score >= lowest) & (who[query] != who[stored])
        false.append(np.stack([score[own], who[query[own]], who[stored[own]]]))
    over_people = [_of_people(one, np.concatenate(false, axis=1), pairs) for one in thresholds]
    return Calibration(
        people=len(people),
        detections=len(who),
        impostor_pairs=pairs.impostor,
        genuine_pairs=pairs.genuine,
        thresholds=tuple(over_people),
        table=table(reached, kept, also=[one.score for one in thresholds]),
    )


def require_pairs(impostor_pairs: int, target: float) -> None:
    """
    Raises:
        CalibrationError: a threshold for a rate takes 30 / rate impostor pairs: the rule of 30.
    """
    needed = _needed(target)
    if impostor_pairs < needed:
        raise CalibrationError(
            f"A false-match rate of {target:g} takes {needed:,} or more pairs of differently "
            f"labelled people in different scenes (30 / rate, the rule of 30), got "
            f"{impostor_pairs:,}.",
            limits={"least_impostor_pairs": needed, "impostor_pairs": impostor_pairs},
        )


def threshold(reached: NDArray[np.int64], kept: NDArray[np.int64], target: float) -> Threshold:
    """The lowest score whose false-match rate is at most a target; its intervals are Wilson's.

    Args:
        reached, kept: of the impostor and the genuine comparisons, as ScoreCounts.reaching tells.
    """
    (place,) = _lowest(reached, [target * reached[0]])
    fmr = _rate(reached[place], reached[0])
    return Threshold(target, _score(place), fmr, fmr, _missed(kept, place))


def table(
    reached: NDArray[np.int64], kept: NDArray[np.int64], *, also: Sequence[float] = ()
) -> tuple[Row, ...]:
    """Rows at false-match rates of 20 a decade, at 50 parts of the genuine scores, and elsewhere.

    Args:
        reached, kept: as `threshold` takes them.
        also: further scores to have rows at.
    """
    decades = math.log10(max(1, reached[0]))
    steps = np.arange(math.floor(decades * ROWS_A_DECADE) + 1) / ROWS_A_DECADE
    places = {0, *_lowest(reached, [*(reached[0] / 10**steps), 0])}
    if kept[0]:
        shares = np.arange(1, GENUINE_ROWS + 1) / GENUINE_ROWS
        places.update(_lowest(kept, kept[0] * (1 - shares)))
    places.update(round((score + 1) * STEPS) for score in also)
    return tuple(
        Row(_score(place), _rate(reached[place], reached[0]), _missed(kept, place))
        for place in sorted(places)
    )


def wilson(share: float, count: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of count independent things, in [0, 1]."""
    middle = share + Z**2 / (2 * count)
    reach = Z * math.sqrt(share * (1 - share) / count + (Z / (2 * count)) ** 2)
    scale = 1 + Z**2 / count
    # What is zero, or all, is so without rounding.
    low = 0.0 if share == 0 else max(0.0, (middle - reach) / scale)
    high = 1.0 if share == 1 else min(1.0, (middle + reach) / scale)
    return low, high


def _compared(
    embeddings: NDArray[np.float32], scores: NDArray[np.float32], scenes: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]]:
    """Each comparison of boxes in different scenes, in blocks: score, query and stored [M]."""
    every, weights = embeddings.astype(np.float64), scores.astype(np.float64)
    at_once = max(1, BLOCK // len(every))
    for start in range(0, len(every), at_once):
        rows = slice(start, start + at_once)
        similar = np.round(weights * (every[rows] @ every.T), 6)
        query, stored = np.nonzero(scenes[rows, None] != scenes[None])
        yield similar[query, stored], start + query, stored


def _of_people(one: Threshold, false: NDArray[np.float64], pairs: PairCounts) -> Threshold:
    """A threshold with its interval over resampled people.

    Args:
        false: [3, M], score and both people of each impostor comparison that may be above it.
    """
    first, second = false[1:, false[0] >= one.score].astype(np.int64)
    cells, times = np.unique(first * pairs.people + second, return_counts=True)
    first, second = np.divmod(cells, pairs.people)

    def rate(weights: NDArray[np.int64]) -> float:
        total = 2 * pairs.weighted(weights)
        return float((weights[first] * weights[second] * times).sum() / total) if total else np.nan

    rounds = np.array([rate(weights) for weights in resamples(pairs.people)])
    of_people = estimate(one.fmr.value, rounds)
    return Threshold(one.target, one.score, one.fmr, of_people, one.fnmr)


def _at_most(boxes: int, who: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which boxes [N] to compare: all, or those of randomly drawn people until there are enough."""
    counts = np.bincount(who)
    drawn = np.random.default_rng(0).permutation(len(counts))
    enough = max(LEAST_PEOPLE, int(np.searchsorted(np.cumsum(counts[drawn]), boxes, "right")))
    return np.flatnonzero(np.isin(who, drawn[:enough]))


def _needed(target: float) -> int:
    """How many impostor pairs a threshold for a rate takes."""
    return math.ceil(round(LEAST_FALSE / target, 6))


def _lowest(counts: NDArray[np.int64], most: ArrayLike) -> list[int]:
    """The first places at which at most so many are left; counts fall to 0."""
    places: list[int] = np.searchsorted(-counts, -np.asarray(most, np.float64)).tolist()
    return places


def _score(place: int) -> float:
    return round(place / STEPS - 1, 6)


def _rate(count: int, comparisons: int) -> Estimate:
    """A share of comparisons, of which each pair has two."""
    share = float(count / comparisons)
    return Estimate(share, *wilson(share, float(comparisons) / 2))


def _missed(kept: NDArray[np.int64], place: int) -> Estimate | None:
    return _rate(kept[0] - kept[place], kept[0]) if kept[0] else None


def _flat(rate: Estimate | None) -> list[float | None] | None:
    return None if rate is None else [rate.value, rate.low, rate.high]
