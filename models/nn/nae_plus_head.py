"""NAE+: every pixel of a region has a norm and an angle; they are scored before they are pooled."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.nn.joint import joint_count
from models.nn.projector import pixel_projector
from models.nn.sampling import SampledRegions

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0


class NaePlusHead(nn.Module):
    """Pixel-wise norm-aware embedding.

    Reference:
        Chen et al., Norm-Aware Embedding for Efficient Person Search, CVPR 2020, section 3.4.
    """

    def __init__(
        self,
        trunk_channels: int,
        head_channels: int,
        *,
        dim: int = 256,
        fuse: bool = True,
        focal: bool = False,
        published_labels: bool = False,
    ) -> None:
        """Make the layers.

        Args:
            trunk_channels, head_channels: of the maps that come in.
            dim: D.
            fuse: project the trunk's map as well, as NAE does; such a head can start from NAE's
                weights. Without it the box head's map alone makes the embedding.
            focal: weight the detection loss towards pixels that are still wrong.
            published_labels: label pixels as the published code does, faults included
                (see `pixel_labels`).
        """
        super().__init__()
        half = dim // 2 if fuse else 0
        projectors = {"feat_res5": pixel_projector(head_channels, dim - half)}
        if fuse:
            projectors = {"feat_res4": pixel_projector(trunk_channels, half), **projectors}
        self.projectors = nn.ModuleDict(projectors)
        self.rescaler = nn.BatchNorm2d(1)
        self.focal = focal
        self.published_labels = published_labels

    def forward(self, trunk_map: Tensor, head_map: Tensor) -> tuple[Tensor, Tensor]:
        """Describe regions.

        Args:
            trunk_map: [R, trunk_channels, h, w], aligned regions of the trunk's feature map.
            head_map: [R, head_channels, h', w'], what the box head made of them.

        Returns:
            Embeddings [R, dim], the mean of unit columns weighted by their pixels' scores, so
            shorter than 1; and the norm logit of each pixel [R, h', w'].
        """
        parts = [self.projectors["feat_res5"](head_map)]
        if "feat_res4" in self.projectors:
            fine = self.projectors["feat_res4"](trunk_map)
            parts.insert(0, _resized(fine, (head_map.shape[2], head_map.shape[3])))
        columns = torch.cat(parts, dim=1)
        norm = columns.norm(dim=1, keepdim=True)
        logits = self.rescaler(norm)
        embedding = (columns / norm.clamp(min=1e-12) * logits.sigmoid()).mean(dim=(2, 3))
        return embedding, logits.squeeze(1)

    def pool(self, head_map: Tensor) -> Tensor:
        """What the box regression sees: [R, head_channels]."""
        return head_map.mean(dim=(2, 3))

    def detection_loss(self, logits: Tensor, sampled: Sequence[SampledRegions]) -> Tensor:
        """Mean binary cross-entropy of all pixels [R, h, w] against where the person is."""
        size = (logits.shape[1], logits.shape[2])
        labels = []
        for part in sampled:
            of_part = pixel_labels(part.boxes, part.matched, size, published=self.published_labels)
            if not self.published_labels:
                of_part[~part.is_person] = 0
            labels.append(of_part)
        loss = pixel_loss(logits, torch.cat(labels), focal=self.focal)
        return loss.sum() / joint_count(logits.numel()).to(loss)

    def scores(self, logits: Tensor) -> Tensor:
        """Detection scores [R] in [0, 1] of one image's regions: the best has 1.

        The published code divides by the best of a whole batch, so that the scores of a picture
        depend on its company; at its test batch size of one that is the same.
        """
        raw = logits.sigmoid().mean(dim=(1, 2))
        return raw / raw.amax() if len(raw) else raw


def pixel_loss(logits: Tensor, labels: Tensor, *, focal: bool = False) -> Tensor:
    """Binary cross-entropy of each pixel; focal: scaled by α(1 − p)^γ, p the label's likelihood."""
    loss = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    if focal:
        loss = FOCAL_ALPHA * (1 - (-loss).exp()) ** FOCAL_GAMMA * loss
    return loss


def pixel_labels(
    boxes: Tensor, people: Tensor, size: tuple[int, int], *, published: bool = False
) -> Tensor:
    """Which part of each region a person covers, as labels of its pixels.

    A picture of the region, one value per pixel of the scene, is 1 where the person's box is; it is
    resized bilinearly.

    Args:
        boxes: [R, 4], the regions.
        people: [R, 4], the person's box of each.
        size: height and width of the labels.
        published: where a person is left of or above a region, the published code's slice ends at
            a negative index, which marks most of the region; otherwise nothing is marked.

    Returns:
        [R, height, width] in [0, 1].
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).ceil().long()
    first = (torch.maximum(boxes[:, :2], people[:, :2]) - boxes[:, :2]).floor().long()
    end = (torch.minimum(boxes[:, 2:], people[:, 2:]) - boxes[:, :2]).ceil().long() + 1
    if published:
        end = torch.where(end < 0, end + sides, end)
    height, width = size
    columns = _resized_run(first[:, 0], end[:, 0], sides[:, 0], width)
    rows = _resized_run(first[:, 1], end[:, 1], sides[:, 1], height)
    labels = rows[:, :, None] * columns[:, None, :]
    return labels * (sides > 0).all(dim=1)[:, None, None]


def _resized_run(first: Tensor, end: Tensor, length: Tensor, size: int) -> Tensor:
    """Lines [R, length] that are 1 from first up to before end and 0 elsewhere, resized to size.

    Bilinear resizing of a picture of a box is the product of two such lines.
    """
    last = (length - 1).clamp(min=0)[:, None]
    step = length[:, None].to(torch.float32) / size
    place = (step * (torch.arange(size, device=first.device) + 0.5) - 0.5).clamp(min=0)
    left = place.floor().long().minimum(last)
    right = (left + 1).minimum(last)
    share = place - left
    inside = [(first[:, None] <= at) & (at < end[:, None]) for at in (left, right)]
    return (1 - share) * inside[0] + share * inside[1]


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
