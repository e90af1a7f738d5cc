"""NAE whose embedding knows where on a person something was: a region's rows are pooled apart."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.nn.nae_head import NaeHead
from models.nn.projector import projector

PARTS = 6


class NaePartsHead(NaeHead):
    """Norm-aware embedding of a region's horizontal parts.

    Of the trunk's and of the box head's map, the means of six rows of equal height and the maximum
    of all are projected to the whole embedding each, and the two are added. NAE pools each map to
    one maximum and gives each half of the embedding, which keeps nothing of where a colour is, and
    leaves half of it to the shallower map alone.

    Reference:
        Sun et al., Beyond Part Models (PCB), ECCV 2018, for the rows.
    """

    def __init__(self, trunk_channels: int, head_channels: int, *, dim: int = 256) -> None:
        nn.Module.__init__(self)
        self.projectors = nn.ModuleDict(
            {
                "feat_res4": projector((PARTS + 1) * trunk_channels, dim),
                "feat_res5": projector((PARTS + 1) * head_channels, dim),
            }
        )
        self.rescaler = nn.BatchNorm1d(1)

    def forward(self, trunk_map: Tensor, head_map: Tensor) -> tuple[Tensor, Tensor]:
        """As of `NaeHead`."""
        embedding = self.projectors["feat_res4"](_parts(trunk_map))
        embedding = embedding + self.projectors["feat_res5"](_parts(head_map))
        norm = embedding.norm(dim=1, keepdim=True)
        return embedding / norm.clamp(min=1e-12), self.rescaler(norm).squeeze(1)


def _parts(feature_map: Tensor) -> Tensor:
    """Of maps [R, C, h, w] the rows' means and the maximum [R, (PARTS + 1) · C]."""
    shares = torch.from_numpy(_shares(int(feature_map.shape[2]))).to(feature_map)
    rows = (feature_map.mean(dim=3) @ shares).flatten(1)
    return torch.cat([rows, feature_map.amax(dim=(2, 3))], dim=1)


@cache
def _shares(height: int) -> NDArray[np.float32]:
    """How much each of so many rows counts in the mean of each part [height, PARTS].

    As adaptive pooling has it, which ONNX does not know: where the height is no multiple, a row
    at a border counts in both parts.
    """
    made = np.zeros((height, PARTS), np.float32)
    for part in range(PARTS):
        first, end = part * height // PARTS, -(-(part + 1) * height // PARTS)
        made[first:end, part] = 1 / (end - first)
    return made
