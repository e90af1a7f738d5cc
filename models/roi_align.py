"""RoIAlign in NumPy: two small matrix products per region, channels last."""

import numpy as np
from numpy.typing import NDArray

SAMPLES = 2  # per bin and direction


def roi_align(
    feature_map: NDArray[np.float32],
    boxes: NDArray[np.float32],
    roi_size: tuple[int, int],
    stride: int,
) -> NDArray[np.float32]:
    """Pool boxes from a feature map.

    Interpolation and averaging are linear and act on rows and columns separately, so each region
    is `rows @ map @ columns`; this equals torchvision's `roi_align(…, aligned=False)`.

    Args:
        feature_map: [h, w, C].
        boxes: [R, 4] in pixels of the network's input; sides below one cell are stretched to one.
        roi_size: bins in height and width.
        stride: pixels of the input per cell.

    Returns:
        [R, roi height, roi width, C] float32.

    Reference:
        He et al., Mask R-CNN, ICCV 2017, section 3.
    """
    height, width, channels = feature_map.shape
    out = np.empty((len(boxes), *roi_size, channels), np.float32)
    corners = boxes.astype(np.float32) / np.float32(stride)
    for i, (x1, y1, x2, y2) in enumerate(corners):
        rows, top = _weights(y1, max(y2 - y1, np.float32(1)), roi_size[0], height)
        columns, left = _weights(x1, max(x2 - x1, np.float32(1)), roi_size[1], width)
        patch = feature_map[top : top + rows.shape[1], left : left + columns.shape[1]]
        narrow = rows @ patch.reshape(len(patch), -1)
        out[i] = columns @ narrow.reshape(roi_size[0], -1, channels)
    return out


def _weights(
    start: np.float32, length: np.float32, bins: int, cells: int
) -> tuple[NDArray[np.float32], int]:
    """Weights [bins, n] of n neighbouring cells for each bin, and the first of these cells."""
    step = length / np.float32(bins * SAMPLES)
    position = start + (np.arange(bins * SAMPLES, dtype=np.float32) + np.float32(0.5)) * step
    inside = (position >= -1) & (position <= cells)
    position = np.clip(position, 0, cells - 1)
    lower = position.astype(np.int64)
    upper = np.minimum(lower + 1, cells - 1)
    share = position - lower
    first, last = int(lower.min()), int(upper.max())
    weights = np.zeros((bins * SAMPLES, last - first + 1), np.float32)
    sample = np.arange(bins * SAMPLES)
    weights[sample, lower - first] += np.where(inside, 1 - share, 0)
    weights[sample, upper - first] += np.where(inside, share, 0)
    return weights.reshape(bins, SAMPLES, -1).mean(axis=1), first
