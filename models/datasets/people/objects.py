"""Bags and hats: simple meshes of our own, attached to a bone."""

import numpy as np

from models.datasets.people.body import Bodies, Shape
from models.datasets.people.formats import Floats, Ints, Mesh
from models.datasets.people.garments import Part, as_part

ROUND = 20
"""Corners of a round thing's outline."""


def bag_parts(bodies: Bodies, shape: Shape, bag: str) -> list[Part]:
    """The parts of a bag; empty for no bag. Its straps are painted on the top."""
    names = bodies.rig.names
    skin = shape.vertices[bodies.skin]
    if bag == "backpack":
        high = shape.heads[names.index("spine01")][1] + 0.7
        low = high - 4.2
        level = (skin[:, 1] > low) & (skin[:, 1] < high) & (np.abs(skin[:, 0]) < 1)
        back = float(skin[level, 2].min()) if level.any() else -1.0
        middle = np.array([0.0, (high + low) / 2, back - 0.65], np.float32)
        return [_box(bodies, "spine02", middle, (1.45, 2.1, 0.75), 0.45)]
    if bag in ("left", "right"):
        out = 1.0 if bag == "left" else -1.0
        hip = shape.heads[names.index("upperleg01.L" if bag == "left" else "upperleg01.R")]
        level = np.abs(skin[:, 1] - hip[1]) < 0.5
        level &= np.abs(skin[:, 0]) < 2.6
        side = float(np.abs(skin[level, 0]).max()) if level.any() else 1.5
        middle = np.array([out * (side + 0.35), hip[1] + 0.1, -0.2], np.float32)
        return [_box(bodies, "root", middle, (0.4, 1.05, 1.3), 0.4)]
    if bag in ("handbag", "shopping"):
        bone = "wrist.R"
        hand = shape.tails[names.index(bone)]
        along = hand - shape.heads[names.index("lowerarm01.R")]
        along = along / np.linalg.norm(along)
        size = (0.45, 0.95, 1.25) if bag == "handbag" else (0.6, 1.7, 1.3)
        middle = hand + along * (size[1] + 1.0)
        return [
            _box(bodies, bone, middle.astype(np.float32), size, 0.35, down=along),
            _band(bodies, bone, (hand + along * 0.5).astype(np.float32), along.astype(np.float32)),
        ]
    return []


def hat_part(bodies: Bodies, shape: Shape, hat: str, low: float) -> Part:
    """The parts of a cap, a beanie or a hat with a brim.

    Args:
        low: height of its rim, in decimetres.
    """
    head = shape.vertices[bodies.skin]
    head = head[head[:, 1] > low - 0.2]
    front, back = float(head[:, 2].max()), float(head[:, 2].min())
    half = float(np.abs(head[:, 0]).max()) + 0.12
    deep = (front - back) / 2 + 0.12
    middle = (front + back) / 2
    high = shape.height + 0.22
    rings = []
    for share in np.linspace(0, 1, 7):
        around = np.linspace(0, 2 * np.pi, ROUND, endpoint=False)
        wide = np.sqrt(max(0.0, 1 - share**2.6))
        rings.append(
            np.stack(
                [half * wide * np.sin(around), np.full(ROUND, low + share * (high - low)),
                 middle + deep * wide * np.cos(around)], axis=1,
            )
        )  # fmt: skip
    if hat in ("cap", "brim"):
        around = np.linspace(0, 2 * np.pi, ROUND, endpoint=False)
        reach = 0.75 if hat == "cap" else 0.6
        out = (
            reach * np.clip(np.cos(around), 0, 1) ** 0.6 if hat == "cap" else np.full(ROUND, reach)
        )
        rim = rings[0] + np.stack([out * np.sin(around), -0.12 * out, out * np.cos(around)], axis=1)
        rings.insert(0, rim)
    return _hung(bodies, "head", np.stack(rings).astype(np.float32))


def _box(
    bodies: Bodies,
    bone: str,
    middle: Floats,
    half: tuple[float, float, float],
    roundness: float,
    down: Floats | None = None,
) -> Part:
    """A box with round edges.

    Args:
        half: half its width, height and depth.
        roundness: 0 a box, 1 an egg.
        down: direction of its height; None for straight down.
    """
    rings = []
    power = 0.25 + 0.75 * roundness
    for up in np.linspace(-np.pi / 2, np.pi / 2, 9):
        around = np.linspace(0, 2 * np.pi, ROUND, endpoint=False)
        flat = _signed(np.cos(up), power)
        x = half[0] * flat * _signed(np.sin(around), power)
        z = half[2] * flat * _signed(np.cos(around), power)
        y = np.full(ROUND, half[1] * _signed(np.sin(up), power))
        rings.append(np.stack([x, y, z], axis=1))
    at = np.stack(rings)
    if down is not None:
        y_axis = -np.asarray(down, np.float64)
        x_axis = np.cross(y_axis, [0, 0, 1.0])
        x_axis /= np.linalg.norm(x_axis)
        at = at @ np.stack([x_axis, y_axis, np.cross(x_axis, y_axis)])
    return _hung(bodies, bone, (at + middle).astype(np.float32))


def _band(bodies: Bodies, bone: str, middle: Floats, down: Floats) -> Part:
    """The handles of a bag."""
    return _box(bodies, bone, middle + down * 0.35, (0.06, 0.7, 0.5), 0.2, down=down)


def _signed(value: float | Floats, power: float) -> Floats:
    return np.asarray(np.sign(value) * np.abs(value) ** power, np.float32)


def _hung(bodies: Bodies, bone: str, rings: Floats) -> Part:
    """A surface over rings [R, ROUND, 3], lowest first, all attached to one bone."""
    count = len(rings)
    at = rings.reshape(-1, 3)
    corners: list[tuple[int, int, int]] = []
    for ring in range(count - 1):
        for number in range(ROUND):
            following = (number + 1) % ROUND
            a, b = ring * ROUND + number, ring * ROUND + following
            c, d = a + ROUND, b + ROUND
            corners += [(a, b, d), (a, d, c)]
    triangles: Ints = np.array(corners, np.int32)
    mesh = Mesh(
        at,
        np.zeros((1, 2), np.float32),
        np.stack([triangles, np.zeros_like(triangles)], axis=-1),
        np.full(len(triangles), "own"),
    )
    weights = np.zeros((len(at), len(bodies.rig.names)), np.float32)
    weights[:, bodies.rig.names.index(bone)] = 1
    return as_part(mesh, at, weights, np.full((len(at), 2), -1, np.float32))
