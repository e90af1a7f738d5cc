"""Degraded scenes: what is done to them, and that it is done at random alone."""

import numpy as np
import pytest

pytest.importorskip("torch")

from service.train import augment
from service.train.augment import degraded

BOXES = np.array([[30, 20, 70, 120], [90, 40, 130, 110], [150, 60, 190, 140]], np.float32)
NOBODY = np.zeros((0, 4), np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


def ramp():
    """[160, 220, 3] of all levels, every colour in many places."""
    rows, columns = np.indices((160, 220))
    return np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)


@pytest.fixture
def only(monkeypatch):
    """Lets one of the harms be done always, and the others never."""

    def allow(*harms):
        for name in ("BLURRED", "NOISY", "COMPRESSED", "HIDDEN"):
            monkeypatch.setattr(augment, name, 1.0 if name in harms else 0.0)

    return allow


def test_the_same_seed_degrades_alike_and_what_is_given_stays():
    pixels, boxes = ramp(), BOXES.copy()

    shown = [degraded(pixels, boxes, rng(seed)) for seed in (1, 1, 2)]

    assert np.array_equal(shown[0], shown[1])
    assert not np.array_equal(shown[0], shown[2])
    assert {(one.shape, one.dtype.name) for one in shown} == {((160, 220, 3), "uint8")}
    assert np.array_equal(pixels, ramp()) and np.array_equal(boxes, BOXES)


def test_a_scene_of_nobody_is_degraded_too():
    assert not np.array_equal(degraded(ramp(), NOBODY, rng()), ramp())


def looked_up(pixels, shown, where):
    """Of each channel what each level became, [256]; −1 where it became several, −2 where none."""
    tables = np.full((3, 256), -2)
    for channel in range(3):
        for level in range(256):
            became = np.unique(shown[..., channel][where & (pixels[..., channel] == level)])
            if len(became):
                tables[channel, level] = became[0] if len(became) == 1 else -1
    return tables


def test_other_light_keeps_the_order_of_levels_and_is_never_extreme(only):
    only()
    pixels, grey = ramp(), np.full((4, 4, 3), 128, np.uint8)

    tables = looked_up(pixels, degraded(pixels, BOXES, rng(3)), np.ones((160, 220), bool))
    levels = np.array([degraded(grey, NOBODY, rng(seed))[0, 0] for seed in range(60)], int)

    assert (tables != -1).all()
    for table in tables:
        assert (np.diff(table[table >= 0]) >= 0).all()
    assert 60 < levels.min() < 110 and 145 < levels.max() < 190
    assert np.ptp(levels, axis=1).max() > 4  # a tint


def test_of_people_a_part_of_their_box_is_hidden_by_one_colour(only):
    only("HIDDEN")
    pixels = ramp()
    for seed in range(12):
        shown = degraded(pixels, BOXES, rng(seed))

        outside = np.ones((160, 220), bool)
        for x1, y1, x2, y2 in BOXES.astype(int):
            outside[y1:y2, x1:x2] = False
        tables = looked_up(pixels, shown, outside)
        assert (tables != -1).all()
        for x1, y1, x2, y2 in BOXES.astype(int):
            box = np.s_[y1:y2, x1:x2]
            kept = tables[np.arange(3), pixels[box]]
            hidden = ((shown[box] != kept) & (kept >= 0)).any(axis=2)
            rows, columns = np.flatnonzero(hidden.any(axis=1)), np.flatnonzero(hidden.any(axis=0))
            block = shown[box][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert len(np.unique(block.reshape(-1, 3), axis=0)) == 1
            share = block.shape[0] * block.shape[1] / hidden.size
            assert 0.02 < share < 0.4


def test_about_a_quarter_of_the_people_is_hidden(only, monkeypatch):
    only()
    monkeypatch.setattr(augment, "HIDDEN", 0.25)
    many = np.repeat(BOXES[:1], 400, axis=0)
    hidden = []
    monkeypatch.setattr(augment, "_hide_part", lambda pixels, box, rng: hidden.append(box))

    degraded(ramp(), many, rng())

    assert 75 < len(hidden) < 125


def test_people_beyond_the_edge_are_no_trouble(only):
    only("HIDDEN")
    beyond = np.array([[-40, -30, 10, 20], [200, 140, 300, 260], [400, 10, 440, 90]], np.float32)

    for seed in range(20):
        assert degraded(ramp(), beyond, rng(seed)).shape == (160, 220, 3)


def test_noise_is_seen_on_a_plain_wall(only):
    only("NOISY")
    wall = np.full((60, 60, 3), 128, np.uint8)

    deviations = [degraded(wall, NOBODY, rng(seed)).std(axis=(0, 1)).mean() for seed in range(20)]

    assert 1.5 < min(deviations) < 4 and 6 < max(deviations) < 10


def edges(pixels):
    """How much neighbours differ."""
    return np.abs(np.diff(pixels.astype(int), axis=1)).mean()


def test_blur_softens_edges(only):
    board = (np.indices((60, 60)).sum(axis=0) // 4 % 2 * 200 + 20).astype(np.uint8)
    board = board[..., None].repeat(3, axis=2)
    for seed in range(10):
        only()
        sharp = degraded(board, NOBODY, rng(seed))
        only("BLURRED")
        soft = degraded(board, NOBODY, rng(seed))

        assert edges(soft) < 0.97 * edges(sharp)
        assert soft.mean() == pytest.approx(sharp.mean(), abs=6)


def test_compression_loses_fine_detail_and_keeps_the_picture(only):
    detail = rng().integers(0, 256, (64, 64, 1), dtype=np.uint8).repeat(3, axis=2)
    plain = np.full((64, 64, 3), 128, np.uint8)
    for seed in range(10):
        only()
        whole = degraded(detail, NOBODY, rng(seed))
        only("COMPRESSED")
        lost, flat = (degraded(one, NOBODY, rng(seed)) for one in (detail, plain))

        assert np.ptp(flat.reshape(-1, 3), axis=0).max() <= 2
        assert np.abs(lost.astype(int) - whole).mean() > 4
        assert np.corrcoef(lost.ravel(), whole.ravel())[0, 1] > 0.6
