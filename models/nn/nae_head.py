"""NAE: one vector per region whose angle is the identity and whose norm says "person"."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.nn.joint import joint_count
from models.nn.projector import TwoProjectors
from models.nn.sampling import SampledRegions


class NaeHead(nn.Module):
    """Norm-aware embedding: two projectors, of the trunk's and of the box head's max-pooled maps.

    Reference:
        Chen et al., Norm-Aware Embedding for Efficient Person Search, CVPR 2020, equations 1–3.
    """

    def __init__(self, trunk_channels: int, head_channels: int, *, dim: int = 256) -> None:
        super().__init__()
        self.projectors = TwoProjectors(trunk_channels, head_channels, dim)
        self.rescaler = nn.BatchNorm1d(1)

    def forward(self, trunk_map: Tensor, head_map: Tensor) -> tuple[Tensor, Tensor]:
        """Describe regions.

        Args:
            trunk_map: [R, trunk_channels, h, w], aligned regions of the trunk's feature map.
            head_map: [R, head_channels, h', w'], what the box head made of them.

        Returns:
            Unit embeddings [R, dim] and norm logits [R], whose sigmoid is the detection score.
        """
        embedding = self.projectors(trunk_map.amax(dim=(2, 3)), self.pool(head_map))
        norm = embedding.norm(dim=1, keepdim=True)
        return embedding / norm.clamp(min=1e-12), self.rescaler(norm).squeeze(1)

    def pool(self, head_map: Tensor) -> Tensor:
        """What the box regression sees: [R, head_channels]."""
        return head_map.amax(dim=(2, 3))

    def detection_loss(self, logits: Tensor, sampled: Sequence[SampledRegions]) -> Tensor:
        """Mean binary cross-entropy of the sampled regions against "holds a person"."""
        return person_loss(logits, sampled)

    def scores(self, logits: Tensor) -> Tensor:
        """Detection scores [R] in [0, 1] of one image's regions."""
        return logits.sigmoid()

    @torch.no_grad()
    def shift_scores(self, by: float) -> None:
        """Add to all logits, after training: their order stays, positive makes scores surer."""
        self.rescaler.bias += by


def person_loss(logits: Tensor, sampled: Sequence[SampledRegions]) -> Tensor:
    """Mean binary cross-entropy of person logits [R], over the joint batch."""
    is_person = torch.cat([part.is_person for part in sampled]).to(logits)
    loss = functional.binary_cross_entropy_with_logits(logits, is_person, reduction="sum")
    return loss / joint_count(len(logits)).to(loss)
