"""What a body wears from the assets: suits, shoes, hats and hair, fitted to its shape."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets.people.body import Bodies, Shape, strongest, vertices_normals
from models.datasets.people.formats import (
    Fit,
    Floats,
    Ints,
    Mesh,
    read_fit,
    read_mesh,
    texture_of,
)
from models.errors import DatasetError

ATTRIBUTES = 20
"""Numbers of each vertex of a `Part`: place, normal, place in the texture, four bones, their
weights, how far down an arm and a leg it is, whether it is covered, whether it is of the top."""
LIMBS, COVERED, UPPER = slice(16, 18), 18, 19
"""Places of some of them."""
GREY = (0.3, 0.59, 0.11)
# A garment is pushed out so far, and skin under it pulled in, in decimetres.
OUT, IN = 0.06, 0.07
# Heights in the base mesh, whose middle is at the navel: below these a piece is no top, at most so
# high a piece is no bottom, and where one piece that is both is parted.
HIPS, CHEST, WAIST = -0.5, 2.2, 0.9


@dataclass(frozen=True, eq=False)
class Part:
    """Triangles that are drawn with one texture.

    Attributes:
        vertices: [N, ATTRIBUTES].
        triangles: [F, 3].
    """

    vertices: Floats
    triangles: Ints


@dataclass(frozen=True, eq=False)
class Wearable:
    """A piece of the assets, not fitted to a body yet.

    Attributes:
        name: its folder's name.
        texture: [H, W, 4]; None if it has none.
        levels: mean brightness in [0, 1] of the texture, of the top and of the rest.
        level: mean brightness of the whole texture where it covers.
        upper: [V], 1 for vertices of the top, else 0.
    """

    name: str
    fit: Fit
    mesh: Mesh
    texture: NDArray[np.uint8] | None
    levels: tuple[float, float]
    level: float
    upper: Floats


def read_wearables(folder: Path, bodies: Bodies) -> list[Wearable]:
    """Everything in a folder of the assets, by name.

    Raises:
        DatasetError: something cannot be read, or the folder has nothing.
    """
    found = []
    for path in sorted(folder.glob("*/*.mhclo")):
        fit = read_fit(path)
        mesh = read_mesh(fit.mesh)
        if len(mesh.vertices) != len(fit.on):
            raise DatasetError(
                f"{path}: expected {len(mesh.vertices)} vertices, as {fit.mesh.name} has, "
                f"got {len(fit.on)}"
            )
        material = fit.material or next(iter(sorted(path.parent.glob("*.mhmat"))), None)
        texture = texture_of(material) if material is not None else None
        picture = read_texture(texture) if texture is not None else None
        at = (bodies.mesh.vertices[fit.on] * fit.weights[..., None]).sum(axis=1)
        upper = _upper(mesh, at[:, 1])
        levels = (1.0, 1.0) if picture is None else _levels(mesh, picture, upper)
        level = 1.0 if picture is None else _level(picture)
        found.append(Wearable(path.parent.name, fit, mesh, picture, levels, level, upper))
    if not found:
        raise DatasetError(f"{folder}: expected folders with .mhclo files, found none")
    return found


def read_texture(path: Path) -> NDArray[np.uint8]:
    """A texture [H, W, 4], its lowest row first.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        picture = Image.open(path).convert("RGBA")
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: a texture that cannot be read: {error}") from error
    return np.ascontiguousarray(np.asarray(picture)[::-1])


def _upper(mesh: Mesh, height: Floats) -> Floats:
    """Which vertices belong to the top: those of pieces above the hips; of a piece that reaches
    from the chest to the legs, what is above the waist."""
    upper = (height > WAIST).astype(np.float32)
    piece = _pieces(mesh)
    for number in np.unique(piece):
        own = piece == number
        low, high = height[own].min(), height[own].max()
        if low > HIPS:
            upper[own] = 1
        elif high < CHEST:
            upper[own] = 0
    return upper


def _pieces(mesh: Mesh) -> Ints:
    """[V] numbers; connected vertices have the same one."""
    number = np.arange(len(mesh.vertices), dtype=np.int32)
    triangles = mesh.corners[..., 0]
    while True:
        lowest = number[triangles].min(axis=1)
        following = number.copy()
        np.minimum.at(following, triangles, lowest[:, None])
        following = following[following]
        if np.array_equal(following, number):
            return number
        number = following


def _levels(mesh: Mesh, picture: NDArray[np.uint8], upper: Floats) -> tuple[float, float]:
    """Mean brightness of the texture where top and rest of a mesh take their colours from."""
    pairs = mesh.corners.reshape(-1, 2)
    size = np.array(picture.shape[1::-1])
    at = (mesh.places[pairs[:, 1]] % 1 * size).astype(int).clip(0, size - 1)
    bright = picture[at[:, 1], at[:, 0], :3].astype(np.float32) @ np.array(GREY, np.float32) / 255
    of_top = upper[pairs[:, 0]] > 0.5
    top, rest = (
        max(0.04, float(bright[which].mean())) if which.any() else 1.0
        for which in (of_top, ~of_top)
    )
    return top, rest


def _level(picture: NDArray[np.uint8]) -> float:
    covers = picture[..., 3] > 90
    bright = picture[..., :3].astype(np.float32) @ np.array(GREY, np.float32) / 255
    return max(0.04, float(bright[covers].mean())) if covers.any() else 1.0


def dressed(wearable: Wearable, bodies: Bodies, shape: Shape, *, out: float = OUT) -> Part:
    """The wearable on a body, moving with its bones.

    Args:
        out: decimetres that it is pushed out along its normals.
    """
    fit, on = wearable.fit, wearable.fit.on
    body = shape.vertices
    scales = [
        abs(float(body[a, axis] - body[b, axis])) / was if a != b else 1.0
        for axis, (a, b, was) in enumerate(fit.scales)
    ]
    at = (body[on] * fit.weights[..., None]).sum(axis=1) + fit.offsets * np.array(
        scales, np.float32
    )

    def carried(values: Floats) -> Floats:
        share = np.clip(fit.weights, 0, None)
        share = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-6)
        return np.asarray((values[on] * share[..., None]).sum(axis=1), np.float32)

    limbs = carried(np.stack([shape.arm, shape.leg], axis=1))
    return as_part(
        wearable.mesh, at.astype(np.float32), carried(bodies.rig.weights), limbs,
        upper=wearable.upper, out=out,
    )  # fmt: skip


def skin_of(bodies: Bodies, shape: Shape, worn: list[Wearable]) -> Part:
    """The body's own skin, marked as covered where clothes lie over it."""
    return body_part(bodies, shape, "body", hidden=[wearable.fit.hides for wearable in worn])


def body_part(
    bodies: Bodies, shape: Shape, group: str, *, hidden: list[Ints] | None = None, out: float = 0.0
) -> Part:
    """One group of the base mesh: the skin, or a helper that clothes can be made of."""
    covered = np.zeros(len(shape.vertices), np.float32)
    for vertices in hidden or []:
        covered[vertices[vertices < len(covered)]] = 1
    mesh = bodies.mesh
    kept = mesh.groups == group
    own = Mesh(shape.vertices, mesh.places, mesh.corners[kept], mesh.groups[kept])
    limbs = np.stack([shape.arm, shape.leg], axis=1)
    return as_part(
        own, shape.vertices, bodies.rig.weights, limbs, covered=covered, out=out, four=bodies.four
    )


def as_part(
    mesh: Mesh,
    at: Floats,
    weights: Floats,
    limbs: Floats,
    *,
    covered: Floats | None = None,
    upper: Floats | None = None,
    out: float = 0.0,
    four: tuple[NDArray[np.int64], Floats] | None = None,
) -> Part:
    """Vertices for drawing: one for each pair of a vertex and a texture place.

    Args:
        at: [V, 3] the mesh's vertices.
        weights: [V, B] for the bones.
        limbs: [V, 2], `Shape.arm` and `Shape.leg`.
        covered: [V]; None if nothing is covered.
        upper: [V], `Wearable.upper`; None if nothing belongs to the top.
        out: decimetres along the normals; where something is covered, `IN` inwards.
        four: `strongest` of the weights, if already known.
    """
    normals = vertices_normals(at, mesh.corners[..., 0])
    push = np.full(len(at), out, np.float32)
    if covered is None:
        covered = np.zeros(len(at), np.float32)
    if upper is None:
        upper = np.zeros(len(at), np.float32)
    push -= IN * covered
    at = at + normals * push[:, None]
    keys = mesh.corners.reshape(-1, 2).astype(np.int64)
    pairs, triangles = np.unique(keys[:, 0] * (1 << 32) + keys[:, 1], return_inverse=True)
    vertex, place = pairs >> 32, pairs & 0xFFFFFFFF
    bones, share = four if four is not None else strongest(weights)
    table = np.concatenate(
        [
            at[vertex],
            normals[vertex],
            mesh.places[place],
            bones[vertex],
            share[vertex],
            limbs[vertex],
            covered[vertex, None],
            upper[vertex, None],
        ],
        axis=1,
    ).astype(np.float32)
    return Part(table, triangles.reshape(-1, 3).astype(np.int32))
