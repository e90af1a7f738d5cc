"""Between the two graphs: anchors, proposals and the final boxes, in NumPy.

Torch-free twins of what torchvision does inside its detectors, exact to the published network.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.boxes import Boxes, clip_boxes, nms

RPN_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
MAX_LOG_SCALE = math.log(1000 / 16)
MIN_PROPOSAL_SIDE = 1e-3
MIN_DETECTION_SIDE = 1e-2


@dataclass(frozen=True)
class ProposalRule:
    """Where the network looks and what it keeps.

    Attributes:
        anchor_sizes: square roots of the anchors' areas, in pixels of the network's input.
        anchor_ratios: height / width.
        stride: pixels of the input per cell of the feature map.
        before_nms, after_nms: how many candidates, and how many proposals at most.
        nms_iou: proposals that overlap a better one by more are dropped.
    """

    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    stride: int = 16
    before_nms: int = 6000
    after_nms: int = 300
    nms_iou: float = 0.7


def cell_anchors(rule: ProposalRule) -> NDArray[np.float32]:
    """Anchors [A, 4] of the cell at the origin, ratio by ratio, corners rounded half to even."""
    ratios = np.sqrt(np.array(rule.anchor_ratios, np.float32))
    sizes = np.array(rule.anchor_sizes, np.float32)
    widths = (1 / ratios[:, None] * sizes).reshape(-1)
    heights = (ratios[:, None] * sizes).reshape(-1)
    return np.round(np.stack([-widths, -heights, widths, heights], axis=1) / 2)


def anchors_of(height: int, width: int, rule: ProposalRule) -> NDArray[np.float32]:
    """All anchors [height · width · A, 4] of a feature map, in the order y, x, anchor."""
    x, y = np.meshgrid(np.arange(width) * rule.stride, np.arange(height) * rule.stride)
    shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4).astype(np.float32)
    return (shifts + cell_anchors(rule)).reshape(-1, 4)


def decode_boxes(
    deltas: NDArray[np.float32],
    references: NDArray[np.float32],
    weights: tuple[float, float, float, float],
) -> Boxes:
    """Boxes [N, 4] from deltas [N, 4] (dx dy dw dh) and the boxes that they are relative to.

    Reference:
        Girshick et al., Rich feature hierarchies, CVPR 2014, appendix C.
    """
    size = references[:, 2:] - references[:, :2]
    centre = references[:, :2] + 0.5 * size
    shift = deltas[:, :2] / np.array(weights[:2], np.float32)
    scale = np.minimum(deltas[:, 2:] / np.array(weights[2:], np.float32), np.float32(MAX_LOG_SCALE))
    new_centre = shift * size + centre
    half = 0.5 * np.exp(scale) * size
    return np.concatenate([new_centre - half, new_centre + half], axis=1).astype(np.float32)


def propose(
    objectness: NDArray[np.float32],
    deltas: NDArray[np.float32],
    size: tuple[int, int],
    rule: ProposalRule,
) -> tuple[Boxes, NDArray[np.float32]]:
    """The network's candidate boxes.

    Args:
        objectness: [h, w, A] logits.
        deltas: [h, w, A, 4].
        size: height and width of the resized picture without its padding.

    Returns:
        Boxes [R, 4] in pixels of the resized picture and their logits [R], best first.
    """
    height, width = objectness.shape[:2]
    logits = objectness.reshape(-1)
    best = np.argsort(-logits, kind="stable")[: rule.before_nms]
    anchors = anchors_of(height, width, rule)[best]
    boxes = decode_boxes(deltas.reshape(-1, 4)[best], anchors, RPN_WEIGHTS)
    boxes = clip_boxes(boxes, height=size[0], width=size[1])
    sides = boxes[:, 2:] - boxes[:, :2]
    wide = (sides >= MIN_PROPOSAL_SIDE).all(axis=1)
    boxes, logits = boxes[wide], logits[best][wide]
    kept = nms(boxes, logits, rule.nms_iou, keep=rule.after_nms)
    return boxes[kept], logits[kept]
