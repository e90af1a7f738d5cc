import numpy as np
import pytest
import torch
from torchvision.ops import roi_align as torchvision_roi_align

from models.roi_align import SAMPLES, roi_align

pytestmark = pytest.mark.torch

HEIGHT, WIDTH, STRIDE = 9, 14, 16


@pytest.fixture(scope="module")
def feature_map() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((HEIGHT, WIDTH, 5)).astype(np.float32)


def torchvision_s(feature_map, boxes, roi_size) -> np.ndarray:
    pooled = torchvision_roi_align(
        torch.from_numpy(feature_map).permute(2, 0, 1)[None],
        [torch.from_numpy(boxes)],
        roi_size,
        1 / STRIDE,
        sampling_ratio=SAMPLES,
    )
    return pooled.permute(0, 2, 3, 1).numpy()


def random_boxes(low: float, high: float, sides: float, count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(1)
    corner = rng.uniform(low, high, (count, 2))
    sides = rng.uniform(0, sides, (count, 2))
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)


@pytest.mark.parametrize("roi_size", [(14, 14), (12, 6), (1, 3)])
@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param(random_boxes(0, 120, 90), id="inside"),
        pytest.param(random_boxes(-200, 300, 150), id="partly or wholly outside"),
        pytest.param(random_boxes(0, 120, 0.5), id="tiny"),
        pytest.param(np.array([[0, 0, 16 * WIDTH, 16 * HEIGHT]], np.float32), id="everything"),
        pytest.param(np.array([[32, 48, 64, 96]], np.float32), id="on whole cells"),
        pytest.param(np.zeros((0, 4), np.float32), id="none"),
    ],
)
def test_regions_are_pooled_as_torchvision_does(feature_map, boxes, roi_size):
    ours = roi_align(feature_map, boxes, roi_size, STRIDE)

    assert ours.shape == (len(boxes), *roi_size, 5)
    np.testing.assert_allclose(ours, torchvision_s(feature_map, boxes, roi_size), atol=1e-5)


def test_an_even_map_is_even_after_pooling():
    even = np.full((HEIGHT, WIDTH, 2), 7, np.float32)

    pooled = roi_align(even, random_boxes(0, 60, 60), (6, 6), STRIDE)

    np.testing.assert_allclose(pooled, 7, rtol=1e-6)
