"""What the numbers say of the published trends: yes, no or not settled, and by how much."""

from dataclasses import dataclass
from itertools import pairwise
from math import hypot, sqrt

import numpy as np

from models.model_card import PIXEL_HEADS
from models.reporting.outcome import Cell, Outcome
from models.reporting.words import (
    GROUND_TRUTH,
    HEAD_NAMES,
    HEADS,
    count_of_seeds,
    deviation,
    points,
    role_name,
)

YES, NO = "yes", "no"
NOT_SETTLED, NOT_MEASURED = "not settled", "not measured"


@dataclass(frozen=True)
class Trend:
    """A published trend, whether it appears here, and the figures that say so."""

    claim: str
    verdict: str
    says: str


@dataclass(frozen=True)
class Difference:
    """A difference of search mAP, in [0, 1].

    Attributes:
        mean: of the seeds' means, or of the seeds' own differences where they are paired.
        of_seeds: its standard deviation from seed to seed; None for one seed.
        paired: whether the same models are on both sides.
        of_queries: its standard error, had other queries been asked; None for fewer than two.
        seeds: how many.
    """

    mean: float
    of_seeds: float | None
    of_queries: float | None
    seeds: str
    paired: bool = False

    @property
    def spread(self) -> float:
        """The larger of the two; 0 where neither is known."""
        return max(self.of_seeds or 0.0, self.of_queries or 0.0)

    @property
    def settled(self) -> bool:
        """Whether it is larger than its spread, which between two heads takes several seeds."""
        known = self.paired or self.of_seeds is not None
        return known and abs(self.mean) > self.spread

    def __str__(self) -> str:
        parts = [f"{points(self.mean)} points of mAP"]
        if self.of_seeds is None:
            parts.append(f"{self.seeds}, so no spread over seeds")
        else:
            parts.append(f"± {100 * self.of_seeds:.1f} over {self.seeds}")
        if self.of_queries is not None:
            parts.append(f"± {100 * self.of_queries:.1f} over the queries")
        return ", ".join(parts)


def difference(more: Cell, less: Cell, *, paired: bool = False) -> Difference | None:
    """By how much one cell's search mAP is larger than another's; None where one is empty.

    Args:
        paired: the seeds of both are the same models, in the same order.
    """
    a, b = more.values("search", "map"), less.values("search", "map")
    if not a or not b:
        return None
    if paired:
        each = np.subtract(a, b)
        of_seeds = deviation(each.tolist()) if len(each) > 1 else None
        seeds = count_of_seeds(len(each))
    else:
        # Of two single runs: how far apart would another seed of each have come out.
        of_seeds = hypot(deviation(a), deviation(b)) if len(a) > 1 and len(b) > 1 else None
        seeds = f"{len(a)} and {count_of_seeds(len(b))}"
    own, other = (np.mean(cell.values("search", "ap"), axis=0) for cell in (more, less))
    by_query = own - other
    of_queries = deviation(by_query.tolist()) / sqrt(len(by_query)) if len(by_query) > 1 else None
    return Difference(float(np.mean(a) - np.mean(b)), of_seeds, of_queries, seeds, paired)


def trends(outcome: Outcome) -> list[Trend]:
    """Each published trend, on one dataset."""
    orders = [_order("re-identifier", outcome), _order("detector", outcome)]
    return trends_of_whole_models(outcome) + orders


def trends_of_whole_models(outcome: Outcome) -> list[Trend]:
    """The trends that compare whole models: boxes and embeddings of one model each."""
    found = [_trend("NAE has a higher search mAP than OIM", "nae", "oim", outcome)]
    for head in outcome.heads(PIXEL_HEADS) or PIXEL_HEADS[:1]:
        claim = f"{HEAD_NAMES[head]} is at least as good as NAE"
        found.append(_trend(claim, head, "nae", outcome))
    for head in outcome.heads():
        gain = difference(outcome.whole[head], outcome.unweighted[head], paired=True)
        found.append(_told(f"class-weighted similarity helps {HEAD_NAMES[head]}", gain))
    return found


def _trend(claim: str, more: str, less: str, outcome: Outcome) -> Trend:
    missing = [HEAD_NAMES[head] for head in (more, less) if head not in outcome.whole]
    if missing:
        return Trend(claim, NOT_MEASURED, f"no model of head {' or '.join(missing)} was given")
    return _told(claim, difference(outcome.whole[more], outcome.whole[less]))


def _told(claim: str, gain: Difference | None) -> Trend:
    if gain is None:
        return Trend(claim, NOT_MEASURED, "the dataset asks no queries")
    if not gain.settled:
        return Trend(claim, NOT_SETTLED, str(gain))
    return Trend(claim, YES if gain.mean > 0 else NO, str(gain))


def _order(role: str, outcome: Outcome) -> Trend:
    """Whether one role's heads keep their order whatever head plays the other role."""
    heads = outcome.heads(HEADS)
    as_detector = role == "detector"
    ranked = [*heads, GROUND_TRUTH] if as_detector else heads
    fixed = heads if as_detector else [*heads, GROUND_TRUTH]
    order = " ≤ ".join(role_name(head) for head in ranked)
    claim = f"as {role}: {order}, with any {'re-identifier' if as_detector else 'detector'}"
    if len(ranked) < 2:
        return Trend(f"the order of {role}s", NOT_MEASURED, "it takes models of two heads")
    kept = 0
    broken: list[tuple[str, Difference]] = []
    for other in fixed:
        for lower, upper in pairwise(ranked):
            more, less = (
                outcome.crossed.get((head, other) if as_detector else (other, head), Cell())
                for head in (upper, lower)
            )
            gain = difference(more, less)
            if gain is not None and gain.mean < 0:
                broken.append((f"{role_name(upper)} with {role_name(other)}", gain))
            elif gain is not None:
                kept += 1
    if kept + len(broken) == 0:
        return Trend(claim, NOT_MEASURED, "the dataset asks no queries")
    says = f"{kept} of {kept + len(broken)} neighbours in order"
    if broken:
        told = (f"{what} {points(gain.mean)} ± {100 * gain.spread:.1f}" for what, gain in broken)
        says += f"; not in order: {', '.join(told)}"
        if not any(gain.settled for _, gain in broken):
            return Trend(claim, NOT_SETTLED, says)
    return Trend(claim, NO if broken else YES, says)
