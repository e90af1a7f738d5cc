"""Which boxes of one scene are the same person, as two models see it."""

import numpy as np
from numpy.typing import NDArray

from models.boxes import box_iou

SAME_IOU = 0.7


def paired(old: NDArray[np.floating], new: NDArray[np.floating]) -> dict[int, int]:
    """Pairs of boxes that overlap by SAME_IOU or more, best pairs first, each box in one at most.

    Args:
        old: [N, 4].
        new: [M, 4].

    Returns:
        Index in new to index in old.
    """
    overlap = box_iou(old, new)
    order = np.argsort(-overlap, axis=None, kind="stable")
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for i, j in zip(*np.unravel_index(order, overlap.shape), strict=True):
        if overlap[i, j] < SAME_IOU:
            break
        if int(i) not in taken and int(j) not in pairs:
            pairs[int(j)] = int(i)
            taken.add(int(i))
    return pairs


def overlapping(boxes: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.bool_]:
    """[N], which boxes [N, 4] overlap any of others [M, 4] by SAME_IOU or more."""
    same: NDArray[np.bool_] = np.any(box_iou(boxes, others) >= SAME_IOU, axis=1)
    return same
