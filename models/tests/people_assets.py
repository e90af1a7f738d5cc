"""A tiny body made of boxes, with clothes, in the file formats of MakeHuman's assets."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

# Boxes of the body: x, y, z from and to, in decimetres; the person's left has x above 0.
TRUNK = {
    "belly": ((-1.5, 1.5), (0, 2.5), (-1, 1)),
    "chest": ((-1.5, 1.5), (2.5, 5.5), (-1, 1)),
    "head": ((-0.8, 0.8), (6, 8), (-0.8, 0.8)),
}
LEFT = {
    "thigh": ((0.2, 1.4), (-4, 0), (-0.6, 0.6)),
    "shin": ((0.2, 1.4), (-7.5, -4), (-0.6, 0.6)),
    "foot": ((0.2, 1.4), (-8, -7.5), (-0.6, 1.6)),
    "upper": ((1.6, 2.6), (2.5, 5.3), (-0.5, 0.5)),
    "fore": ((1.6, 2.6), (-0.3, 2.5), (-0.5, 0.5)),
    "hand": ((1.6, 2.6), (-1.5, -0.3), (-0.4, 0.4)),
}
# Of each bone its parent, and the boxes whose upper and lower face it joins.
BONES = {
    "root": (None, "belly", "belly"),
    "spine05": ("root", "belly", "belly"),
    "spine04": ("spine05", "belly", "belly"),
    "spine03": ("spine04", "chest", "chest"),
    "spine02": ("spine03", "chest", "chest"),
    "spine01": ("spine02", "chest", "chest"),
    "neck01": ("spine01", "head", "head"),
    "neck02": ("neck01", "head", "head"),
    "neck03": ("neck02", "head", "head"),
    "head": ("neck03", "head", "head"),
}
LIMBS = {
    "shoulder01": ("spine01", "upper"),
    "upperarm01": ("shoulder01", "upper"),
    "upperarm02": ("upperarm01", "upper"),
    "lowerarm01": ("upperarm02", "fore"),
    "lowerarm02": ("lowerarm01", "fore"),
    "wrist": ("lowerarm02", "hand"),
    "upperleg01": ("root", "thigh"),
    "upperleg02": ("upperleg01", "thigh"),
    "lowerleg01": ("upperleg02", "shin"),
    "lowerleg02": ("lowerleg01", "shin"),
    "foot": ("lowerleg02", "foot"),
}
FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
"""Corners of a box's six sides, against the clock seen from without. A corner's number has 1 for
the higher z, 2 for the higher y and 4 for the higher x."""


def make_assets(folder: Path) -> Path:
    """Write them; every part of the body has a garment."""
    boxes = dict(TRUNK)
    for name, (x, y, z) in LEFT.items():
        boxes[f"{name}.L"] = (x, y, z)
        boxes[f"{name}.R"] = ((-x[1], -x[0]), y, z)
    numbers = {name: 8 * number for number, name in enumerate(boxes)}
    skirt = ((-1.7, 1.7), (-6, 1.5), (-1.2, 1.2))
    places = [corners(box) for box in (*boxes.values(), skirt)]
    _mesh(folder / "3dobjs" / "base.obj", [("body", places[:-1]), ("helper-skirt", places[-1:])])
    _rig(folder / "rigs", numbers, 8 * len(boxes))
    count = 8 * (len(boxes) + 1)
    wide = np.tile([0.3, 0, 0], (count, 1)) * np.sign(np.concatenate(places)[:, :1])
    _target(folder / "targets" / "caucasian-male-young.target", wide)
    _target(folder / "targets" / "caucasian-female-young.target", wide * 0)
    tall = np.stack([np.zeros(count), np.concatenate(places)[:, 1] * 0.1, np.zeros(count)], 1)
    for sex in ("female", "male"):
        name = f"{sex}-young-averagemuscle-averageweight-maxheight.target"
        _target(folder / "targets" / "height" / name, tall)
    sides = [f"{name}.{side}" for name in ("upper", "fore", "thigh", "shin") for side in "LR"]
    suit = ["belly", "chest", *sides]
    _wearable(folder / "clothes" / "male_suit01", boxes, numbers, suit, hides=True)
    _wearable(folder / "clothes" / "female_suit01", boxes, numbers, suit, hides=True)
    _wearable(folder / "clothes" / "shoes01", boxes, numbers, ["foot.L", "foot.R"], hides=True)
    _wearable(folder / "hair" / "short01", boxes, numbers, ["head"], hides=False)
    skin = folder / "skins" / "young_male" / "young_lightskinned_male_diffuse.png"
    skin.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8), (220, 170, 140)).save(skin)
    return folder


def corners(box) -> np.ndarray:
    """[8, 3] of a box."""
    (x, y, z) = box
    return np.array([(a, b, c) for a in x for b in y for c in z], float)


def _mesh(path: Path, groups) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines, faces, first = ["# a mesh"], ["vt 0.1 0.1", "vt 0.9 0.1", "vt 0.9 0.9", "vt 0.1 0.9"], 1
    for group, boxes in groups:
        faces.append(f"g {group}")
        for box in boxes:
            lines += ["v " + " ".join(f"{value:.4f}" for value in point) for point in box]
            for face in FACES:
                words = (f"{first + corner}/{place + 1}" for place, corner in enumerate(face))
                faces.append("f " + " ".join(words))
            first += 8
    path.write_text("\n".join([*lines, *faces]) + "\n")


def _rig(folder: Path, numbers, skirt: int) -> None:
    bones, joints, weights = {}, {}, {}

    def add(name, parent, upper, lower):
        high = [numbers[upper] + corner for corner in (2, 3, 6, 7)]
        low = [numbers[lower] + corner for corner in (0, 1, 4, 5)]
        if not name.startswith(("spine", "neck", "head", "root")):
            head, tail = high, low
        else:
            head, tail = low, high
        joints[f"{name}__head"], joints[f"{name}__tail"] = head, tail
        bones[name] = {"parent": parent, "head": f"{name}__head", "tail": f"{name}__tail"}

    for name, (parent, upper, lower) in BONES.items():
        add(name, parent, upper, lower)
    for name, (parent, box) in LIMBS.items():
        for side in "LR":
            whole = parent if parent in BONES else f"{parent}.{side}"
            add(f"{name}.{side}", whole, f"{box}.{side}", f"{box}.{side}")
    for box, bone in {"belly": "spine05", "chest": "spine01", "head": "head"}.items():
        weights[bone] = [[numbers[box] + corner, 1.0] for corner in range(8)]
    weights["root"] = [[skirt + corner, 1.0] for corner in range(8)]
    by_box = {"upper": "upperarm01", "fore": "lowerarm01", "hand": "wrist"}
    by_box |= {"thigh": "upperleg01", "shin": "lowerleg01", "foot": "foot"}
    for box, bone in by_box.items():
        for side in "LR":
            first = numbers[f"{box}.{side}"]
            weights[f"{bone}.{side}"] = [[first + corner, 0.5] for corner in range(8)]
    folder.mkdir(parents=True)
    rig = {"bones": bones, "joints": joints, "weights_file": "weights.mhw"}
    (folder / "default.mhskel").write_text(json.dumps(rig))
    (folder / "weights.mhw").write_text(json.dumps({"weights": weights}))


def _target(path: Path, moved: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{number} " + " ".join(f"{value:.3f}" for value in row)
        for number, row in enumerate(moved)
        if row.any()
    ]
    path.write_text("\n".join(["# a target", *lines]) + "\n")


def _wearable(folder: Path, boxes, numbers, names, *, hides: bool) -> None:
    """Boxes a little larger than those of the body that they are fitted to."""
    folder.mkdir(parents=True)
    name = folder.name
    _mesh(folder / f"{name}.obj", [("clothes", [corners(boxes[box]) for box in names])])
    lines = [
        "# clothes",
        f"obj_file {name}.obj",
        "x_scale 0 4 0",
        "verts 0",
        f"material {name}.mhmat",
    ]
    lines[2] = f"x_scale {numbers['belly']} {numbers['belly'] + 4} 3.0"
    for box in names:
        middle = corners(boxes[box]).mean(axis=0)
        for corner, place in enumerate(corners(boxes[box])):
            out = 0.15 * np.sign(place - middle)
            vertex = numbers[box] + corner
            fit = f"{vertex} {vertex} {vertex} 0.5 0.25 0.25 "
            lines.append(fit + " ".join(f"{value:.3f}" for value in out))
    if hides:
        lines.append("delete_verts")
        lines += [f"{numbers[box]} - {numbers[box] + 7}" for box in names]
    (folder / f"{name}.mhclo").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.mhmat").write_text(f"# a material\ndiffuseTexture {name}.png\n")
    Image.new("RGBA", (8, 8), (120, 120, 120, 255)).save(folder / f"{name}.png")
