"""Bodies: the base mesh, shaped by sex, age, origin, height and girth, and its bones."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.datasets.people.formats import (
    Floats,
    Ints,
    Mesh,
    coarser,
    read_mesh,
    read_rig,
    read_target,
)
from models.errors import DatasetError

SEXES, AGES, ORIGINS = ("female", "male"), ("young", "old"), ("african", "asian", "caucasian")
# Bones of one arm and one leg, from the trunk outwards, without their side.
ARM = ("upperarm01", "upperarm02", "lowerarm01", "lowerarm02", "wrist")
LEG = ("upperleg01", "upperleg02", "lowerleg01", "lowerleg02", "foot")
HAND = ("metacarpal", "finger")
# Of the trunk, how far a kilogram-like unit of girth pushes the skin out, in decimetres.
GIRTH = 0.42


@dataclass(frozen=True)
class Figure:
    """The build of a body.

    Attributes:
        female: share, in [0, 1].
        old: share, in [0, 1].
        origins: shares of african, asian and caucasian, which sum to 1.
        tall: in [-1, 1], from the smallest to the tallest.
        girth: in [-0.5, 1.5]; 0 is slim.
        size: scale of the whole body.
    """

    female: float
    old: float
    origins: tuple[float, float, float]
    tall: float
    girth: float
    size: float = 1.0


@dataclass(frozen=True, eq=False)
class Rig:
    """Bones, parents before their children.

    Attributes:
        names: the bones' names.
        parents: indices into `names`; -1 for the root.
        heads, tails: vertices whose mean is where a bone begins and ends.
        weights: [V, B]; each row sums to 1.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    heads: tuple[Ints, ...]
    tails: tuple[Ints, ...]
    weights: Floats


@dataclass(frozen=True, eq=False)
class Shape:
    """A body in its rest pose, standing on y = 0.

    Attributes:
        vertices: [V, 3], including helper vertices.
        heads, tails: [B, 3] ends of the bones.
        arm, leg: [V] how far down a limb each vertex is: 0 at the shoulder or hip, 1 at the
            elbow or knee, 2 at the wrist or ankle, up to 3; -1 elsewhere.
        height: decimetres from sole to crown.
    """

    vertices: Floats
    heads: Floats
    tails: Floats
    arm: Floats
    leg: Floats
    height: float


class Bodies:
    """Makes every body that the base mesh and its targets allow."""

    def __init__(self, assets: Path) -> None:
        """Read them.

        Raises:
            DatasetError: something is missing or cannot be read.
        """
        mesh = read_mesh(assets / "3dobjs" / "base.obj")
        self.mesh: Mesh = coarser(mesh, mesh.vertices)
        self.rig = _read_rig(assets / "rigs", len(self.mesh.vertices))
        self._targets: dict[str, Floats] = {}
        for path in sorted((assets / "targets").rglob("*.target")):
            self._targets[path.stem] = read_target(path, len(self.mesh.vertices))
        if not any(name.startswith(ORIGINS) for name in self._targets):
            raise DatasetError(f"{assets}/targets: expected targets like asian-female-young.target")
        body = np.unique(self.mesh.corners[self.mesh.groups == "body"][..., 0])
        if not len(body):
            raise DatasetError(f"{assets}/3dobjs/base.obj: expected a group named body")
        self.four = strongest(self.rig.weights)
        self.skin: Ints = body.astype(np.int32)
        names = self.rig.names
        self._limbs = {
            (limb, side): [names.index(f"{bone}.{side}") for bone in bones]
            for limb, bones in (("arm", ARM), ("leg", LEG))
            for side in "LR"
        }
        self._share = {
            (limb, side): self.rig.weights[
                :, [i for i, name in enumerate(names) if name.endswith(side) and _on(limb, name)]
            ].sum(axis=1)
            for limb in ("arm", "leg")
            for side in "LR"
        }
        trunk = [
            i
            for i, name in enumerate(names)
            if name.startswith(("spine", "pelvis", "root", "breast"))
        ]
        thick = [
            i
            for i, name in enumerate(names)
            if name.startswith(("upperleg", "upperarm", "shoulder"))
        ]
        thin = [
            i
            for i, name in enumerate(names)
            if name.startswith(("lowerleg", "lowerarm", "neck", "head", "special", "jaw"))
        ]
        weights = self.rig.weights
        self._fat = (
            weights[:, trunk].sum(axis=1)
            + 0.6 * weights[:, thick].sum(axis=1)
            + 0.2 * weights[:, thin].sum(axis=1)
        )

    def shape(self, figure: Figure) -> Shape:
        """A body at rest."""
        vertices = self.mesh.vertices.copy()
        for sex, sex_share in zip(SEXES, (figure.female, 1 - figure.female), strict=True):
            for age, age_share in zip(AGES, (1 - figure.old, figure.old), strict=True):
                for origin, share in zip(ORIGINS, figure.origins, strict=True):
                    whole = sex_share * age_share * share
                    if whole > 0.01:
                        vertices += whole * self._target(origin, sex, age)
                extreme = "max" if figure.tall > 0 else "min"
                whole = sex_share * age_share * abs(figure.tall)
                if whole > 0.01:
                    vertices += whole * self._height(sex, age, extreme)
        vertices = self._fattened(vertices, figure.girth) * figure.size
        vertices[:, 1] -= vertices[self.skin, 1].min()
        heads, tails = (
            np.stack([vertices[of].mean(axis=0) for of in ends])
            for ends in (self.rig.heads, self.rig.tails)
        )
        arm, leg = (self._along(vertices, heads, tails, limb) for limb in ("arm", "leg"))
        height = float(vertices[self.skin, 1].max())
        return Shape(vertices, heads, tails, arm, leg, height)

    def _target(self, origin: str, sex: str, age: str) -> Floats:
        """The closest target available: one of the other age, if this age has none."""
        for other in (age, *AGES):
            if (found := self._targets.get(f"{origin}-{sex}-{other}")) is not None:
                return found
        return np.zeros_like(self.mesh.vertices)

    def _height(self, sex: str, age: str, extreme: str) -> Floats:
        for other in (age, *AGES):
            name = f"{sex}-{other}-averagemuscle-averageweight-{extreme}height"
            if (found := self._targets.get(name)) is not None:
                return found
        return np.zeros_like(self.mesh.vertices)

    def _fattened(self, vertices: Floats, girth: float) -> Floats:
        """The vertices of a heavier body: pushed away from the bones, the belly most."""
        low, high = vertices[self.skin, 1].min(), vertices[self.skin, 1].max()
        level = (vertices[:, 1] - low) / (high - low)
        belly = 1 + 0.9 * np.exp(-(((level - 0.6) / 0.1) ** 2)) * (vertices[:, 2] > 0)
        out = vertices_normals(vertices, self.mesh.corners[..., 0])
        push = girth * GIRTH * self._fat * belly
        return np.asarray(vertices + out * [1, 0.15, 1] * push[:, None], np.float32)

    def _along(self, vertices: Floats, heads: Floats, tails: Floats, limb: str) -> Floats:
        along = np.full(len(vertices), -1, np.float32)
        for side in "LR":
            bones = self._limbs[limb, side]
            joints = np.stack([heads[bones[0]], heads[bones[2]], heads[bones[4]], tails[bones[4]]])
            if limb == "arm":
                joints[3] = joints[2] + (joints[2] - joints[1]) * 0.7
            own = self._share[limb, side] > 0.5
            along[own] = _progress(vertices[own], joints)
        return along


def strongest(weights: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The four largest of weights [V, B]: [V, 4] bones, and [V, 4] weights that sum to 1."""
    if weights.shape[1] < 4:
        weights = np.pad(weights, ((0, 0), (0, 4 - weights.shape[1])))
    bones = np.argpartition(weights, -4, axis=1)[:, -4:]
    share = np.take_along_axis(weights, bones, axis=1)
    return bones, share / np.maximum(share.sum(axis=1, keepdims=True), 1e-6)


def vertices_normals(vertices: Floats, triangles: NDArray[np.integer]) -> Floats:
    """Unit normals [V, 3]: the mean of the adjacent faces; 0 where there is no face."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    faces = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for axis in range(3):
        for corner in range(3):
            normals[:, axis] += np.bincount(
                triangles[:, corner], faces[:, axis], minlength=len(vertices)
            )
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.maximum(lengths, 1e-12), np.float32)


def _on(limb: str, bone: str) -> bool:
    parts = (*ARM, *HAND) if limb == "arm" else (*LEG, "toe")
    return bone.startswith(parts)


def _progress(points: Floats, joints: Floats) -> Floats:
    """How many sections between joints [J, 3] each of the points [N, 3] has passed."""
    best = np.zeros(len(points), np.float32)
    nearest = np.full(len(points), np.inf, np.float32)
    for number in range(len(joints) - 1):
        way = joints[number + 1] - joints[number]
        share = np.clip((points - joints[number]) @ way / (way @ way), 0, 1)
        apart = np.linalg.norm(points - joints[number] - share[:, None] * way, axis=1)
        closer = apart < nearest
        nearest[closer], best[closer] = apart[closer], number + share[closer]
    return best


def _read_rig(folder: Path, vertices: int) -> Rig:
    path = folder / "default.mhskel"
    rig = read_rig(path)
    try:
        bones, joints = rig["bones"], rig["joints"]
        order: list[str] = []

        def add(name: str) -> None:
            if name not in order:
                if bones[name]["parent"] is not None:
                    add(bones[name]["parent"])
                order.append(name)

        for name in bones:
            add(name)
        weights = np.zeros((vertices, len(order)), np.float32)
        path = folder / rig.get("weights_file", "default_weights.mhw")
        for name, pairs in read_rig(path)["weights"].items():
            for vertex, weight in pairs:
                weights[vertex, order.index(name)] += weight
        made = Rig(
            names=tuple(order),
            parents=tuple(
                -1 if bones[name]["parent"] is None else order.index(bones[name]["parent"])
                for name in order
            ),
            heads=tuple(np.array(joints[bones[name]["head"]], np.int32) for name in order),
            tails=tuple(np.array(joints[bones[name]["tail"]], np.int32) for name in order),
            weights=weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-6),
        )
        for bone in (*ARM, *LEG):
            for side in "LR":
                made.names.index(f"{bone}.{side}")
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: not a rig of this body: {error!r}") from error
    return made
