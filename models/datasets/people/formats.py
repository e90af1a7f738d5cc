"""Readers of MakeHuman's text formats: meshes, shape targets, clothes, rigs and materials."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

DETAIL = 0.12
"""Decimetres."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles whose corners have a place in the texture.

    Attributes:
        vertices: [V, 3], in decimetres, y up, z to the front, x to the person's left.
        places: [T, 2] in the texture, from its lower left.
        corners: [F, 3, 2], vertex and texture place of each triangle's corners.
        groups: [F] names of the groups.
    """

    vertices: Floats
    places: Floats
    corners: Ints
    groups: NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class Fit:
    """How a mesh sits on the body (an .mhclo file).

    Attributes:
        mesh: file of the mesh.
        material: file of its material, if it names one.
        on: [V, 3] vertices of the body.
        weights: [V, 3] of these.
        offsets: [V, 3], in units of `scales`.
        scales: of x, y, z: two vertices of the body and their distance when the offsets were made.
        hides: vertices of the body that it covers.
    """

    mesh: Path
    material: Path | None
    on: Ints
    weights: Floats
    offsets: Floats
    scales: tuple[tuple[int, int, float], ...]
    hides: Ints


def read_mesh(path: Path) -> Mesh:
    """A mesh of an .obj file; faces of more corners are cut into triangles.

    Raises:
        DatasetError: it cannot be read, or no face is in it.
    """
    vertices: list[list[float]] = []
    places: list[list[float]] = []
    corners: list[list[list[int]]] = []
    groups: list[str] = []
    group = ""
    try:
        for words in _lines(path):
            if words[0] == "v":
                vertices.append([float(word) for word in words[1:4]])
            elif words[0] == "vt":
                places.append([float(word) for word in words[1:3]])
            elif words[0] == "g":
                group = words[1] if len(words) > 1 else ""
            elif words[0] == "f":
                face = [
                    [int(index or 1) - 1 for index in (word + "/").split("/")[:2]]
                    for word in words[1:]
                ]
                for second in range(1, len(face) - 1):
                    corners.append([face[0], face[second], face[second + 1]])
                    groups.append(group)
        mesh = Mesh(
            np.array(vertices, np.float32).reshape(-1, 3),
            np.array(places or [[0, 0]], np.float32),
            np.array(corners, np.int32).reshape(-1, 3, 2),
            np.array(groups, np.str_),
        )
    except ValueError as error:
        raise DatasetError(f"{path}: not a mesh that can be read: {error}") from error
    if not len(mesh.corners):
        raise DatasetError(f"{path}: expected a mesh with faces, got none")
    top = mesh.corners.reshape(-1, 2).max(axis=0)
    if top[0] >= len(mesh.vertices) or top[1] >= len(mesh.places) or mesh.corners.min() < 0:
        raise DatasetError(f"{path}: a face names a vertex that is not there")
    return mesh


def coarser(mesh: Mesh, at: Floats) -> Mesh:
    """The mesh with vertices that lie within `DETAIL` of each other as one.

    Faces and hands have more triangles than a picture of a whole person has pixels for, and each
    takes its time.

    Args:
        at: [V, 3], where the vertices are on the body.
    """
    cells = np.floor(at / DETAIL).astype(np.int64)
    _, first, cell = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    kept = first.astype(np.int32)[cell.ravel()]
    corners = mesh.corners.copy()
    corners[..., 0] = kept[corners[..., 0]]
    a, b, c = corners[..., 0].T
    whole = (a != b) & (b != c) & (c != a)
    return replace(mesh, corners=corners[whole], groups=mesh.groups[whole])


def read_target(path: Path, vertices: int) -> Floats:
    """The offset that a target adds to each vertex of the body, [vertices, 3].

    Raises:
        DatasetError: it cannot be read, or belongs to another body.
    """
    moved = np.zeros((vertices, 3), np.float32)
    try:
        for words in _lines(path):
            moved[int(words[0])] = [float(word) for word in words[1:4]]
    except (ValueError, IndexError) as error:
        raise DatasetError(f"{path}: not a target of this body: {error}") from error
    return moved


def read_fit(path: Path) -> Fit:
    """An .mhclo file.

    Raises:
        DatasetError: it cannot be read, or names no mesh or vertices.
    """
    named: dict[str, str] = {}
    scales: dict[str, tuple[int, int, float]] = {}
    rows: list[list[float]] = []
    hides: list[int] = []
    part = ""
    try:
        for words in _lines(path):
            if words[0] in ("verts", "delete_verts"):
                part = words[0]
            elif not re.match(r"-?[\d.]", words[0]):
                if words[0] in ("x_scale", "y_scale", "z_scale"):
                    scales[words[0]] = (int(words[1]), int(words[2]), float(words[3]))
                else:
                    named[words[0]] = " ".join(words[1:])
            elif part == "verts":
                if len(words) == 1:
                    rows.append([float(words[0])] * 3 + [1, 0, 0, 0, 0, 0])
                else:
                    rows.append([float(word) for word in words[:9]])
            elif part == "delete_verts":
                for first, last in re.findall(r"(\d+)(?:\s*-\s*(\d+))?", " ".join(words)):
                    hides.extend(range(int(first), int(last or first) + 1))
        table = np.array(rows, np.float32).reshape(-1, 9)
    except (ValueError, IndexError) as error:
        raise DatasetError(f"{path}: not clothes that can be read: {error}") from error
    if "obj_file" not in named or not rows:
        raise DatasetError(f"{path}: expected obj_file and verts")
    return Fit(
        mesh=path.parent / named["obj_file"],
        material=path.parent / named["material"] if "material" in named else None,
        on=table[:, :3].astype(np.int32),
        weights=table[:, 3:6],
        offsets=table[:, 6:],
        scales=tuple(scales.get(f"{axis}_scale", (0, 0, 1.0)) for axis in "xyz"),
        hides=np.array(sorted(set(hides)), np.int32),
    )


def read_rig(path: Path) -> dict[str, Any]:
    """The JSON of a rig (.mhskel) or of its weights (.mhw).

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a rig that can be read: {error}") from error
    if not isinstance(found, dict):
        raise DatasetError(f"{path}: expected a JSON object")
    return found


def texture_of(material: Path) -> Path | None:
    """The colour texture that an .mhmat file names, if there is such a file.

    Raises:
        DatasetError: the material cannot be read.
    """
    for words in _lines(material):
        if words[0] == "diffuseTexture" and len(words) > 1:
            texture = material.parent / words[1]
            return texture if texture.is_file() else None
    return None


def _lines(path: Path) -> Iterator[list[str]]:
    """The words of each line, without empty lines and comments."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    for line in text.splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            yield words
