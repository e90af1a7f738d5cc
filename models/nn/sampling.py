"""Which anchors and regions are learned from, and what a scene contributes to the losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class SampledRegions:
    """What one image contributes to the losses of the second half.

    Attributes:
        boxes: [R, 4] in pixels of the resized image.
        is_person: [R] bool.
        person_ids: [R], meaningful where is_person; −1 for a person whom nobody named.
        matched: [R, 4], the labelled box of each region; of background the image's first one,
            or an empty box where nobody is labelled.
        answers: [R, D], a teacher's answer about the person of each region, zeros where it has
            none and for background; None where no teacher was asked.
    """

    boxes: Tensor
    is_person: Tensor
    person_ids: Tensor
    matched: Tensor
    answers: Tensor | None = None


class BalancedSampler:
    """Draws positives up to a share, and negatives for the rest.

    A scene that comes with a seed draws the same candidates whoever shares its batch, and whichever
    process it is in; without one, torch's global generator decides.
    """

    def __init__(self, per_scene: int, positive_share: float) -> None:
        self.per_scene = per_scene
        self.most_positives = int(per_scene * positive_share)

    def __call__(
        self, labels: Sequence[Tensor], seeds: Sequence[int | None]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Masks of the positives and of the negatives that were drawn.

        Args:
            labels: per scene [N]: 1 or more is positive, 0 negative, less is left out.
            seeds: per scene.
        """
        positives, negatives = [], []
        for label, seed in zip(labels, seeds, strict=True):
            generator = None if seed is None else torch.Generator().manual_seed(seed)
            positive = _draw(label >= 1, self.most_positives, generator)
            rest = self.per_scene - int(positive.sum())
            positives.append(positive)
            negatives.append(_draw(label == 0, rest, generator))
        return positives, negatives


def scene_seed(target: Mapping[str, Any], *, part: int) -> int | None:
    """The seed for the draws of one half of the network, if the target has a "seed"."""
    seed = target.get("seed")
    return None if seed is None else 2 * int(seed) + part


def _draw(mask: Tensor, most: int, generator: torch.Generator | None) -> Tensor:
    """A mask of at most this many of the true places, drawn at random."""
    places = torch.where(mask)[0]
    order = torch.randperm(len(places), generator=generator)[:most]
    drawn = torch.zeros_like(mask)
    drawn[places[order.to(places.device)]] = True
    return drawn
