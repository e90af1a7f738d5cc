import math

import numpy as np
import pytest

from models.preprocess import (
    InputRule,
    prepare,
    prepare_around,
    prepare_at,
    prepare_crop,
    resized_size,
)

RULE = InputRule(min_size=64, max_size=128)


def slow_bilinear(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Half-pixel centres, each new pixel from its four neighbours."""

    def neighbours(place: int, old: int, new: int) -> tuple[int, int, float]:
        position = max((place + 0.5) * old / new - 0.5, 0)
        first = min(math.floor(position), old - 1)
        return first, min(first + 1, old - 1), position - first

    resized = np.empty(size)
    for y in range(size[0]):
        top, bottom, down = neighbours(y, plane.shape[0], size[0])
        for x in range(size[1]):
            left, right, along = neighbours(x, plane.shape[1], size[1])
            upper = plane[top, left] * (1 - along) + plane[top, right] * along
            lower = plane[bottom, left] * (1 - along) + plane[bottom, right] * along
            resized[y, x] = upper * (1 - down) + lower * down
    return resized


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, (900, 1200)),
        (900, 1500, (900, 1500)),
        (1080, 1920, (843, 1500)),
        (2000, 500, (1500, 375)),
        (1, 100_000, (1, 1500)),
    ],
)
def test_the_shorter_side_gets_its_size_unless_the_longer_would_be_too_long(
    height, width, expected
):
    assert resized_size(height, width, InputRule()) == expected


@pytest.mark.parametrize("size", [(37, 61), (20, 90), (11, 13), (24, 32)])
def test_pictures_are_resized_as_the_slow_way_does(size):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)

    prepared = prepare_at(pixels, size, RULE)

    for channel in range(3):
        normalized = (pixels[:, :, channel] / 255 - RULE.mean[channel]) / RULE.std[channel]
        np.testing.assert_allclose(
            prepared.pixels[channel, : size[0], : size[1]],
            slow_bilinear(normalized, size),
            atol=1e-4,
        )


def test_padding_is_the_mean_colour_and_fits_the_divisor(picture):
    prepared = prepare(picture(0, 100, 150), RULE)

    assert prepared.size == (64, 96)
    assert prepared.pixels.shape == (3, 64, 96)
    assert prepare(picture(0, 100, 151), RULE).pixels.shape == (3, 64, 96)
    wide = prepare(picture(0, 100, 155), RULE)
    assert wide.size == (64, 99)
    assert wide.pixels.shape == (3, 64, 128)
    assert not wide.pixels[:, :, 99:].any()
    assert wide.pixels.dtype == np.float32


def test_boxes_find_their_way_to_the_network_and_back(picture):
    prepared = prepare(picture(0, 100, 155), RULE)
    boxes = np.array([[0, 0, 155, 100], [10.5, 20, 30, 99.25]], np.float32)

    there = prepared.to_network(boxes)

    np.testing.assert_allclose(there[0], [0, 0, 99, 64], rtol=1e-6)
    np.testing.assert_allclose(prepared.to_original(there), boxes, rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(300, 100), (40, 20), (20, 4000), (2000, 8)])
def test_a_crop_of_a_person_gets_the_height_of_people_in_scenes(picture, height, width):
    prepared = prepare_crop(picture(0, height, width), InputRule(person_height=90, max_size=200))

    new_height, new_width = prepared.size
    assert new_height <= 90
    assert new_width <= 200
    assert 90 in (new_height, new_height + 1) or new_width in (199, 200)
    assert new_height == pytest.approx(new_width * height / width, abs=height / width + 1)


def test_the_same_picture_gives_the_same_input(picture):
    assert np.array_equal(prepare(picture(1), RULE).pixels, prepare(picture(1), RULE).pixels)


@pytest.mark.parametrize(
    "box", [(0, 0, 9, 12), (60, 40, 70, 60), (150, 100, 161, 113), (0, 0, 161, 113)]
)
def test_a_window_holds_what_the_whole_input_has_there(box):
    pixels = np.random.default_rng(0).integers(0, 256, (113, 161, 3), dtype=np.uint8)
    rule = InputRule(min_size=240, max_size=400)
    boxes = np.array([box], np.float32)

    whole = prepare(pixels, rule)
    window = prepare_around(pixels, boxes[0], rule, margin=40)

    left, top = window.origin
    height, width = window.pixels.shape[1:]
    assert [side % rule.size_divisor for side in (left, top, height, width)] == [0] * 4
    np.testing.assert_array_equal(
        window.pixels, whole.pixels[:, top : top + height, left : left + width]
    )
    np.testing.assert_allclose(
        window.to_network(boxes)[0] + [left, top] * 2, whole.to_network(boxes)[0], atol=1e-3
    )
    np.testing.assert_allclose(window.to_original(window.to_network(boxes)), boxes, atol=1e-3)
    (x1, y1, x2, y2), (rows, columns) = window.to_network(boxes)[0], whole.size
    assert x1 >= min(40, left + x1)
    assert y1 >= min(40, top + y1)
    assert width - x2 >= min(40, columns - left - x2)
    assert height - y2 >= min(40, rows - top - y2)
