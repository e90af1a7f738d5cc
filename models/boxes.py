"""Boxes are x1 y1 x2 y2 in pixels, continuous: width = x2 − x1."""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def box_area(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Areas [N] of boxes [N, 4]."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Intersection over union [N, M] of boxes [N, 4] and [M, 4]; 0 where both are empty."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.clip(bottom_right - top_left, 0, None)
    shared = sides[..., 0] * sides[..., 1]
    union = box_area(a)[:, None] + box_area(b)[None, :] - shared
    iou: NDArray[np.floating] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def clip_boxes(boxes: NDArray[np.float32], *, height: float, width: float) -> Boxes:
    """Boxes [N, 4] cut to a picture of the given size."""
    limit = np.array([width, height, width, height], np.float32)
    return np.clip(boxes, 0, limit).astype(np.float32)


def nms(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    iou_threshold: float,
    *,
    keep: int | None = None,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression.

    Args:
        boxes: [N, 4].
        scores: [N]; among equals the earlier box goes first.
        iou_threshold: a box is dropped when its IoU with a better kept one is larger.
        keep: stop after so many kept boxes.

    Returns:
        Indices of the kept boxes, best first.
    """
    order = np.argsort(-scores, kind="stable")
    sorted_boxes = boxes[order]
    areas = box_area(sorted_boxes)
    alive = np.ones(len(order), dtype=bool)
    kept: list[int] = []
    for i in range(len(order)):
        if not alive[i]:
            continue
        kept.append(int(order[i]))
        if keep is not None and len(kept) == keep:
            break
        rest = np.flatnonzero(alive[i + 1 :]) + i + 1
        others = sorted_boxes[rest]
        width = np.minimum(others[:, 2], sorted_boxes[i, 2]) - np.maximum(
            others[:, 0], sorted_boxes[i, 0]
        )
        height = np.minimum(others[:, 3], sorted_boxes[i, 3]) - np.maximum(
            others[:, 1], sorted_boxes[i, 1]
        )
        shared = np.clip(width, 0, None) * np.clip(height, 0, None)
        alive[rest[shared > iou_threshold * (areas[i] + areas[rest] - shared)]] = False
    return np.array(kept, dtype=np.int64)
