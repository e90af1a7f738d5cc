"""Identities as learned directions: a softmax over cosine similarities, with smoothed labels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.nn.joint import joint_count


class CosineSoftmaxLoss(nn.Module):
    """Cross-entropy against directions that are learned with the network, in the place of OIM.

    OIM's table holds what was seen of each person; with few people who are shown often, learned
    directions tell them apart after fewer steps. Nobody unlabeled is learned from.

    Reference:
        Wang et al., NormFace, 2017; label smoothing as in Luo et al., Bag of Tricks and a Strong
        Baseline for Deep Person Re-Identification, CVPR Workshops 2019.
    """

    def __init__(
        self,
        num_ids: int,
        *,
        dim: int = 256,
        queue_size: int = 0,
        scalar: float = 16.0,
        smoothing: float = 0.1,
    ) -> None:
        """Draw a direction for each identity.

        Args:
            num_ids: labeled identities, 0 … num_ids − 1.
            dim: length of an embedding.
            queue_size: not used: `OimLoss`'s, which this takes the place of.
            scalar: what similarities are multiplied by before the softmax.
            smoothing: share of each label that is spread over all identities.
        """
        super().__init__()
        self.scalar, self.smoothing = scalar, smoothing
        # Only their angles count; short ones turn faster.
        self.directions = nn.Parameter(torch.randn(num_ids, dim) * (0.2 / dim**0.5))

    def forward(self, embeddings: Tensor, person_ids: Tensor) -> Tensor:
        """Mean cross-entropy over the labeled people of the joint batch.

        Args:
            embeddings: [N, dim], of unit length or shorter.
            person_ids: [N], an identity or −1 for a person whom nobody named.

        Returns:
            A scalar; 0 when nobody is labeled.
        """
        labeled = person_ids >= 0
        count = joint_count(int(labeled.sum())).to(embeddings)
        if not labeled.any():
            return embeddings.sum() * 0 + self.directions.sum() * 0
        logits = self.scalar * embeddings[labeled] @ functional.normalize(self.directions).T
        loss = functional.cross_entropy(
            logits, person_ids[labeled], reduction="sum", label_smoothing=self.smoothing
        )
        return loss / count

    def update(self) -> None:
        """Nothing is remembered between steps."""
