"""What turns pooled region features into an embedding and a norm logit; one class per idea."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class NaeHead(nn.Module):
    """Norm-aware embedding: one vector whose angle is the identity and whose norm says "person".

    Two projectors, of the trunk's and of the box head's max-pooled features, are concatenated.

    Reference:
        Chen et al., Norm-Aware Embedding for Efficient Person Search, CVPR 2020, equations 1–3.
    """

    def __init__(self, trunk_channels: int, head_channels: int, *, dim: int = 256) -> None:
        super().__init__()
        half = dim // 2
        self.projectors = nn.ModuleDict(
            {
                "feat_res4": _projector(trunk_channels, half),
                "feat_res5": _projector(head_channels, dim - half),
            }
        )
        self.rescaler = nn.BatchNorm1d(1)

    def forward(self, trunk_map: Tensor, head_map: Tensor) -> tuple[Tensor, Tensor]:
        """Describe regions.

        Args:
            trunk_map: [R, trunk_channels, h, w], aligned regions of the trunk's feature map.
            head_map: [R, head_channels, h', w'], what the box head made of them.

        Returns:
            Unit embeddings [R, dim] and norm logits [R], whose sigmoid is the detection score.
        """
        parts = [
            self.projectors["feat_res4"](trunk_map.amax(dim=(2, 3))),
            self.projectors["feat_res5"](head_map.amax(dim=(2, 3))),
        ]
        embedding = torch.cat(parts, dim=1)
        norm = embedding.norm(dim=1, keepdim=True)
        return embedding / norm.clamp(min=1e-12), self.rescaler(norm).squeeze(1)


HEADS: dict[str, Callable[..., nn.Module]] = {"nae": NaeHead}


def _projector(inputs: int, outputs: int) -> nn.Sequential:
    linear, norm = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)
    for weight in (linear.weight, norm.weight):
        nn.init.normal_(weight, std=0.01)
    for bias in (linear.bias, norm.bias):
        nn.init.zeros_(bias)
    return nn.Sequential(linear, norm)
